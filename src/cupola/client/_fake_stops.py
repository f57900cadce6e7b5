"""The planned stops of the portal in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx

from cupola.exceptions import ConflictError
from cupola.models.activity import Activity, NewMaintenance, PlannedStop, StopKind
from cupola.models.base import Model, now
from cupola.models.session import Session, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeStops"]


class FakeStops:
    """What is announced to sessions. A test sets `planned` and reads `told`.

    Parameters
    ----------
    find
        Returns a session, or raises.
    move
        Takes a session to another state; gets the changes.
    restart
        Begins a session with the same choices.
    """

    def __init__(
        self,
        find: Callable[[str], Session],
        move: Callable[..., Session],
        restart: Callable[[httpx.Request, str], httpx.Response],
    ) -> None:
        self._find, self._move, self._restart = find, move, restart
        self.planned: dict[str, PlannedStop] = {}
        self.told: dict[str, list[Activity]] = {}
        self.kept: list[str] = []
        """Sessions whose stop was put off, in order."""
        self.maintenance: PlannedStop | None = None

    def routes(self) -> dict[tuple[str, str], Callable[..., httpx.Response]]:
        """Return what answers at which address."""
        one = "/api/sessions/([^/]+)"
        return {
            ("PUT", f"{one}/activity"): self._tell,
            ("POST", f"{one}/keep"): self._keep,
            ("POST", f"{one}/hibernate"): self._hibernate,
            ("POST", f"{one}/wake"): self._wake,
            ("GET", "/api/maintenance"): lambda _: _json(self.maintenance),
            ("PUT", "/api/maintenance"): self._announce,
            ("DELETE", "/api/maintenance"): self._withdraw,
        }

    def _tell(self, request: httpx.Request, name: str) -> httpx.Response:
        self._find(name)
        self.told.setdefault(name, []).append(Activity.model_validate_json(request.content))
        return _json(self.planned.get(name) or self.maintenance)

    def _keep(self, _: httpx.Request, name: str) -> httpx.Response:
        session = self._find(name)
        if session.state is not SessionState.READY:
            raise ConflictError(f"{name} does not run: wake or restart it first")
        if name in self.planned and not self.planned[name].keepable:
            raise ConflictError("this stop cannot be put off")
        self.planned.pop(name, None)
        self.kept.append(name)
        return _json(session)

    def _hibernate(self, _: httpx.Request, name: str) -> httpx.Response:
        session = self._find(name)
        if session.state is SessionState.READY:
            self.planned.pop(name, None)
            session = self._move(name, SessionState.STOPPED, "Hibernated", hibernated=now(), stopped=now())
        elif session.hibernated is None:
            raise ConflictError(f"{name} does not run: there is nothing to hibernate")
        return _json(session, 202)

    def _wake(self, request: httpx.Request, name: str) -> httpx.Response:
        session = self._find(name)
        if not session.state.active and session.hibernated is None:
            return self._restart(request, name)
        if not session.state.active:
            anew = dict.fromkeys(("started", "stopped", "url", "reason", "end", "hibernated"))
            session = self._move(name, SessionState.REQUESTED, "Waking up", **anew)
        return _json(session, 202)

    def _announce(self, request: httpx.Request) -> httpx.Response:
        new = NewMaintenance.model_validate_json(request.content)
        self.maintenance = PlannedStop(
            at=now() + timedelta(seconds=new.seconds),
            reason=new.reason or "The platform stops for maintenance.",
            kind=StopKind.MAINTENANCE,
            seconds=new.seconds,
            keepable=False,
        )
        return _json(self.maintenance)

    def _withdraw(self, _: httpx.Request) -> httpx.Response:
        self.maintenance = None
        return httpx.Response(204)


def _json(content: Model | None, status: int = 200) -> httpx.Response:
    text = "null" if content is None else content.model_dump_json()
    return httpx.Response(status, headers={"Content-Type": "application/json"}, text=text)
