"""The door of a session that is no Jupyter: who the hub lets in reaches the tool, with pages and websockets.

It stands on jupyter-server-proxy's handlers, which carry requests to the tool, and on JupyterHub's OAuth, but not on the
``jupyter-standaloneproxy`` that comes with them: up to 4.6 that one opens websockets without asking who is there, and
reports use at all times, so that nothing is ever idle.
"""

from __future__ import annotations

import asyncio
import html
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyter_server_proxy.handlers import LocalProxyHandler
from jupyterhub import __version__ as hub_version
from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from tornado import web
from tornado.log import app_log

from cupola.lab.app.activity import Activity, is_input
from cupola.lab.visits import Unanswered, Visits
from cupola.models.share import ShareAccess

if TYPE_CHECKING:
    from logging import Logger

    from tornado.httputil import HTTPHeaders

__all__ = ["ASK_AGAIN", "Visitors", "make_door"]

ASK_AGAIN = 30
"""Seconds for which the hub's answer about a visitor holds: who is shut out is out within the minute."""
WITHOUT_HUB = 600
"""Seconds for which a visitor known before may go on while the hub does not answer: it restarts, and sessions live on."""
LARGEST_MESSAGE = 64 * 2**20
LARGEST_BODY = 2**30
OURS = ("jupyterhub-", "cupola-", "_xsrf", "__Host-")
"""Cookies of the platform begin so: none of the tool's business, and with visitors not even the owner's."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Visitors:
    """Who is at the door, and whether the hub (still) lets them in.

    Parameters
    ----------
    sign_in
        The hub's OAuth as this session's environment describes it.
    visits
        What the portal allows visitors.
    """

    def __init__(self, sign_in: HubOAuth, visits: Visits) -> None:
        self.sign_in, self.visits = sign_in, visits
        self.inside: set[Door] = set()
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    async def identify(self, door: Door) -> dict[str, Any] | None:
        """Return the hub's answer for who is at the door, allowed or not; nothing where nobody is signed in.

        Raises
        ------
        HTTPError
            502 if the hub does not answer and the visitor is not known from before.
        """
        token = self.sign_in.get_token(door)
        try:
            model: dict[str, Any] | None = await self.sign_in.get_user(door, sync=False)
        except web.HTTPError as exc:
            model = self._remembered(token or "")
            if model is None:
                raise web.HTTPError(502, "the platform does not answer; try again in a minute") from exc
            return model
        if model is not None and token:
            self._known[token] = (time.monotonic(), model)
        return model

    def _remembered(self, token: str) -> dict[str, Any] | None:
        when, model = self._known.get(token, (-WITHOUT_HUB, None))
        return model if time.monotonic() - when < WITHOUT_HUB else None

    async def refusal(self, model: dict[str, Any]) -> str | None:
        """Return why somebody may not enter, in a sentence; nothing where they may.

        The hub's scopes have to name this very session; whoever is not its owner needs the portal's word too.
        """
        name, owner = str(model.get("name", "")), self.visits.owner
        outside = f"you are signed in as {name}, and this session is not shared with you; ask its owner"
        needed = self.sign_in.access_scopes
        if not needed or not self.sign_in.check_scopes(needed, model) or model.get("kind") != "user":
            return outside
        if name == owner:
            return None
        try:
            access = await self.visits.access(name)
        except Unanswered:
            return "the platform does not answer, so nobody can say whether you may be here; try again in a moment"
        if access is ShareAccess.VIEW:
            return f"this tool cannot be looked at without using it; ask {owner} for full access"
        return None if access is ShareAccess.FULL else outside

    async def look_again(self) -> None:
        """Close the websockets of those whom the hub lets in no longer."""
        for door in list(self.inside):
            token, session = self.sign_in.get_token(door), self.sign_in.get_session_id(door)
            try:
                model = await self.sign_in.user_for_token(token, session_id=session, sync=False)
            except web.HTTPError:
                continue  # The hub restarts: nobody is thrown out for that.
            if model is None or await self.refusal(model) is not None:
                self._known.pop(token, None)
                door.close(4403, "access to this session has ended")

    async def keep_looking(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            await asyncio.sleep(ASK_AGAIN / 2)
            await self.look_again()


class Door(HubOAuthenticated, LocalProxyHandler):  # type: ignore[misc]
    """Every request for a session: asked who it is, then carried to the tool."""

    def initialize(self, *, port: int, whole_paths: bool, visitors: Visitors, activity: Activity) -> None:
        """Take what all requests share."""
        self.tool_port, self.visitors, self.activity = port, visitors, activity
        self.hub_auth = visitors.sign_in
        self.absolute_url = whole_paths
        self.proxy_base = "/"

    async def prepare(self) -> None:
        """Let in whom the hub lets in, before anything else: pages, uploads and websockets alike."""
        if not self._from_here():
            raise web.HTTPError(403, "this was sent by a page of another site")
        model = await self.visitors.identify(self)
        if model is not None:
            reason = await self.visitors.refusal(model)
            if reason is None:
                self.current_user = model
                return
            # This sign-in would stay without access when a share is granted later: the next visit begins anew.
            self.hub_auth.clear_cookie(self)
            raise web.HTTPError(403, reason)
        mode = self.request.headers.get("Sec-Fetch-Mode", "navigate")
        if self._is_websocket or self.request.method not in {"GET", "HEAD"} or mode != "navigate":
            raise web.HTTPError(403, "sign in first: open the session from the platform's first page")
        self.redirect(self.get_login_url())

    @property
    def _is_websocket(self) -> bool:
        return bool(self.request.headers.get("Upgrade", "").lower() == "websocket")

    def _from_here(self) -> bool:
        """Return whether a request that can change something comes from a page of this address."""
        if self.request.method in READING and not self._is_websocket:
            return True
        origin = self.request.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == self.request.headers.get("Host")

    # -- what the handlers of jupyter-server-proxy ask for where there is no Jupyter server ------------------------

    @property
    def log(self) -> Logger:
        """Where the proxy's handlers write."""
        return app_log

    def set_default_headers(self) -> None:
        """Show the hub which version the sign-in is made for."""
        self.set_header("X-JupyterHub-Version", hub_version)

    def check_origin(self, origin: str | None = None) -> bool:  # noqa: ARG002
        """Say yes: `prepare` has looked, for all requests."""
        return True

    def check_xsrf_cookie(self) -> None:
        """Leave tokens in forms to the tool: `prepare` has looked where the request comes from."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with one sentence."""
        problem = kwargs.get("exc_info", (None, None, None))[1]
        text = problem.log_message if isinstance(problem, web.HTTPError) and problem.log_message else ""
        if status_code in {500, 599} and not isinstance(problem, web.HTTPError):
            text = "the tool of this session did not answer; reload, or look into the session's log"
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(f"<!doctype html><title>{status_code}</title><p>{html.escape(text or self._reason)}")

    def proxy_request_headers(self) -> HTTPHeaders:
        """Return the headers for the tool: without the visitor's keys to the platform."""
        headers: HTTPHeaders = super().proxy_request_headers()
        if self.hub_auth.auth_header_pat.match(headers.get("Authorization", "")):
            del headers["Authorization"]
        if "Cookie" in headers:
            headers["Cookie"] = own_cookies(headers["Cookie"])
        return headers

    # -- the ways in ------------------------------------------------------------------------------------------------

    async def http_get(self, path: str) -> None:
        """Carry a page's request."""
        await self.proxy(path)

    async def proxy(self, path: str) -> None:
        """Carry a request."""
        self.activity.note()
        await super().proxy(self.tool_port, path)

    head = post = put = delete = patch = options = proxy

    async def open(self, path: str) -> None:
        """Carry a websocket."""
        self.activity.note()
        self.visitors.inside.add(self)
        await super().open(self.tool_port, path)

    def on_message(self, message: str | bytes) -> None:
        """Carry what the browser says."""
        if is_input(self.request.path, message):
            self.activity.note()
        super().on_message(message)

    def on_close(self) -> None:
        """Forget a websocket that was closed."""
        self.visitors.inside.discard(self)
        super().on_close()


def own_cookies(text: str) -> str:
    """Return a ``Cookie`` header without the platform's cookies."""
    try:
        cookies = SimpleCookie(text)
    except CookieError:
        return ""
    return "; ".join(
        f"{name}={one.coded_value}" for name, one in cookies.items() if not name.startswith(OURS)
    )


def make_door(
    *, prefix: str, port: int, whole_paths: bool, visitors: Visitors, activity: Activity
) -> web.Application:
    """Return the application that answers on the session's port.

    Parameters
    ----------
    prefix
        ``/user/NAME/ID/``: what is not below it does not exist.
    port
        The tool's, on the loopback device.
    whole_paths
        Whether the tool knows its prefix and wants whole paths, instead of those below the prefix.
    visitors, activity
        Who is let in, and when the session was last used.
    """
    base = prefix.rstrip("/")
    shared = {"port": port, "whole_paths": whole_paths, "visitors": visitors, "activity": activity}
    return web.Application(
        [
            (f"{base}", web.RedirectHandler, {"url": f"{base}/"}),
            (f"{base}/oauth_callback", HubOAuthCallbackHandler),
            (f"{base}/(.*)", Door, shared),
        ],
        base_url=base,
        cookie_secret=secrets.token_bytes(32),  # signs the sign-in's cookie
        websocket_max_message_size=LARGEST_MESSAGE,
        websocket_ping_interval=30,
        log_function=_no_access_log,
    )


def _no_access_log(_handler: web.RequestHandler) -> None:
    """Leave the log to the tool: it is where people look for why it died."""
