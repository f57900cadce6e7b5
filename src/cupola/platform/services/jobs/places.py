"""Where the tasks of a job run: in the version of the session it came from, with what its owner installed there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cupola.exceptions import InputError, NotFoundError
from cupola.models.base import now
from cupola.models.resources import Resources
from cupola.models.session import Session, SessionState
from cupola.platform.builders.job import TaskPlace, job_container, misfit, task_environment
from cupola.platform.storage.files.beneath import Beneath
from cupola.platform.storage.files.jobs import JobFolder

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.job import Job, JobRequest, TaskPlan
    from cupola.models.person import Person
    from cupola.models.session import ContainerPlan, Plan
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.services.sessions.packages import PackageService
    from cupola.platform.services.sessions.places import SessionPlaces
    from cupola.platform.services.volumes.volumes import VolumeService
    from cupola.platform.storage.database.sessions import SessionStore
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["JobPlace", "JobPlaces"]

_PATH_INSIDE = "/usr/local/bin:/usr/bin:/bin"
_LANGUAGE_INSIDE = "C.UTF-8"
"""What the images of datalabs have."""
DEFAULT_DATALAB = "lab"
"""Whose recommended version runs the jobs that come from no session."""


@dataclass(frozen=True)
class JobPlace:
    """Where one job runs."""

    folder: Path
    """The job's folder, as its owner's sessions see it."""
    python: Path
    """The interpreter, as tasks see it."""
    version: str
    environment: dict[str, str]
    session: ContainerPlan | None = None
    """How a session of this version is started as a container; nothing where tasks are processes of this host."""

    def container(self, plan: TaskPlan) -> ContainerPlan | None:
        """Return the container that the tasks of `plan` run in, where sessions are containers."""
        if self.session is None:
            return None
        return job_container(self.session, folder=self.folder, python=self.python, plan=plan)


class JobPlaces:
    """Decides where jobs run.

    Parameters
    ----------
    catalogue
        Knows the built versions.
    sessions
        The table of sessions: it keeps which version and volumes a session has.
    volumes
        Knows what a person may mount.
    places
        Knows how sessions are started: a job that comes from none runs as a session would.
    packages
        Knows what people have installed.
    homes
        Folder of the homes.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        catalogue: CatalogueService,
        sessions: SessionStore,
        volumes: VolumeService,
        places: SessionPlaces,
        packages: PackageService,
        homes: Path,
    ) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._volumes = volumes
        self._places = places
        self._packages = packages
        self._homes = homes

    def folder(self, job: Job) -> JobFolder:
        """Return the folder of a job, where this host has it."""
        return JobFolder(self._homes / job.owner / ".cupola" / "jobs" / job.id)

    async def place(self, person: Person, request: JobRequest, job: str) -> JobPlace:
        """Return where a new job runs.

        Raises
        ------
        NotFoundError
            The person has no such session, or its version is not there any more.
        InputError
            The function was made by another Python than the tasks would have, or uses packages that they would not have.
        """
        built, plan = await self._as_session(person, request, job)
        await self._check(person, request, plan, built)
        home = plan.started.folder
        # A session that was started without the person's own packages computes without them too.
        clean = plan.environment.get("CUPOLA_CLEAN") == "1"
        python = built.python if clean else self._interpreter(person, plan, built.python)
        inside = plan.container is not None
        around = TaskPlace(
            home=home,
            python=python,
            version=plan.version,
            path=_PATH_INSIDE if inside else os.environ.get("PATH", os.defpath),
            language=_LANGUAGE_INSIDE if inside else os.environ.get("LANG", "C.UTF-8"),
            engine=request.engine or "local",
        )
        environment = task_environment(around, cpus=request.cpus, mounts=plan.mounts)
        return JobPlace(
            home / ".cupola" / "jobs" / job, python, plan.version, environment, session=plan.container
        )

    async def _check(self, person: Person, request: JobRequest, plan: Plan, built: BuiltVersion) -> None:
        """Refuse a function that the tasks could not run; what comes from a session runs in the same version anyway."""
        contents = await self._catalogue.contents(plan.datalab, built)
        if contents is None:
            return
        if request.packages:
            own = await self._packages.installed(person, plan.version)
            contents = contents.model_copy(update={"packages": {**contents.packages, **own}})
        problem = misfit(request, contents)
        if problem is not None:
            where = f"version {built.version.label} of {plan.datalab}"
            raise InputError(f"{problem}: start the job from a session of {where}, where its tasks run.")

    async def _as_session(self, person: Person, request: JobRequest, job: str) -> tuple[BuiltVersion, Plan]:
        """Return the version of a job and the plan of the session it comes from, or of one made for it alone."""
        name, volumes = DEFAULT_DATALAB, None
        if request.session is not None:
            stored = await self._sessions.get(request.session)
            if stored is None or stored.session.owner != person.name:
                raise NotFoundError(
                    f"You have no session {request.session!r}: start the job from one of yours."
                )
            session = stored.session
            name, volumes = session.datalab, session.volumes or None
            if request.version in (None, session.version):
                return await self._catalogue.version(name, session.version), stored.plan
        name, built = await self._wanted(name, request.version)
        datalab = await self._catalogue.datalab(name)
        mounted = (await self._volumes.chosen(person, volumes, skip_missing=True)).volumes
        made_up = Session(
            id=job,
            owner=person.name,
            datalab=datalab.name,
            version=built.version.digest,
            title=request.name,
            state=SessionState.REQUESTED,
            created=now(),
            resources=Resources(cores=request.cpus, memory_mib=request.memory_mib),
        )
        plan = await self._places.plan(person, made_up, datalab=datalab, built=built, volumes=mounted)
        return built, plan

    async def _wanted(self, name: str, digest: str | None) -> tuple[str, BuiltVersion]:
        """Return a version and its datalab: that of the session first, then all others that have it."""
        if digest is None:
            return name, await self._catalogue.version(name, None)
        others = [datalab.name for datalab in await self._catalogue.datalabs() if not datalab.unavailable]
        for candidate in dict.fromkeys([name, *others]):
            try:
                return candidate, await self._catalogue.version(candidate, digest)
            except NotFoundError:
                continue
        raise NotFoundError(
            f"The version {digest.removeprefix('sha256:')[:12]} is not on this platform any more: run this in a version "
            "that is, or ask the operator to build it again."
        )

    def _interpreter(self, person: Person, plan: Plan, locked: Path) -> Path:
        """Return the interpreter that also sees what the person installed; the locked one if nothing was."""
        own = PurePosixPath(".cupola", "environments", plan.version.removeprefix("sha256:")[:12])
        try:
            # A link: what it leads to may be found only inside of a container.
            Beneath(self._homes, PurePosixPath(person.name) / own).status("bin/python")
        except OSError:
            return locked
        return plan.started.folder / own / "bin" / "python"
