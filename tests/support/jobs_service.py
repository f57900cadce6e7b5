"""The job service on its own, with a real database and real supervisors, for the tests of jobs.

As a program (``python -m support.jobs_service ROOT, from the folder of tests``) it stands for a portal that can be killed: it finds jobs again,
submits those in ROOT/request*.json, holds everybody to the profile in ROOT/profile.json, and watches until it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from cupola.config import QuotaKind, QuotaSettings, StatePaths
from cupola.exceptions import NotFoundError
from cupola.lab.jobs.packing import label, pack
from cupola.models.base import now
from cupola.models.datalab import Datalab, Version
from cupola.models.job import JobRequest
from cupola.models.person import Person, Profile
from cupola.platform.services.jobs import shares as jobshares
from cupola.platform.services.jobs.jobs import JobService
from cupola.platform.services.jobs.places import JobPlaces
from cupola.platform.services.jobs.shares import JobLimits
from cupola.platform.services.quotas import QuotaService
from cupola.platform.services.sessions.packages import PackageService
from cupola.platform.services.sessions.places import ProcessPlaces
from cupola.platform.services.volumes.volumes import Chosen
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.jobs import JobStore
from cupola.platform.storage.environments import BuiltVersion
from cupola.platform.storage.environments.contents import of_environment
from cupola.platform.storage.localpool import LocalPool
from cupola.platform.storage.quotas import open_quota

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ADA = Person(name="ada", profile=Profile(cores=2, memory_mib=4096))
EVE = Person(name="eve", profile=Profile(cores=2, memory_mib=4096))
BUILT = BuiltVersion(
    Version(digest=f"sha256:{'a' * 64}", label="test", created=now(), ready=True), Path(sys.executable)
)


class ThisEnvironment:
    """The environment of the tests is the only version."""

    async def version(self, name, digest=None):
        if digest not in {None, BUILT.version.digest}:
            raise NotFoundError(f"{name} has no version {digest}.")
        return BUILT

    async def datalabs(self):
        return [await self.datalab("lab")]

    async def contents(self, _name, built):
        return of_environment(built.python)

    async def datalab(self, _name):
        return Datalab(name="lab", title="Lab", summary="JupyterLab")


class NoVolumes:
    async def chosen(self, _person, _names, *, skip_missing=False):  # noqa: ARG002 - as the real one
        return Chosen([], [])


class PlainHomes:
    def __init__(self, homes: Path) -> None:
        self.homes = homes

    async def prepare(self, _kind, name, _number=None, _limit=None):
        (self.homes / name).mkdir(parents=True, exist_ok=True)
        return self.homes / name


def job_places(homes: Path, sessions=None) -> JobPlaces:
    paths = StatePaths(homes.parent, other_homes=homes)
    return JobPlaces(
        catalogue=ThisEnvironment(),
        sessions=sessions,
        volumes=NoVolumes(),
        places=ProcessPlaces(
            paths=paths,
            api_url="http://127.0.0.1:9/api",
            homes=QuotaService(
                quota=open_quota(QuotaKind.NONE, [homes]), paths=paths, settings=QuotaSettings()
            ),
        ),
        packages=PackageService(paths=paths),
        homes=homes,
    )


def limits_of(profile: Profile, *, teams=(), roles=None) -> JobLimits:
    """Return the limits of people who all have one profile, and of some teams."""

    async def profile_of(_person):
        return profile

    async def role_of(person, team):
        return (roles or {}).get((person, team))

    return JobLimits(profile_of=profile_of, role_of=role_of, teams=teams)


@asynccontextmanager
async def job_service(root: Path, *, engines=None, cores=2, limits=None):
    database = Database.at(root / "portal.sqlite")
    await database.migrate()
    service = JobService(
        store=JobStore(database),
        engines=engines or {"local": LocalPool(root / "cores", cores=cores)},
        places=job_places(root / "homes"),
        limits=limits,
    )
    try:
        yield service
    finally:
        await service.aclose()
        await database.aclose()


def request(function, inputs, **options) -> JobRequest:
    said = {"name": "test", "memory_mib": 512, "labels": [label(value) for value in inputs], "python": PYTHON}
    return JobRequest(payload=base64.b64encode(pack(function, inputs)), **{**said, **options})


async def ended(service: JobService, job: str, person: Person = ADA):
    async for state in service.events(person, job):
        last = state
    return last


async def main(root: Path) -> None:
    jobshares.ROUND_S = 0.1
    profile = root / "profile.json"
    limits = limits_of(Profile.model_validate_json(profile.read_bytes())) if profile.exists() else None
    async with job_service(root, cores=4 if limits else 2, limits=limits) as service:
        await service.reconcile()
        for file in sorted(root.glob("request*.json")):
            job = await service.submit(ADA, JobRequest.model_validate_json(file.read_bytes()))
            (root / file.stem.replace("request", "job")).write_text(job.id)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
