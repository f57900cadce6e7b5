"""Who gets into a session's Jupyter server, and what visitors may do there.

The hub lets people through to a session; the portal says what they may do. Whoever may only look is kept to a short
list of addresses: what an extension of the server adds, or forgets to protect, is not on it.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from typing import TYPE_CHECKING, Any

from jupyter_server.auth import Authorizer
from jupyterhub.services.auth import HubOAuth, _ExpiringDict
from jupyterhub.singleuser.extension import JupyterHubIdentityProvider
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler
from traitlets import default
from typing_extensions import override

from cupola.lab.visits import ASK_AGAIN_S, Unanswered, Visits
from cupola.models.share import ShareAccess

if TYPE_CHECKING:
    from jupyter_server.base.handlers import JupyterHandler

__all__ = ["Doorkeeper", "ViewersRead", "may_be_viewed"]

_OUT = "You are signed out, or not let in any more."
_CLOSED = 1008
"""Of a websocket: against the rules."""
_LAB = r"lab(/(tree(/.*)?|workspaces/.*|doc(/.*)?|extensions/.*|metadata/.*))?"
_LAB_API = r"lab/api/(settings|themes|translations|workspaces|listings)(/.*)?"
_SERVER_API = r"api(/(me|status|contents(/.*)?|kernelspecs|kernels(/[0-9a-f-]{36})?|sessions(/[0-9a-f-]{36})?|config/.*|events/subscribe))?"
_VIEWED = re.compile(
    rf"|{_LAB}|{_LAB_API}|{_SERVER_API}|cupola/api/guardian|static/.*|kernelspecs/.*|custom/.*|files/.*|favicon\.ico|oauth_callback|logout"
)
_READING = {"GET", "HEAD", "OPTIONS"}


def may_be_viewed(method: str, path: str) -> bool:
    """Return whether whoever may only look may ask this of the server.

    Parameters
    ----------
    method, path
        Of the request; `path` below the server's own.
    """
    return method in _READING and _VIEWED.fullmatch(path.strip("/")) is not None


class _Answers(_ExpiringDict):  # type: ignore[misc] # JupyterHub publishes no types
    """The hub's answers about who holds a token: those about the owner for long, all others for seconds.

    An owner's session goes on while the hub restarts; a visitor who is shut out is out soon.
    """

    def __init__(self, owner: str, seconds: int) -> None:
        super().__init__(seconds)
        self._owner = owner
        self._others = _ExpiringDict(int(ASK_AGAIN_S))

    def __getitem__(self, key: str) -> Any:
        return self._others[key] if key in self._others else super().__getitem__(key)

    def __setitem__(self, key: str, answer: Any) -> None:
        if isinstance(answer, dict) and answer.get("name") == self._owner:
            super().__setitem__(key, answer)
        else:
            self._others[key] = answer


class Doorkeeper(JupyterHubIdentityProvider):  # type: ignore[misc] # JupyterHub publishes no types
    """Lets in whom hub and portal let in, and closes what visitors have open when that ends."""

    @default("hub_auth")
    def _default_hub_auth(self) -> HubOAuth:
        hub = HubOAuth(parent=self)
        hub.cache = _Answers(self.visits.owner, hub.cache_max_age)
        return hub

    @property
    def visits(self) -> Visits:
        """What visitors may do."""
        if not hasattr(self, "_visits"):
            self._visits = Visits()
            self._inside: weakref.WeakKeyDictionary[JupyterHandler, Any] = weakref.WeakKeyDictionary()
            self._rounds: asyncio.Task[None] | None = None
        return self._visits

    @override
    async def get_user(self, handler: JupyterHandler) -> Any:
        """Return who sent a request; raise 403 for a visitor who may not do this."""
        user = await super().get_user(handler)
        if user is None:
            if getattr(handler, "_cached_hub_user", None) is not None:
                # Signed in, and not let in. This sign-in would stay without access when a share is granted later:
                # the next visit begins with a new one.
                self.hub_auth.clear_cookie(handler)
            return None
        if self._is_owner(user):
            return user
        refusal = await self._refusal(handler, user)
        if refusal is not None:
            # Else the page of the error cannot be made.
            handler.current_user = handler._jupyter_current_user = None  # noqa: SLF001 - as it does itself
            self.log.warning(
                "%s is refused %s %s", user.username, handler.request.method, handler.request.path
            )
            raise HTTPError(403, refusal)
        self._inside[handler] = user
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._look_after_visitors())
        return user

    def _is_owner(self, user: Any) -> bool:
        # A service of the hub may have the name of a person.
        return bool(user.hub_user.get("kind") == "user" and user.username == self.visits.owner)

    async def _refusal(self, handler: JupyterHandler, user: Any) -> str | None:
        """Return why a visitor may not do this, in a sentence; nothing where it is allowed."""
        owner = self.visits.owner
        outside = f"This session of {owner} is not shared with you, or not any more: ask {owner} for access."
        if user.hub_user.get("kind") != "user":
            return outside
        try:
            user.access = await self.visits.access(user.username)
        except Unanswered:
            return "The platform does not answer, so nobody can say whether you may be here: try again in a moment."
        if user.access is None:
            return outside
        if user.access is ShareAccess.FULL:
            return None
        path = handler.request.path.removeprefix(handler.base_url)
        if may_be_viewed(str(handler.request.method), path):
            return None
        return f"You may look at this session and change or run nothing in it: ask {owner} for full access."

    async def _look_after_visitors(self) -> None:
        """Close what visitors have open and may not have open any more, until nothing is open."""
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            open_ones = [(handler, user) for handler, user in self._inside.items() if not _is_over(handler)]
            if not open_ones:
                return
            await asyncio.gather(*(self._check(handler, user) for handler, user in open_ones))

    async def _check(self, handler: JupyterHandler, user: Any) -> None:
        try:
            refusal = await self._refusal(handler, user) if await self._still_let_in(handler, user) else _OUT
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody knows any more whether they may stay
            self.log.warning("nobody can say whether a visitor may stay: %s", error)
            refusal = "The platform does not answer: come back in a moment."
        if refusal is not None:
            self.log.info("closing %s of %s: %s", handler.request.path, user.username, refusal)
            _close(handler, refusal)

    async def _still_let_in(self, handler: JupyterHandler, user: Any) -> bool:
        """Ask the hub once more who is behind an open connection."""
        hub = self.hub_auth
        token = hub.get_token(handler)
        session = hub.get_session_id(handler)
        found = token and await hub.user_for_token(token, session_id=session, sync=False)
        return bool(found and found["name"] == user.username and hub.check_scopes(hub.access_scopes, found))


class ViewersRead(Authorizer):
    """Lets whoever may only look do nothing but read, also at addresses that are open to them."""

    @override
    def is_authorized(self, handler: JupyterHandler, user: Any, action: str, resource: str) -> bool:
        """Return whether `user` may do this; who else may be here was decided before."""
        return getattr(user, "access", ShareAccess.FULL) is ShareAccess.FULL or action == "read"


def _is_over(handler: JupyterHandler) -> bool:
    if isinstance(handler, WebSocketHandler) and handler.ws_connection is not None:
        return bool(handler.ws_connection.is_closing())
    # A websocket takes the stream away from its request when it opens.
    stream = getattr(handler.request.connection, "stream", None)
    return handler._finished or stream is None or bool(stream.closed())  # noqa: SLF001 - there is no other way


def _close(handler: JupyterHandler, reason: str) -> None:
    if isinstance(handler, WebSocketHandler):
        # A websocket's frame has room for 123 bytes of it.
        handler.close(_CLOSED, reason[:100])
    elif (stream := getattr(handler.request.connection, "stream", None)) is not None:
        stream.close()
