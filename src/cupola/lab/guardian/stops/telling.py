"""The session tells the portal what goes on in it, and hears of stops that are planned.

The portal cannot ask a session; the session tells it, with its own token. A portal that does not answer is told later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from cupola.lab.guardian.stops.activity import MARK, Looker
from cupola.lab.guardian.variables import wishes
from cupola.models.activity import Activity, PlannedStop, SnapshotTold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_server.serverapp import ServerApp

__all__ = ["Portal", "Teller", "watch"]

LOOK_S = 5.0
AGAIN_S = 20.0
"""What has not changed is told again; the portal forgets what is not (`cupola.platform.services.sessions`)."""
NEAR_S = 5.0
"""The same, while a stop is near."""
PAUSE_S = 1.0
PAGES_S = 8.0
"""How long pages have to save their notebooks before the session says that all is written."""
PAGE_FRESH_S = 40.0
STALE_S = 60.0
"""A stop of which nothing was heard for so long after its time does not come."""
MOST_COMPUTING = 20
_TIMEOUT_S = 5.0
_NO_SUCH_ADDRESS = {404, 405}
_ANSWER: TypeAdapter[PlannedStop | None] = TypeAdapter(PlannedStop | None)


class Portal:
    """The way to the portal, with the session's own token.

    Parameters
    ----------
    environ
        The variables of a session; where they describe none, there is no way.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._portal = environ.get("CUPOLA_API_URL", "").rstrip("/")
        self._token = environ.get("JUPYTERHUB_API_TOKEN", "")
        self._session = environ.get(MARK, "")

    @property
    def able(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._portal and self._token and self._session)

    async def ask(
        self, method: str, word: str, body: Any = None, *, seconds: float = _TIMEOUT_S
    ) -> HTTPResponse:
        """Ask the portal something about this session.

        Raises
        ------
        HTTPClientError
            If it refuses, or does not answer in time.
        OSError
            If it cannot be reached.
        """
        request = HTTPRequest(
            f"{self._portal}/sessions/{quote(self._session, safe='')}/{word}",
            method=method,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            body="" if body is None else json.dumps(body),
            connect_timeout=_TIMEOUT_S,
            request_timeout=seconds,
            # A redirect would be to a sign-in page, and would carry the token elsewhere.
            follow_redirects=False,
        )
        return await AsyncHTTPClient().fetch(request)

    async def tell(self, activity: Activity, wait: float = 0.0) -> PlannedStop | None:
        """Tell what goes on, and return the stop that is planned; the answer may take `wait` seconds.

        Raises
        ------
        HTTPClientError, OSError
            If the portal refuses or does not answer.
        """
        word = f"activity?wait={wait:g}" if wait else "activity"
        body = activity.model_dump(mode="json", exclude_none=True)
        try:
            answer = await self.ask("PUT", word, body, seconds=wait + _TIMEOUT_S)
        except HTTPClientError as error:
            if error.code not in _NO_SUCH_ADDRESS:
                raise
            # A portal that was not upgraded yet. It may be while the session runs, so it is asked again.
            await self.ask("PUT", "computing", {"notebooks": activity.busy[:MOST_COMPUTING]})
            return None
        return _ANSWER.validate_json(answer.body or b"null")


class Teller:
    """Tells the portal, keeps what it answers for the pages of the Lab, and does what it asks for.

    Parameters
    ----------
    looker
        Sees what goes on.
    environ
        The variables of the session.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self,
        looker: Looker,
        environ: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.looker = looker
        self.portal = Portal(environ)
        self._session = environ.get(MARK, "")
        self._clock = clock
        self._plan: PlannedStop | None = None
        self._due = 0.0
        self._news = asyncio.Event()
        self._told: Activity | None = None
        self._snapshot: SnapshotTold | None = None
        self._wish: str | None = None
        self._carrying: asyncio.Task[None] | None = None
        self._pages: dict[str, float] = {}
        self._saved: set[str] = set()

    # -- what pages ask -----------------------------------------------------------------------------------

    @property
    def plan(self) -> PlannedStop | None:
        """The stop that is planned, as it is now."""
        if self._plan is None or self._clock() > self._due + STALE_S:
            return None
        return self._plan.model_copy(update={"seconds": round(max(0.0, self._due - self._clock()), 1)})

    async def wait(self, seconds: float) -> None:
        """Return at the next change of the plan, or after some seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def note_page(self, page: str) -> None:
        """Note that a page is open, which saves what it has when it is asked."""
        self._pages = {one: at for one, at in self._pages.items() if self._clock() - at < PAGE_FRESH_S}
        if page:
            self._pages[page] = self._clock()

    def saved(self, page: str) -> None:
        """Note that a page has saved all that it has open."""
        self._saved.add(page)

    def hear(self, plan: PlannedStop | None) -> None:
        """Take what the portal answered."""
        left = None if plan is None else plan.seconds
        if plan is not None:
            seconds = (plan.at.timestamp() - time.time()) if left is None else left
            self._due = self._clock() + seconds
        changed = _essence(plan) != _essence(self._plan)
        self._plan = plan
        if changed:
            news, self._news = self._news, asyncio.Event()
            news.set()
        wish = plan.snapshot if plan else None
        if wish and wish != self._wish:
            self._wish = wish
            self._carrying = asyncio.get_running_loop().create_task(self._carry_out(wish))

    # -- what goes on by itself ---------------------------------------------------------------------------

    async def run(self, log: Any) -> None:
        """Tell until the server's loop ends: what changes soon, and everything now and again."""
        await asyncio.gather(self._for_ever(self._listen, log), self._for_ever(self._notice, log))

    async def _for_ever(self, step: Callable[[], Any], log: Any) -> None:
        while True:
            try:
                await step()
            except (HTTPClientError, OSError, ValidationError) as error:
                log.debug("cupola: the portal does not take what goes on: %s", error)
                await asyncio.sleep(LOOK_S)
            except Exception:
                # A kernel that ends meanwhile, say: there is a next look.
                log.exception("cupola: what goes on could not be told")
                await asyncio.sleep(LOOK_S)

    async def _listen(self) -> None:
        """Tell, and let the portal hold its answer back until there is something to hear."""
        began = self._clock()
        wait = NEAR_S if self._plan else AGAIN_S
        before = _essence(self._plan)
        await self.tell(wait=wait)
        # A portal that answers at once is not asked without pause.
        left = wait - (self._clock() - began)
        await asyncio.sleep(PAUSE_S if _essence(self._plan) != before else max(left, PAUSE_S))

    async def _notice(self) -> None:
        """Tell soon when something begins or ends."""
        await asyncio.sleep(LOOK_S)
        activity = await self.looker.look(self._snapshot)
        if self._told is None or _rough(activity) != _rough(self._told):
            await self._tell(activity)

    async def tell(self, wait: float = 0.0) -> None:
        """Tell what goes on now, and take the answer."""
        await self._tell(await self.looker.look(self._snapshot), wait)

    async def _tell(self, activity: Activity, wait: float = 0.0) -> None:
        self._told = activity
        try:
            self.hear(await self.portal.tell(activity, wait))
        except (HTTPClientError, OSError, ValidationError):
            self._told = None
            raise

    async def _carry_out(self, wish: str) -> None:
        """Do what comes before a stop: pages save, kernels store their variables; then say so."""
        self._saved = set()
        pages = asyncio.ensure_future(self._until_saved())
        kept = wishes.Kept()
        with contextlib.suppress(OSError):
            kept = await wishes.snapshot(await asyncio.to_thread(wishes.living, self._session))
        await pages
        self._snapshot = SnapshotTold(wish=wish, kernels=kept.kernels, kept=kept.kept, left=kept.left)
        for _ in range(3):
            with contextlib.suppress(HTTPClientError, OSError, ValidationError):
                await self.tell()
                return
            await asyncio.sleep(PAUSE_S)

    async def _until_saved(self) -> None:
        until = self._clock() + PAGES_S
        while self._clock() < until:
            await asyncio.sleep(0.1)
            open_ones = {one for one, at in self._pages.items() if self._clock() - at < PAGE_FRESH_S}
            if open_ones <= self._saved:
                return


def _essence(plan: PlannedStop | None) -> Any:
    """Return what matters of a plan: its time is told anew in each answer, a little different each time."""
    return plan and (plan.kind, plan.reason, plan.keepable, plan.snapshot, round(plan.at.timestamp() / 20))


def _rough(activity: Activity) -> Any:
    return activity.busy, activity.kernels, activity.terminals, activity.snapshot


def watch(server: ServerApp) -> Teller:
    """Begin to tell; where there is no portal, nothing is told."""
    teller = Teller(Looker(server))
    if teller.portal.able:
        # The loop keeps no task alive by itself: the server's settings do.
        task = asyncio.get_event_loop().create_task(teller.run(server.log))
        server.web_app.settings["cupola_telling"] = task
    return teller
