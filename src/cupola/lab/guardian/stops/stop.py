"""The way of the Lab to planned stops: what the session knows of one, and what its owner wishes.

The browser sends the Jupyter server's own cookie and never sees the portal's token.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.httpclient import HTTPClientError
from typing_extensions import override

from cupola.lab.guardian.stops.telling import watch

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

    from cupola.lab.guardian.stops.telling import Teller

__all__ = ["handlers", "start"]

SETTING = "cupola_teller"
LONGEST_WAIT_S = 25.0
WISHES = ("keep", "hibernate")
SECONDS = 20.0
_NO_ANSWER = "The platform does not answer now: try again in a moment. Your session goes on."
_NO_SESSION = "This Jupyter server is no session of the platform."
_PAGE = re.compile(r"[A-Za-z0-9-]{1,64}")


class StopHandler(APIHandler):
    """Tells of a planned stop, and passes on what the owner wishes."""

    auth_resource = "cupola_stop"
    # A Lab that asks now and then must not keep a forgotten session alive: what a person did is told apart.
    _track_activity = False

    @property
    def teller(self) -> Teller | None:
        """Who speaks with the portal."""
        found: Teller | None = self.settings.get(SETTING)
        return found

    @override
    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the planned stop or null; held back for at most ``wait`` seconds until that changes.

        ``idle`` says how many seconds ago somebody used the page, and ``page`` which one it is.
        """
        if (teller := self.teller) is None:
            self._answer(None)
            return
        idle, page = self._number("idle"), self._page(self.get_query_argument("page", ""))
        if idle is not None:
            teller.looker.person(idle)
        teller.note_page(page)
        if wait := self._number("wait"):
            await teller.wait(min(wait, LONGEST_WAIT_S))
            teller.note_page(page)
        plan = teller.plan
        self._answer(plan and plan.model_dump(mode="json"))

    @override
    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Put the stop off (``keep``), hibernate now, or say that a page has ``saved``; the XSRF token was checked."""
        body = self.get_json_body() or {}
        wish = body.get("wish")
        if wish == "saved":
            if self.teller is not None:
                self.teller.saved(self._page(str(body.get("page", ""))))
            self._answer({"wish": wish})
            return
        if wish not in WISHES:
            raise web.HTTPError(400, 'the field "wish" must be "keep" or "hibernate"')
        if self.teller is None or not self.teller.portal.able:
            self._problem(503, _NO_SESSION)
            return
        self.teller.looker.person()
        await self._pass_on(self.teller, wish)

    async def _pass_on(self, teller: Teller, wish: str) -> None:
        try:
            await teller.portal.ask("POST", wish, seconds=SECONDS)
        except HTTPClientError as error:
            self._problem(*_said(error))
            return
        except OSError:
            self._problem(503, _NO_ANSWER)
            return
        if wish == "keep":
            teller.hear(None)
        # What else has changed is heard at once, or soon.
        with contextlib.suppress(HTTPClientError, OSError, ValueError):
            await teller.tell()
        self._answer({"wish": wish})

    def _number(self, name: str) -> float | None:
        text = self.get_query_argument(name, "")
        try:
            number = float(text) if text else None
        except ValueError:
            raise web.HTTPError(400, f"{name} is a number of seconds") from None
        if number is not None and not 0 <= number < float("inf"):
            raise web.HTTPError(400, f"{name} is a number of seconds")
        return number

    def _page(self, said: str) -> str:
        return said if _PAGE.fullmatch(said) else ""

    def _answer(self, told: Any) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(told))

    def _problem(self, status: int, detail: str) -> None:
        self.set_status(status)
        self._answer({"problem": detail})


def _said(error: HTTPClientError) -> tuple[int, str]:
    """Return what the portal said when it refused."""
    if error.response is None or error.code in range(300, 400) or error.code >= 500:  # noqa: PLR2004
        return 503, _NO_ANSWER
    with contextlib.suppress(ValueError, AttributeError):
        detail = json.loads(error.response.body).get("detail")
        if isinstance(detail, str) and detail:
            return error.code, detail
    return error.code, "The platform refuses this: open its page of sessions to see how yours stands."


def handlers(base_url: str) -> list[tuple[Any, ...]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    return [(rf"{re.escape(base_url)}cupola/api/guardian/stop", StopHandler)]


def start(server: ServerApp) -> None:
    """Begin to tell the portal what goes on.

    Parameters
    ----------
    server
        The Jupyter server.
    """
    server.web_app.settings[SETTING] = watch(server)
