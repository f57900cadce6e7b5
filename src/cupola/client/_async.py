"""The asynchronous client; every other face stands on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter

from cupola.client._errors import error_of
from cupola.exceptions import UnavailableError
from cupola.models.base import Model, Page
from cupola.models.datalab import Datalab
from cupola.models.job import Job, JobAction, JobRequest, TaskFailureGroup, TaskGrid
from cupola.models.person import Person
from cupola.models.session import LaunchRequest, Plan, Session, SessionEvent, SessionReport
from cupola.models.volume import Volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

__all__ = ["AsyncClient"]

Answer = TypeVar("Answer", bound=Model)

_FAILURES = TypeAdapter(list[TaskFailureGroup])


class AsyncClient:
    """Speaks with one portal as one person, session or service.

    Every method raises the error that the portal tells (a subclass of :class:`~cupola.exceptions.CupolaError`), and
    :class:`~cupola.exceptions.UnavailableError` when the portal does not answer in time.

    Parameters
    ----------
    url
        The REST root, such as ``http://127.0.0.1:8000/services/cupola/api``.
    token
        A JupyterHub token, or the internal token for `plan` and `report`.
    seconds
        The time that one call may take, sending and receiving together. Following events is not bounded.
    transport
        For tests: what carries the requests instead of the network.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = 30,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.seconds = seconds
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(None),  # one budget of our own bounds the whole call
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # -- who and what ---------------------------------------------------------------------------------------

    async def me(self) -> Person:
        """Return whom the token belongs to."""
        return await self._get("/me", Person)

    async def datalabs(self) -> list[Datalab]:
        """Return the catalogue."""
        return await self._all("/datalabs", Datalab)

    async def datalab(self, name: str) -> Datalab:
        """Return one entry of the catalogue."""
        return await self._get(f"/datalabs/{name}", Datalab)

    async def volumes(self) -> list[Volume]:
        """Return the volumes that one may mount."""
        return await self._all("/volumes", Volume)

    async def volume(self, name: str) -> Volume:
        """Return one volume."""
        return await self._get(f"/volumes/{name}", Volume)

    # -- sessions -------------------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest) -> Session:
        """Ask for a session; it starts in the background."""
        return await self._post("/sessions", Session, request)

    async def sessions(self) -> list[Session]:
        """Return one's sessions, newest first."""
        return await self._all("/sessions", Session)

    async def session(self, session: str) -> Session:
        """Return one session."""
        return await self._get(f"/sessions/{session}", Session)

    async def stop_session(self, session: str) -> Session:
        """Ask a session to stop."""
        return await self._post(f"/sessions/{session}/stop", Session)

    async def delete_session(self, session: str) -> None:
        """Forget an ended session."""
        await self._call("DELETE", f"/sessions/{session}")

    async def session_events(self, session: str) -> AsyncIterator[SessionEvent]:
        """Follow a session until it is ready or has ended; past events come first."""
        async for data in self._follow(f"/sessions/{session}/events", "session-event"):
            yield SessionEvent.model_validate_json(data)

    # -- jobs -----------------------------------------------------------------------------------------------

    async def submit(self, request: JobRequest) -> Job:
        """Start a job."""
        return await self._post("/jobs", Job, request)

    async def jobs(self, cursor: str | None = None, limit: int = 50) -> Page[Job]:
        """Return a page of one's jobs, newest first."""
        wanted = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await self._call("GET", "/jobs", params=wanted)
        return Page[Job].model_validate_json(answer.content)

    async def job(self, job: str) -> Job:
        """Return one job."""
        return await self._get(f"/jobs/{job}", Job)

    async def job_grid(self, job: str) -> TaskGrid:
        """Return the state of every task."""
        return await self._get(f"/jobs/{job}/grid", TaskGrid)

    async def job_failures(self, job: str) -> list[TaskFailureGroup]:
        """Return the failures, grouped by error and line."""
        return _FAILURES.validate_json((await self._call("GET", f"/jobs/{job}/failures")).content)

    async def job_log(self, job: str, task: int) -> str:
        """Return what a task printed."""
        return (await self._call("GET", f"/jobs/{job}/tasks/{task}/log")).text

    async def job_result(self, job: str, number: int) -> bytes:
        """Return the pickled result of an input."""
        return (await self._call("GET", f"/jobs/{job}/results/{number}")).content

    async def act(self, job: str, action: JobAction) -> Job:
        """Cancel, hold, release or retry a job."""
        return await self._post(f"/jobs/{job}/{action}", Job)

    async def delete_job(self, job: str) -> None:
        """Forget an ended job, with its results."""
        await self._call("DELETE", f"/jobs/{job}")

    async def job_events(self, job: str) -> AsyncIterator[Job]:
        """Follow a job until it has ended: its state at each change."""
        async for data in self._follow(f"/jobs/{job}/events", "job"):
            yield Job.model_validate_json(data)

    # -- for the hub ----------------------------------------------------------------------------------------

    async def plan(self, session: str) -> Plan:
        """Return what the spawner needs to start a session; only with the internal token."""
        return await self._get(f"{self._internal}/sessions/{session}/plan", Plan)

    async def report(self, session: str, report: SessionReport) -> None:
        """Tell the portal how a session does; only with the internal token."""
        await self._call("POST", f"{self._internal}/sessions/{session}/reports", content=report)

    @property
    def _internal(self) -> str:
        return f"{self.url.removesuffix('/api')}/internal"

    # -- how ------------------------------------------------------------------------------------------------

    async def _get(self, path: str, kind: type[Answer]) -> Answer:
        return kind.model_validate_json((await self._call("GET", path)).content)

    async def _post(self, path: str, kind: type[Answer], content: Model | None = None) -> Answer:
        return kind.model_validate_json((await self._call("POST", path, content=content)).content)

    async def _all(self, path: str, kind: type[Answer]) -> list[Answer]:
        """Return a whole listing, page by page."""
        found: list[Answer] = []
        cursor: str | None = None
        while True:
            answer = await self._call("GET", path, params={"cursor": cursor} if cursor else {})
            page = Page[kind].model_validate_json(answer.content)  # type: ignore[valid-type]
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    async def _call(
        self, method: str, path: str, *, content: Model | None = None, params: dict[str, Any] | None = None
    ) -> httpx.Response:
        body = None if content is None else content.model_dump_json()
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with asyncio.timeout(self.seconds):
                answer = await self._http.request(method, path, content=body, params=params, headers=headers)
        except (httpx.TransportError, TimeoutError) as exc:
            raise self._silent(exc) from exc
        if not answer.is_success:
            raise error_of(answer)
        return answer

    async def _follow(self, path: str, event: str) -> AsyncIterator[str]:
        """Yield the data of each server-sent event of one name."""
        try:
            async with self._http.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise error_of(answer)
                name = ""
                async for line in answer.aiter_lines():
                    if line.startswith("event:"):
                        name = line[6:].strip()
                    elif line.startswith("data:") and name == event:
                        yield line[5:].strip()
        except httpx.TransportError as exc:
            raise self._silent(exc) from exc

    def _silent(self, exc: Exception) -> UnavailableError:
        why = (
            f"gave no answer within {self.seconds:g} s"
            if isinstance(exc, TimeoutError)
            else f"cannot be reached ({exc})"
        )
        return UnavailableError(
            f"the portal at {self.url} {why}; is the platform running? `cupola status` tells"
        )
