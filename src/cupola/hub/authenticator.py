"""Signing in with a one-time link.

Opening the link (GET) shows a page that sends itself (POST); only that uses the link up, so that a chat program which
previews links does not.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_path_join
from tornado import web
from traitlets import Unicode
from typing_extensions import override

from cupola.hub.links import Links

__all__ = ["LinkAuthenticator", "LoginHandler", "SignInHandler"]

PATH = "sign-in"


class LinkAuthenticator(Authenticator):  # type: ignore[misc]
    """Lets in whoever holds a link that was made on this machine."""

    links_folder = Unicode(config=True, help="The folder with the links.")

    @property
    def links(self) -> Links:
        """The links that are open."""
        return Links(Path(self.links_folder))

    @override
    async def authenticate(self, handler: BaseHandler, data: dict[str, str]) -> str | None:
        """Use the link up and return whom it signs in."""
        return self.links.use(data.get("token", ""))

    @override
    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler]]]:
        return [("/login", LoginHandler), (f"/{PATH}", SignInHandler)]


class _PageHandler(BaseHandler):  # type: ignore[misc]
    """Shows the one page of signing in."""

    async def show(self, state: str, *, status: int = HTTPStatus.OK, token: str = "") -> None:
        """Send the page: ``state`` is ``open``, ``closed`` (used or expired) or ``none`` (no link was opened)."""
        self.set_status(status)
        # The address holds the token: no other site learns it, and no cache keeps the page.
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.finish(
            await self.render_template(
                "sign-in.html",
                state=state,
                token=token,
                action=url_path_join(self.hub.base_url, PATH),
                xsrf=self.xsrf_token.decode("ascii"),
            )
        )


class LoginHandler(_PageHandler):
    """Where the hub sends people who are not signed in: says how to get a link."""

    async def get(self) -> None:
        """Show the page, or send on who is signed in."""
        user = self.current_user
        if user:
            self.set_login_cookie(user)
            self.redirect(self.get_next_url(user))
        else:
            await self.show("none")


class SignInHandler(_PageHandler):
    """The link itself."""

    async def get(self) -> None:
        """Show the page that sends itself."""
        token = self.get_argument("token", "")
        if self.authenticator.links.peek(token) is None:
            await self.show("closed", status=HTTPStatus.FORBIDDEN)
        else:
            await self.show("open", token=token)

    async def post(self) -> None:
        """Use the link up and sign in."""
        user = await self.login_user({"token": self.get_body_argument("token", "")})
        if user is None:
            await self.show("closed", status=HTTPStatus.FORBIDDEN)
        else:
            self._jupyterhub_user = user
            self.redirect(self.get_next_url(user))

    @override
    def check_xsrf_cookie(self) -> None:
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as exc:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN,
                "This page was opened too long ago or cookies are switched off; open the sign-in link again.",
            ) from exc
