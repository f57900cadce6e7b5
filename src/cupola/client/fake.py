"""A portal in memory, for the tests of whatever uses the client.

It keeps what it is given and answers as the portal does, errors included; it starts nothing. A test plays the world:
it sets `FakePortal.plans`, moves a session or job on with `advance_session` and `advance_job`, and reads
`FakePortal.reports`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from cupola.client._async import AsyncClient
from cupola.client._fake_stops import FakeStops
from cupola.client._fake_teams import FakeTeams
from cupola.client._sync import Client
from cupola.exceptions import ConflictError, CupolaError, NotFoundError, NotSignedInError
from cupola.models.base import Page, Problem, now
from cupola.models.engine import EngineInfo
from cupola.models.job import (
    Job,
    JobAction,
    JobCounts,
    JobRequest,
    JobState,
    TaskFailureGroup,
    TaskGrid,
    TaskState,
)
from cupola.models.packages import PackageHint
from cupola.models.person import Person, Profile
from cupola.models.resources import Capacity, Usage
from cupola.models.session import (
    LaunchRequest,
    Plan,
    RestartRequest,
    Session,
    SessionChange,
    SessionEvent,
    SessionReport,
    SessionState,
)
from cupola.models.storage import PlaceKind, StorageUsage
from cupola.models.volume import NewVolume, Volume, VolumeChange, VolumeKind, VolumeUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from cupola.models.base import Model
    from cupola.models.datalab import Datalab

__all__ = ["FakePortal"]

_GLANCE = 0.01
"""Seconds between two looks at what a test may have changed meanwhile."""
ROOT = "http://portal.test/services/cupola"
_AFTER = {
    JobAction.CANCEL: JobState.CANCELLED,
    JobAction.HOLD: JobState.HELD,
    JobAction.RELEASE: JobState.RUNNING,
    JobAction.RETRY: JobState.QUEUED,
}


class FakePortal:
    """A portal that one person uses.

    Parameters
    ----------
    folder
        Where the folders of jobs would lie; nothing is written there.
    datalabs, volumes
        What the catalogue and the data page hold.
    """

    token = "a-token"  # noqa: S105 - it opens nothing

    def __init__(
        self, folder: Path, *, datalabs: Iterable[Datalab] = (), volumes: Iterable[Volume] = ()
    ) -> None:
        self.folder = folder
        self.person = Person(name="ada", profile=Profile(cores=2, memory_mib=4096))
        self.datalabs = {datalab.name: datalab for datalab in datalabs}
        self.volumes = {volume.name: volume for volume in volumes}
        self.sessions: dict[str, Session] = {}
        self.events: dict[str, list[SessionEvent]] = {}
        self.usages: dict[str, Usage] = {}
        self.session_logs: dict[str, str] = {}
        self.storage = [
            StorageUsage(kind=PlaceKind.HOME, name="ada", used_bytes=2**30, limit_bytes=20 * 2**30)
        ]
        self.packages = PackageHint(here=0)
        self.capacity = Capacity(
            total_cores=2,
            most_cores=2,
            total_memory_mib=4096,
            total_gpus=0,
            free_cores=2,
            free_memory_mib=4096,
            free_gpus=0,
            no_gpus="This platform has no GPUs.",
        )
        self.engines = [
            EngineInfo(name="local", title="This platform", default=True, answers=True, cores=2, task_cores=2)
        ]
        self.teams = FakeTeams(self.person.name)
        self.stops = FakeStops(
            lambda name: self._find(self.sessions, name, "session"), self.advance_session, self._restart
        )
        self.plans: dict[str, Plan] = {}
        self.reports: list[tuple[str, SessionReport]] = []
        self.jobs: dict[str, Job] = {}
        self.requests: dict[str, JobRequest] = {}
        self.grids: dict[str, TaskGrid] = {}
        self.failures: dict[str, list[TaskFailureGroup]] = {}
        self.logs: dict[tuple[str, int], str] = {}
        self.results: dict[tuple[str, int], bytes] = {}
        self._numbers = itertools.count(1)

    # -- the clients ----------------------------------------------------------------------------------------

    def client(self, token: str = token) -> Client:
        """Return a synchronous client of this portal."""
        return Client(f"{ROOT}/api", token, transport=httpx.MockTransport(self._answer))

    def async_client(self, token: str = token) -> AsyncClient:
        """Return an asynchronous client of this portal."""
        return AsyncClient(f"{ROOT}/api", token, transport=httpx.MockTransport(self._answer))

    # -- the world ------------------------------------------------------------------------------------------

    def advance_session(
        self, session: str, state: SessionState, message: str = "", **changes: Any
    ) -> Session:
        """Move a session to a state, as the spawner's report would."""
        seen: Session = self._find(self.sessions, session, "session").model_copy(
            update={"state": state, **changes}
        )
        self.sessions[session] = seen
        events = self.events.setdefault(session, [])
        done = 100 if state is SessionState.READY or not state.active else 50
        events.append(
            SessionEvent(
                session=session,
                number=len(events) + 1,
                time=now(),
                state=state,
                message=message,
                progress=done,
            )
        )
        return seen

    def advance_job(self, job: str, **changes: Any) -> Job:
        """Change fields of a job, as its progress would."""
        self.jobs[job] = self._find(self.jobs, job, "job").model_copy(update=changes)
        return self.jobs[job]

    # -- answering ------------------------------------------------------------------------------------------

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/services/cupola")
        try:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                raise NotSignedInError("the token is unknown or has ended")
            for (method, pattern), handler in self._routes().items():
                match = re.fullmatch(pattern, path)
                if match and method == request.method:
                    return handler(request, *match.groups())
            raise NotFoundError(f"there is nothing at {path}")
        except CupolaError as exc:
            problem = Problem(
                type=f"https://cupola.invalid/problems/{exc.code}",
                title=exc.title,
                status=exc.status,
                detail=str(exc),
            )
            kind = {"Content-Type": "application/problem+json"}
            return httpx.Response(exc.status, headers=kind, text=problem.model_dump_json())

    def _routes(self) -> dict[tuple[str, str], Callable[..., httpx.Response]]:
        one = "([^/]+)"
        return {
            **self.teams.routes(),
            **self.stops.routes(),
            ("GET", "/api/me"): lambda _: _json(self.person),
            ("GET", "/api/datalabs"): lambda _: _page(self.datalabs.values()),
            ("GET", f"/api/datalabs/{one}"): lambda _, name: _json(
                self._find(self.datalabs, name, "datalab")
            ),
            ("GET", "/api/volumes"): lambda _: _page(self.volumes.values()),
            ("GET", f"/api/volumes/{one}"): lambda _, name: _json(self._find(self.volumes, name, "volume")),
            ("POST", "/api/volumes"): self._add_volume,
            ("PATCH", f"/api/volumes/{one}"): self._change_volume,
            ("DELETE", f"/api/volumes/{one}"): self._remove_volume,
            ("GET", f"/api/volumes/{one}/uses"): self._volume_uses,
            ("POST", f"/api/volumes/{one}/measure"): self._measure_volume,
            ("POST", "/api/sessions"): self._launch,
            ("GET", "/api/sessions"): lambda _: _page(reversed(self.sessions.values())),
            ("GET", f"/api/sessions/{one}"): lambda _, name: _json(
                self._find(self.sessions, name, "session")
            ),
            ("POST", f"/api/sessions/{one}/stop"): self._stop,
            ("PATCH", f"/api/sessions/{one}"): self._rename,
            ("POST", f"/api/sessions/{one}/restart"): self._restart,
            ("GET", f"/api/sessions/{one}/usage"): self._usage,
            ("GET", f"/api/sessions/{one}/log"): self._session_log,
            ("GET", "/api/capacity"): lambda _: _json(self.capacity),
            ("GET", "/api/me/storage"): lambda _: _page(self.storage),
            ("GET", "/api/me/packages"): lambda _: _json(self.packages),
            ("DELETE", f"/api/sessions/{one}"): lambda _, name: self._forget(self.sessions, name, "session"),
            ("GET", f"/api/sessions/{one}/events"): self._session_events,
            ("POST", "/api/jobs"): self._submit,
            ("GET", "/api/jobs"): lambda _: _page(reversed(self.jobs.values())),
            ("GET", f"/api/jobs/{one}"): lambda _, name: _json(self._find(self.jobs, name, "job")),
            ("GET", f"/api/jobs/{one}/grid"): lambda _, name: _json(self._grid(name)),
            ("GET", f"/api/jobs/{one}/failures"): lambda _, name: _list(self.failures.get(name, [])),
            ("GET", "/api/engines"): lambda _: _page(self.engines),
            ("GET", f"/api/jobs/{one}/tasks/(\\d+)/log"): self._log,
            ("GET", f"/api/jobs/{one}/inputs/(\\d+)/log"): self._input_log,
            ("GET", f"/api/jobs/{one}/results/(\\d+)"): self._result,
            ("GET", f"/api/jobs/{one}/events"): self._job_events,
            ("POST", f"/api/jobs/{one}/(cancel|hold|release|retry)"): self._act,
            ("DELETE", f"/api/jobs/{one}"): lambda _, name: self._forget(self.jobs, name, "job"),
            ("GET", f"/internal/sessions/{one}/plan"): lambda _, name: _json(
                self._find(self.plans, name, "session")
            ),
            ("POST", f"/internal/sessions/{one}/reports"): self._report,
        }

    def _find(self, things: dict[str, Any], name: str, noun: str) -> Any:
        if name not in things:
            raise NotFoundError(f"there is no {noun} {name!r}")
        return things[name]

    def _forget(self, things: dict[str, Any], name: str, noun: str) -> httpx.Response:
        if self._find(things, name, noun).state.active:
            raise ConflictError(f"{noun} {name!r} has not ended; stop it first")
        del things[name]
        return httpx.Response(204)

    def _add_volume(self, request: httpx.Request) -> httpx.Response:
        new = NewVolume.model_validate_json(request.content)
        if new.name in self.volumes:
            raise ConflictError(f"the name {new.name} is taken")
        told = new.model_dump(exclude={"path", "key_id", "key_secret"})
        source = new.path or Path("/mounts", new.name, "data")
        volume = Volume(**told, kind=VolumeKind.CUSTOM, source=source, owner=self.person.name, created=now())
        self.volumes[new.name] = volume
        return _json(volume, 201)

    def _change_volume(self, request: httpx.Request, name: str) -> httpx.Response:
        old: Volume = self._find(self.volumes, name, "volume")
        change = VolumeChange.model_validate_json(request.content)
        told = change.model_dump(exclude_none=True, exclude={"key_id", "key_secret", "approve"})
        self.volumes[name] = old.model_copy(update=told)
        return _json(self.volumes[name])

    def _remove_volume(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.volumes, name, "volume")
        if self._uses(name):
            raise ConflictError(f"sessions use the volume {name!r}")
        del self.volumes[name]
        return httpx.Response(204)

    def _volume_uses(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.volumes, name, "volume")
        return _page(self._uses(name))

    def _measure_volume(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.volumes, name, "volume")
        return httpx.Response(202, json=None)

    def _uses(self, name: str) -> list[VolumeUse]:
        return [
            VolumeUse(person=session.owner, session=session.id, since=session.created)
            for session in self.sessions.values()
            if session.state.active and name in session.volumes
        ]

    def _launch(self, request: httpx.Request) -> httpx.Response:
        wanted = LaunchRequest.model_validate_json(request.content)
        datalab: Datalab = self._find(self.datalabs, wanted.datalab, "datalab")
        session = Session(
            id=f"{wanted.datalab}-{next(self._numbers)}",
            owner=self.person.name,
            datalab=wanted.datalab,
            version=wanted.version or datalab.recommended or "sha256:0",
            title=wanted.title or datalab.title,
            state=SessionState.REQUESTED,
            created=now(),
            volumes=["home", *(wanted.volumes or [])],
            clean=wanted.clean,
            resources=wanted.resources,
            environment=wanted.environment,
        )
        return self._begin(session)

    def _begin(self, session: Session) -> httpx.Response:
        self.sessions[session.id] = session
        return _json(self.advance_session(session.id, SessionState.REQUESTED, "asked for"), 202)

    def _rename(self, request: httpx.Request, name: str) -> httpx.Response:
        old: Session = self._find(self.sessions, name, "session")
        change = SessionChange.model_validate_json(request.content)
        self.sessions[name] = old.model_copy(update={"title": change.title})
        return _json(self.sessions[name])

    def _restart(self, request: httpx.Request, name: str) -> httpx.Response:
        old: Session = self._find(self.sessions, name, "session")
        wanted = RestartRequest.model_validate_json(request.content or b"{}")
        if old.state.active:
            self.advance_session(name, SessionState.STOPPED, "restarted", stopped=now())
        changes = {
            "id": f"{old.datalab}-{next(self._numbers)}",
            "resources": wanted.resources or old.resources,
            "version": wanted.version or old.version,
            "created": now(),
            **dict.fromkeys(("started", "stopped", "url", "reason", "end", "hibernated")),
        }
        return self._begin(old.model_copy(update=changes))

    def _usage(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.sessions, name, "session")
        if name not in self.usages:
            raise ConflictError(f"{name} does not run just now: there is nothing to measure")
        return _json(self.usages[name])

    def _session_log(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.sessions, name, "session")
        return httpx.Response(200, text=self.session_logs.get(name, ""))

    def _stop(self, _: httpx.Request, name: str) -> httpx.Response:
        return _json(self.advance_session(name, SessionState.STOPPED, "stopped", stopped=now()), 202)

    def _report(self, request: httpx.Request, name: str) -> httpx.Response:
        report = SessionReport.model_validate_json(request.content)
        self.reports.append((name, report))
        if name in self.sessions:
            self.advance_session(name, report.state, report.message)
        return _json(self._find(self.sessions, name, "session"))

    def _session_events(self, request: httpx.Request, name: str) -> httpx.Response:
        self._find(self.sessions, name, "session")
        sent = int(request.headers.get("Last-Event-ID", 0))

        async def follow() -> AsyncIterator[bytes]:
            number = sent
            while True:
                events = self.events.get(name, [])
                for event in events[number:]:
                    number = event.number
                    yield _event("session-event", event, number)
                if not events or events[-1].state is SessionState.READY or not events[-1].state.active:
                    return
                await asyncio.sleep(_GLANCE)

        return _stream(follow())

    def _job_events(self, _: httpx.Request, name: str) -> httpx.Response:
        self._find(self.jobs, name, "job")

        async def follow() -> AsyncIterator[bytes]:
            told: Job | None = None
            while (job := self.jobs.get(name)) is not None:
                if job != told:
                    told = job
                    yield _event("job", job)
                if not job.state.active:
                    return
                await asyncio.sleep(_GLANCE)

        return _stream(follow())

    def _submit(self, request: httpx.Request) -> httpx.Response:
        wanted = JobRequest.model_validate_json(request.content)
        name, inputs = f"job-{next(self._numbers)}", len(wanted.labels)
        chunk = wanted.chunk or 1
        self.requests[name] = wanted
        self.jobs[name] = Job(
            id=name,
            owner=self.person.name,
            name=wanted.name,
            state=JobState.QUEUED,
            engine=wanted.engine or "local",
            counts=JobCounts(inputs=inputs),
            tasks=-(-inputs // chunk),
            chunk=chunk,
            created=now(),
            source=wanted.source,
            session=wanted.session,
            version="sha256:0",
            folder=self.folder / name,
            products=wanted.products,
            **{name: getattr(wanted, name) for name in _ASKED},
        )
        return _json(self.jobs[name], 202)

    def _act(self, _: httpx.Request, name: str, action: str) -> httpx.Response:
        self._find(self.jobs, name, "job")
        return _json(self.advance_job(name, state=_AFTER[JobAction(action)]), 202)

    def _grid(self, name: str) -> TaskGrid:
        job: Job = self._find(self.jobs, name, "job")
        return self.grids.get(name) or TaskGrid(tasks=job.tasks, runs=[(TaskState.QUEUED, job.tasks)])

    def _log(self, _: httpx.Request, name: str, task: str) -> httpx.Response:
        return httpx.Response(200, text=self.logs.get((name, int(task)), ""))

    def _input_log(self, request: httpx.Request, name: str, number: str) -> httpx.Response:
        job: Job = self._find(self.jobs, name, "job")
        return self._log(request, name, str(int(number) // job.chunk))

    def _result(self, _: httpx.Request, name: str, number: str) -> httpx.Response:
        if (name, int(number)) not in self.results:
            raise NotFoundError(f"input {number} of job {name!r} has no result")
        return httpx.Response(200, content=self.results[name, int(number)])


_ASKED = ("cpus", "memory_mib", "gpus", "time_s", "after", "team", "notify")
"""What a job keeps of its request as it was."""


def _json(content: Model, status: int = 200) -> httpx.Response:
    return httpx.Response(
        status, headers={"Content-Type": "application/json"}, text=content.model_dump_json()
    )


def _list(content: Iterable[Model]) -> httpx.Response:
    return httpx.Response(200, json=[json.loads(one.model_dump_json()) for one in content])


def _page(content: Iterable[Model]) -> httpx.Response:
    return _json(Page[Any](items=list(content)))


def _event(name: str, content: Model, number: int | None = None) -> bytes:
    mark = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{mark}data: {content.model_dump_json()}\n\n".encode()


def _stream(content: AsyncIterator[bytes]) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=content)
