"""The pages over made-up models: every state that a page can show, at once and without waiting for it.

``python -m support.made_up`` (in ``tests``) serves them, to look at while changing the design.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from fastapi import FastAPI

from cupola.config import CustomVolumeSettings
from cupola.exceptions import ConflictError, LimitError, NotFoundError, UnavailableError
from cupola.models.base import Page, now
from cupola.models.datalab import Datalab, DatalabKind, Version
from cupola.models.engine import EngineInfo
from cupola.models.job import Job, JobAction, JobCounts, TaskInputs
from cupola.models.person import Person, Profile
from cupola.models.session import Session, SessionEvent
from cupola.models.volume import (
    VolumeUse,
)
from cupola.platform.app import _routers
from cupola.platform.builders.jobshare import Share
from cupola.platform.handlers import api, headers, pages, problems
from cupola.platform.handlers.dependencies import current_person
from cupola.platform.handlers.static import LastingFiles
from cupola.platform.services.jobs.shares import ShareUse
from cupola.platform.services.volumes.custom import FieldsError
from cupola.platform.services.volumes.volumes import Chosen
from cupola.platform.storage.hub.settings import HubSettings
from support import made_up_launch
from support.made_up_jobs import failures, grid
from support.made_up_notices import Notifications
from support.made_up_volumes import volumes

PREFIX = "/services/cupola/"
DIGEST = "sha256:" + "3f9a1c0b77de" + "0" * 52
OLDER = "sha256:" + "90be41d2aa05" + "0" * 52
ADA = Person(name="ada", admin=True, profile=Profile(sessions=5, cores=8, memory_mib=16384))
SETTINGS = HubSettings(
    api_url="http://hub/hub/api",
    api_token="portal-token",
    internal_token="internal-token",
    client_id="service-cupola",
    prefix=PREFIX,
    base_url="/",
    service_url="http://127.0.0.1:8001",
    access_scopes=frozenset({"access:services"}),
)
SOURCE = """def ndvi(red, nir):
    \"\"\"Greenness of vegetation, from -1 to 1.\"\"\"
    return (nir - red) / (nir + red)
"""


START = now()


WAITS = "It waits: 12 tasks are before it in Slurm's queue."


def before(**length):
    """Return a time that stays the same from request to request."""
    return START - timedelta(**length)


def datalabs():
    versions = [
        Version(digest=DIGEST, label="2026.11", created=before(days=3), ready=True),
        Version(digest=OLDER, label="2026.10", created=before(days=34), ready=True),
    ]
    lab = Datalab(
        name="lab",
        title="Cupola Lab",
        summary="JupyterLab next to the data, with maps that compute what you see and jobs over whole archives.",
        description="Notebooks, files and a terminal beside the volumes you mount.\n\n- `import cupola` opens collections\n"
        "- `examples/tour.ipynb` shows the rest\n\n<script>alert(1)</script>",
        icon="lab",
        tags=["python", "notebooks", "maps", "batch"],
        licence="BSD-3-Clause",
        maintainer="The Cupola developers",
        changelog="First version.",
        volumes=["sample-archive"],
        versions=versions,
        recommended=DIGEST,
    )
    desktop = lab.model_copy(
        update={
            "name": "desktop",
            "title": "Remote desktop",
            "kind": DatalabKind.WEB,
            "icon": "desktop",
            "summary": "A whole Linux desktop in the browser, for DS9, QGIS and whatever needs windows.",
            "tags": ["qgis", "ds9"],
            "unavailable": "It needs containers, and this platform runs sessions as processes.",
        }
    )
    aladin = lab.model_copy(
        update={
            "name": "aladin",
            "title": "Aladin",
            "kind": DatalabKind.WEB,
            "icon": "sky",
            "summary": "The sky atlas: images and catalogues of the whole sky, one above the other.",
            "tags": ["sky", "astronomy", "hips"],
            "versions": versions[:1],
        }
    )
    unbuilt = lab.model_copy(update={"name": "topcat", "title": "TOPCAT", "icon": "table", "versions": []})
    return [lab, desktop, aladin, unbuilt]


def session(name, state, **more):
    fields = {
        "id": name,
        "owner": "ada",
        "datalab": "lab",
        "version": DIGEST,
        "title": "Cupola Lab",
        "state": state,
        "created": before(minutes=12),
    }
    return Session(**{**fields, **more})


def sessions():
    return [
        session(
            "lab-7k2m9xq4",
            "ready",
            url="/user/ada/lab-7k2m9xq4/lab",
            started=before(minutes=11),
            last_activity=before(),
            resources=made_up_launch.SIZE,
            volumes=["home", "sample-archive"],
            environment={"GDAL_CACHEMAX": "512"},
            usage=made_up_launch.USAGE,
            cost=0.0138,
            notices=["The volume mars-archive is out of reach just now, and is there when it comes back."],
        ),
        session("lab-start123", "starting", created=before(seconds=4)),
        session("aladin-h4mmkz2p", "stopping", datalab="aladin", title="Aladin", created=before(hours=5)),
        session(
            "lab-fail2345",
            "failed",
            reason="The session ended before it answered (exit code 1): its log says why.",
            created=before(hours=3),
            stopped=before(hours=3),
        ),
        session(
            "lab-big23456",
            "failed",
            title="Mosaic of everything",
            reason="It was ended because it needed more memory than the 4 GiB it may have (it had 4 GiB): "
            "restart it bigger, or work on less at a time.",
            created=before(hours=6),
            started=before(hours=6),
            stopped=before(hours=4),
            resources=made_up_launch.SIZE,
            end=made_up_launch.OUT_OF_MEMORY,
            cost=0.104,
        ),
        session(
            "lab-old23456",
            "stopped",
            version=OLDER,
            title="Dust storms of year 34",
            reason="Stopped by ada.",
            created=before(days=2),
            stopped=before(days=1),
        ),
    ]


def history(found):
    messages = [
        ("requested", "Asking the hub for a place", 0),
        ("starting", "The hub prepares the session", 20),
        ("starting", "Preparing your home", 45),
    ]
    if found.state in {"ready", "stopped", "stopping"}:
        messages.append(("ready", "Ready", 100))
    if found.state == "failed":
        messages.append(("failed", "The session ended before it answered", 100))
    return [
        SessionEvent(
            session=found.id,
            number=number,
            time=found.created + timedelta(seconds=0.7 * (number - 1)),
            state=state,
            message=message,
            progress=progress,
        )
        for number, (state, message, progress) in enumerate(messages, 1)
    ]


def job(  # noqa: PLR0913, PLR0917 - as short as the tests that use it
    ident, state, inputs, done, failed=0, running=0, **more
):
    fields = {
        "id": ident,
        "owner": "ada",
        "name": "ndvi-february",
        "state": state,
        "engine": "local",
        "counts": JobCounts(inputs=inputs, done=done, failed=failed, running=running),
        "tasks": inputs,
        "chunk": 1,
        "created": before(minutes=9),
        "started": before(minutes=8),
        "version": DIGEST,
        "folder": Path("/home/ada/.cupola/jobs", ident),
        "source": SOURCE,
    }
    return Job(**{**fields, **more})


def jobs():
    return [
        job(
            "job-running",
            "running",
            10000,
            6120,
            3,
            8,
            products=Path("/home/ada/products/ndvi-february"),
            session="lab-7k2m9xq4",
            peak_memory_mib=412,
        ),
        job("job-queued", "queued", 24, 0, started=None, name="median-composite", ahead=12, waits=WAITS),
        job("job-held", "held", 400, 120, name="dust-opacity"),
        job(
            "job-partly",
            "partly-failed",
            120,
            115,
            5,
            name="crater-count",
            reason="5 of 120 inputs failed.",
            ended=before(minutes=2),
        ),
        job("job-done", "done", 2000, 2000, name="albedo <b>map</b>", ended=before(minutes=1)),
        job(
            "job-failed",
            "failed",
            6,
            0,
            6,
            name="broken",
            reason="All inputs failed.",
            ended=before(minutes=1),
        ),
        job(
            "job-cancelled",
            "cancelled",
            50,
            11,
            name="first-try",
            reason="Cancelled by ada.",
            ended=before(),
            attempt=2,
        ),
    ]


class Things:
    """A service with a fixed set of things; it remembers what was asked of it."""

    def __init__(self, kind, things, key):
        self.kind, self.things, self.key = kind, things, key
        self.asked = []
        self.error = None

    def one(self, name):
        if self.error:
            raise self.error
        for thing in self.things():
            if getattr(thing, self.key) == name:
                return thing
        raise NotFoundError(f"You have no {self.kind} {name!r}: the list shows those you have.")

    def all(self):
        if self.error:
            raise self.error
        return self.things()


class Catalogue(Things):
    async def datalabs(self):
        return self.all()

    async def datalab(self, name):
        return self.one(name)


class Sessions(Things):
    async def sessions(self, _person, **_):
        return Page(items=self.all())

    async def session(self, _person, name):
        return self.one(name)

    async def history(self, _person, name):
        return history(self.one(name))

    async def usages(self, sessions):
        return {one.id: one.usage for one in sessions if one.usage}

    def keeping(self, sessions):
        return {one.id for one in sessions}

    async def bigger(self, person, sessions):
        return made_up_launch.next_sizes(person, sessions)

    async def restart(self, _person, name, resources=None):
        self.asked.append(("restart", name, resources))
        return self.one("lab-start123")

    async def rename(self, _person, name, title):
        self.asked.append(("rename", name, title))
        return self.one(name)

    async def log(self, _person, name):
        if self.one(name).state != "failed":
            return ""
        lines = [f"[I 05:1{n % 10}:00 ServerApp] line {n}" for n in range(60)]
        return "\n".join([*lines, "ModuleNotFoundError: numpy"])

    async def events(self, _person, name, after=0):
        found = self.one(name)
        for event in history(found)[after:]:
            yield event
        if found.state.active:
            await asyncio.Event().wait()

    async def launch(self, _person, request, *, key=None):
        self.asked.append(("launch", request, key))
        if len(self.asked) > 5:
            raise LimitError("You have 5 sessions and may have 5 at a time: stop one first.")
        return self.one("lab-start123")

    async def stop(self, _person, name):
        self.asked.append(("stop", name))
        return self.one(name)

    async def delete(self, _person, name):
        self.asked.append(("delete", name))
        if self.one(name).state.active:
            raise ConflictError("Cupola Lab has not ended: stop it first.")


class Volumes(Things):
    async def volumes(self, _person):
        return self.all()

    async def volume(self, _person, name):
        return self.one(name)

    inspect = volume

    async def chosen(self, _person, names, **_):
        return Chosen([self.one(name) for name in names], [])

    async def uses(self, _person, name):
        session = self.one(name).name == "sample-archive" and "lab-7k2m9xq4"
        return [VolumeUse(person="ada", session=session, since=before(minutes=9))] if session else []

    async def measure(self, _person, name):
        self.asked.append(("measure", name))

    async def add(self, _person, new):
        if new.name == "taken":
            raise ConflictError("The name taken is taken: choose another one.")
        if new.visibility != "owner" and not new.example:
            raise FieldsError({"example": "What others find needs a notebook."})
        self.asked.append(("add", new))
        return self.one("hst-acs")

    async def change(self, _person, name, change):
        self.asked.append(("change", name, change))
        return self.one(name)

    async def remove(self, _person, name):
        self.asked.append(("remove", name))
        if name == "hst-acs":
            raise ConflictError("Sessions of ada use the volume hst-acs: remove it when they have ended.")


class Engines:
    async def engines(self, _profile):
        slurm = EngineInfo(name="slurm", title="Slurm", answers=False, problem="Slurm does not answer.")
        local = EngineInfo(name="local", title="This platform", default=True, answers=True, cores=8)
        return [local.model_copy(update={"free_cores": 3, "task_cores": 2, "task_memory_mib": 4096}), slurm]


class Shares:
    async def uses(self, _person):
        free = START + timedelta(days=3)
        return [
            ShareUse(Share("person", "ada", cores=16, hours=500.0), 12, 500.25, free),
            ShareUse(Share("team", "mars-mappers", cores=200), 48, 1234.5),
        ]


class Jobs(Things):
    shares = Shares()

    async def jobs(self, _person, *, cursor=None, **_):
        return Page(items=self.all(), next=None if cursor else "older")

    async def job(self, _person, name):
        return self.one(name)

    async def grid(self, _person, name):
        return grid(self.one(name))

    def per_minute(self, job):
        return grid(job).per_minute

    async def task(self, _person, name, task):
        found = self.one(name)
        if not 0 <= task < found.tasks:
            raise NotFoundError(f"{found.name} has tasks 0 to {found.tasks - 1}, and no task {task}.")
        return TaskInputs(
            task=task,
            state=grid(found).state(task),
            count=1,
            inputs=[task],
            labels=[f"scene-{task}.tif"],
            failed=[],
        )

    async def failures(self, _person, name):
        return failures(self.one(name))

    async def log(self, _person, name, task):
        found = self.one(name)
        if not 0 <= task < found.tasks:
            raise NotFoundError(f"{found.name} has tasks 0 to {found.tasks - 1}, and no task {task}.")
        return f"reading input {task}\nwriting product {task}\n" if found.state != "queued" else ""

    async def act(self, _person, name, action):
        self.asked.append((JobAction(action), name))
        return self.one(name)

    async def delete(self, _person, name):
        self.asked.append(("delete", name))


def factory():
    return SimpleNamespace(
        config=SimpleNamespace(
            title="Cupola",
            url=None,
            address="http://cupola.test",
            custom_volumes=CustomVolumeSettings(),
            sign_in=SimpleNamespace(methods=[]),
        ),
        hub_settings=SETTINGS,
        catalogue=Catalogue("datalab", datalabs, "name"),
        sessions=Sessions("session", sessions, "id"),
        computing=made_up_launch.computing(sessions()[0]),
        volumes=Volumes("volume", volumes, "name"),
        jobs=Jobs("job", jobs, "id"),
        engines=Engines(),
        notifications=Notifications(),
        **made_up_launch.parts(datalabs),
    )


def application():
    """Return the pages with made-up services; the person is always Ada."""
    app = FastAPI()
    app.state.factory = factory()
    app.add_middleware(headers.SecurityHeaders)
    problems.add_problem_handlers(app, pages.error_page)
    app.dependency_overrides[current_person] = lambda: ADA

    @app.get(PREFIX + "down")
    def down():
        raise UnavailableError("The hub does not answer: wait a moment, then try again.")

    for router in _routers(pages):
        app.include_router(router, prefix=PREFIX.rstrip("/"))
    for router in _routers(api):
        app.include_router(router, prefix=PREFIX + "api")
    app.mount(PREFIX + "static", LastingFiles())
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(application(), port=0, timeout_graceful_shutdown=1)
