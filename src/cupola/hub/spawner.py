"""The spawner: turns the portal's plan into a running session, and decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner, SpawnException
from traitlets import Unicode, default
from typing_extensions import override

from cupola.exceptions import CupolaError, UnavailableError
from cupola.hub.drivers.base import NotStartedError, code_of, describe
from cupola.hub.portal import Portal, portal
from cupola.models.session import EndCause, SessionEnd, SessionReport, SessionState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cupola.hub.drivers.base import Driver
    from cupola.models.session import Plan, Session

__all__ = ["SessionSpawner"]


class SessionSpawner(Spawner):  # type: ignore[misc]
    """One session. Its server name at the hub is the session's id."""

    portal_url = Unicode(config=True, help="The portal's root.")
    internal_token = Unicode(config=True, help="What hub and portal show each other.")
    records = Unicode(config=True, help="The folder that says which processes of sessions run.")
    frozen = Unicode(config=True, help="The folder for frozen kernels of sessions; empty: none are frozen.")
    compute = Unicode("process", config=True, help="What sessions run in: process or docker.")
    engine = Unicode(config=True, help="Where the Docker engine listens.")
    platform_key = Unicode(config=True, help="What tells this platform's containers from others.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._driver: Driver | None = None
        self._steps: list[SessionReport] = []
        self._announcement: asyncio.Task[None] | None = None
        self._end_told = False
        self._stop_asked = False
        self._was_ready = False
        self._end: SessionEnd | None = None

    @default("env_keep")
    def _keep_nothing(self) -> list[str]:
        return []  # the driver makes the environment: nothing of the hub's own leaks into it

    @default("ip")
    def _loopback(self) -> str:
        return "127.0.0.1"

    @property
    def driver(self) -> Driver:
        """What starts and stops the session."""
        if self._driver is None:
            self._driver = self._new_driver()
        return self._driver

    def _new_driver(self) -> Driver:
        # Each is loaded only where it is used.
        if self.compute == "docker":
            from cupola.hub.drivers.docker import SessionContainer

            return SessionContainer(self.name, host=self.engine, key=self.platform_key)
        from cupola.hub.drivers.process import SessionProcess

        return SessionProcess(self.name, Path(self.records), Path(self.frozen) if self.frozen else None)

    @property
    def portal(self) -> Portal:
        """The portal."""
        return portal(self.portal_url, self.internal_token)

    # -- what the hub keeps -----------------------------------------------------------------------------------

    @override
    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), **(self._driver.state() if self._driver else {})}

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if self.name:
            self.driver.load(state)
            self._was_ready = True  # the hub found it running

    @override
    def clear_state(self) -> None:
        super().clear_state()
        self._driver = None

    # -- life -------------------------------------------------------------------------------------------------

    @override
    async def start(self) -> str:
        self._steps, self._end_told, self._stop_asked, self._was_ready = [], False, False, False
        plan = await self._plan()
        try:
            await self._tell(SessionState.STARTING, "Starting the session", 30)
            self.ip, self.port = self.driver.listens(plan)
            place = await self.driver.start(plan, self.get_env())
            self._admit(place.tokens)
            await self._tell(SessionState.STARTING, place.message, 60)
            # A little less than the hub's own time, so that it is we who say what happened.
            await self.driver.wait_for_port(self.start_timeout - 30)
            await self._tell(SessionState.STARTING, "Connecting", 90)
        except NotStartedError as exc:
            await self._tell_end(SessionState.FAILED, str(exc), exc.end)
            raise SpawnException(
                str(exc), reason="start", status_code=HTTPStatus.INTERNAL_SERVER_ERROR
            ) from exc
        self._announcement = asyncio.create_task(self._announce())
        return f"http://{place.host}:{place.port}"

    async def _plan(self) -> Plan:
        """Ask the portal for the plan; whatever it did not decide is refused."""
        if not self.name:
            raise SpawnException(
                "Sessions are started from the catalogue; open the start page and press play.",
                reason="no-plan",
                status_code=HTTPStatus.FORBIDDEN,
            )
        try:
            plan = await self.portal.plan(self.name)
        except UnavailableError as exc:
            raise SpawnException(
                str(exc), reason="portal", status_code=HTTPStatus.SERVICE_UNAVAILABLE
            ) from exc
        except CupolaError as exc:
            raise SpawnException(
                f"The portal did not decide to start this: {exc}", reason="no-plan", status_code=exc.status
            ) from exc
        if plan.owner != self.user.name or plan.session != self.name:
            raise SpawnException(
                "This session belongs to somebody else; start one of your own from the catalogue.",
                reason="no-plan",
                status_code=HTTPStatus.FORBIDDEN,
            )
        return plan

    async def _announce(self) -> None:
        """Tell that the session is ready once it can be reached: the hub adds the route after `start`."""
        while self.pending == "spawn":  # noqa: ASYNC110 - the hub has no event for it
            await asyncio.sleep(0.02)
        if self.ready:
            self._was_ready = True
            await self._tell(SessionState.READY, "Ready", 100)

    @override
    async def poll(self) -> int | None:
        if self._driver is None:
            return 0
        ended = await self._driver.ended()
        if ended is not None:
            return code_of(ended)
        if self._was_ready and (lost := self._driver.lost_inside()) is not None:
            await self._tell(SessionState.READY, f"A program in the session {describe(lost)}", 100, lost)
        return None

    @override
    async def stop(self, now: bool = False) -> None:
        self._stop_asked = True
        known = None if self._end_told else await self._tell(SessionState.STOPPING, "Stopping", 100)
        asleep = known is not None and known.hibernated is not None
        self._end = await self.driver.stop(asleep=asleep)

    @override
    async def run_post_stop_hook(self) -> None:
        """Tell how it ended: the hub comes here after every end, asked for or not."""
        if self._announcement is not None:
            self._announcement.cancel()
        self._revoke()
        if self._driver is not None and not self._end_told:
            if self._stop_asked and self._was_ready:
                await self._tell_end(SessionState.STOPPED, "Stopped", self._end)
            elif self._stop_asked:
                late = (self._end or SessionEnd(cause=EndCause.TIMEOUT)).model_copy(
                    update={"cause": EndCause.TIMEOUT}
                )
                await self._tell_end(
                    SessionState.FAILED, "The session did not answer in time; try again", late
                )
            else:
                await self._tell_own_end(self._driver)
        with contextlib.suppress(CupolaError):  # what is left is found by its label at the next look
            await self.driver.forget()

    async def _tell_own_end(self, driver: Driver) -> None:
        """Tell of an end that nobody asked for."""
        end = await driver.ended()
        # Kernels and background processes of a server that died would run on unseen.
        with contextlib.suppress(CupolaError):
            await driver.stop()
        if end is None or end.cause is EndCause.LOST:
            message = "The session was gone when the platform looked after it"
        elif end.cause is EndCause.OUT_OF_MEMORY:
            message = f"The session {describe(end)}"
        else:
            message = f"The session {describe(end)} by itself"
        end = end or SessionEnd(cause=EndCause.LOST)
        # Who shuts the server down from its own menu did not fail.
        well = end.cause is EndCause.LOST or end.exit_code == 0
        await self._tell_end(SessionState.STOPPED if well else SessionState.FAILED, message, end)

    # -- tokens -----------------------------------------------------------------------------------------------

    @property
    def _note(self) -> str:
        return f"Kernels of {self.name} that were frozen"

    def _admit(self, tokens: frozenset[str]) -> None:
        """Let kernels that go on after a hibernation be known by the token that they have."""
        mine = orm.APIToken.find(self.db, self.api_token)
        for token in tokens:
            if mine is not None and orm.APIToken.find(self.db, token) is None:
                self.user.new_api_token(token, generated=False, note=self._note, scopes=mine.scopes)

    def _revoke(self) -> None:
        """Take what `_admit` gave, however the session ended."""
        for token in self.user.orm_user.api_tokens:
            if token.note == self._note:
                self.db.delete(token)
        self.db.commit()

    # -- telling ----------------------------------------------------------------------------------------------

    async def _tell(
        self, state: SessionState, message: str, progress: int, end: SessionEnd | None = None
    ) -> Session | None:
        """Tell the portal and return how it knows the session.

        A portal that is just restarting is no reason to fail, it looks for itself when it is back.
        """
        report = SessionReport(state=state, message=message, progress=progress, end=end)
        self._steps.append(report)
        try:
            return await self.portal.report(self.name, report)
        except CupolaError as exc:
            self.log.warning("The portal was not told that session %s is %s: %s", self.name, state, exc)
            return None

    async def _tell_end(self, state: SessionState, message: str, end: SessionEnd | None) -> None:
        self._end_told = True
        await self._tell(state, message, 100, end)

    @override
    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        shown = 0
        while True:
            for step in self._steps[shown:]:
                yield {"progress": step.progress, "message": step.message}
            shown = len(self._steps)
            if not self.pending:
                return
            await asyncio.sleep(0.1)
