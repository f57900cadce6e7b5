"""What the pages of signing in share: short forms, strict headers, one page."""

from __future__ import annotations

import base64
import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httputil import parse_body_arguments
from typing_extensions import override

from cupola.models.address import safe_path

if TYPE_CHECKING:
    from cupola.hub.signin.authenticator import SignInAuthenticator

__all__ = ["FormHandler", "PageHandler"]

REASON_COOKIE = "cupola-reason"
LARGEST_FORM = 8192
"""In bytes."""


class PageHandler(BaseHandler):  # type: ignore[misc]
    """Shows the pages of signing in."""

    @property
    def sign_in(self) -> SignInAuthenticator:
        """The hub's authenticator, also where a handler shows a method's own as ``authenticator``."""
        found: SignInAuthenticator = self.settings["authenticator"]
        return found

    @override
    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.nonce = base64.b64encode(secrets.token_bytes(16)).decode()
        own = f"'nonce-{self.nonce}'"
        self.set_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src {own}; style-src {own}; font-src 'self'; img-src 'self' data:; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )
        # An address may hold a code or the token of a link: no other site learns it, and no cache keeps the page.
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    async def show(self, template: str, *, status: int = HTTPStatus.OK, **content: Any) -> None:
        """Send a page."""
        self.set_status(status)
        self.finish(
            await self.render_template(
                template,
                nonce=self.nonce,
                xsrf=self.xsrf_token.decode("ascii"),
                place=lambda *parts: url_path_join(self.hub.base_url, *parts),
                contact=self.sign_in.admission.settings.contact,
                **content,
            )
        )

    async def show_sign_in(self, *, problem: str = "", status: int = HTTPStatus.OK, **content: Any) -> None:
        """Send the page with all methods; `problem` says why somebody is back on it."""
        methods = list(self.sign_in.methods.values())
        given = {
            "state": "choose",
            "problem": problem,
            "next": self.wanted_page,
            "username": "",
            "forms": [method.settings for method in methods if is_form(method)],
            "buttons": [method.settings for method in methods if not is_form(method)],
            "sign_up": self.sign_in.local is not None and self.sign_in.local.settings.sign_up,
        }
        await self.show("sign-in.html", status=status, **(given | content))

    def keep_reason(self, problem: str, status: int) -> None:
        """Let the sign-in page say `problem`, once, and answer with `status`."""
        self._set_cookie(
            REASON_COOKIE, json.dumps([problem, int(status)]), path=self.hub.base_url, max_age=60
        )

    def take_reason(self) -> tuple[str, int]:
        """Return what an earlier page kept for this one."""
        raw = self.get_secure_cookie(REASON_COOKIE)
        if raw is None:
            return "", HTTPStatus.OK
        self.clear_cookie(REASON_COOKIE, path=self.hub.base_url)
        problem, status = json.loads(raw)
        return problem, status

    @property
    def wanted_page(self) -> str:
        """Where the person wanted to go; empty where they named nothing, or something that is not ours."""
        named = self.get_argument("next", "")
        inside = self._validate_next_url(named) if len(named) < LARGEST_FORM else ""
        return safe_path(inside, self.base_url) or "" if inside else ""

    @override
    def get_next_url(self, user: Any = None, default: str | None = None) -> str:
        return self.wanted_page or default or str(self.default_url)


def is_form(method: Any) -> bool:
    """Tell whether a method is a form on our own page."""
    return not hasattr(method, "protocol") or not hasattr(method.protocol, "authorize_url")


@web.stream_request_body
class FormHandler(PageHandler):
    """Takes a short form; what is longer is refused before it has come in."""

    @override
    async def prepare(self) -> None:
        self._body = bytearray()
        self._complete = False
        self.request.connection.set_max_body_size(LARGEST_FORM)
        if int(self.request.headers.get("Content-Length") or 0) > LARGEST_FORM:
            raise web.HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This is more than the form holds.")
        await super().prepare()

    @override
    def data_received(self, chunk: bytes) -> None:
        self._body += chunk

    def read_form(self, *names: str) -> dict[str, str]:
        """Return the fields of the form, once they have come from our own page."""
        parse_body_arguments(
            self.request.headers.get("Content-Type", ""),
            bytes(self._body),
            self.request.body_arguments,
            self.request.files,
        )
        for name, values in self.request.body_arguments.items():
            self.request.arguments.setdefault(name, []).extend(values)
        self._complete = True
        self.check_xsrf_cookie()
        return {name: self.get_body_argument(name, "", strip=False) for name in names}

    @override
    def check_xsrf_cookie(self) -> None:
        if not getattr(self, "_complete", False):
            return  # the token stands in the form, which has not come in yet
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as exc:
            raise web.HTTPError(
                HTTPStatus.FORBIDDEN,
                "This page was opened too long ago or cookies are switched off: go back, load it again and try once more.",
            ) from exc
