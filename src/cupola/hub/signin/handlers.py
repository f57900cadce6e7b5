"""The pages of signing in, and the way to a provider and back."""

from __future__ import annotations

import hmac
import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from jupyterhub._xsrf_utils import _set_xsrf_cookie
from jupyterhub.handlers.login import LogoutHandler
from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import OAuthLoginHandler, _serialize_state
from tornado import web
from typing_extensions import override

from cupola.exceptions import ConflictError, CupolaError, InputError, LimitError, NotAllowedError
from cupola.hub.signin.forms import FormHandler, PageHandler, is_form
from cupola.hub.signin.names import LINK, LONGEST_LOGIN, folded
from cupola.models.address import safe_path

if TYPE_CHECKING:
    from cupola.hub.signin.authenticator import SignInAuthenticator
    from cupola.hub.signin.local import LocalMethod

__all__ = ["routes"]

PATH = "sign-in"
METHOD_COOKIE = "cupola-method"
"""Remembers the provider one signed in with, to name it when one signs out."""
_MINUTES_S = 600
"""A person has this long at the provider."""


class LoginHandler(PageHandler):
    """Where the hub sends people who are not signed in."""

    async def get(self) -> None:
        """Show all methods, or send on who is signed in."""
        user = self.current_user
        if user:
            self.set_login_cookie(user)
            self.redirect(self.get_next_url(user))
            return
        # Anew each time: a page that lay open over night must not refuse the form.
        _set_xsrf_cookie(self, self._xsrf_token_id, cookie_path=self.hub.base_url, xsrf_token=self.xsrf_token)
        problem, status = self.take_reason()
        await self.show_sign_in(problem=problem, status=status)


class LinkHandler(FormHandler):
    """The owner's link: opening it (GET) shows a page that sends itself (POST); only that uses the link up."""

    async def get(self) -> None:
        """Show the page that sends itself: a chat program that previews links does not use them up."""
        token = self.get_argument("token", "")
        if self.sign_in.links.peek(token) is None:
            await self.show("sign-in.html", state="closed", status=HTTPStatus.FORBIDDEN)
        else:
            await self.show("sign-in.html", state="open", token=token)

    async def post(self) -> None:
        """Use the link up and sign in."""
        form = self.read_form("token")
        user = await self.login_user({"method": LINK, "token": form["token"]})
        if user is None:
            await self.show("sign-in.html", state="closed", status=HTTPStatus.FORBIDDEN)
        else:
            self._jupyterhub_user = user
            self.redirect(self.get_next_url(user))


class EnterHandler(FormHandler):
    """The form for name and password."""

    def initialize(self, method: str) -> None:
        """Take the method of this address."""
        self.method = method

    def get(self) -> None:
        """Lead back to the page with the form: somebody loaded the answer again."""
        self.redirect(url_path_join(self.hub.base_url, "login"))

    async def post(self) -> None:
        """Sign in, or say why not."""
        form = self.read_form("username", "password")
        try:
            user = await self.login_user({"method": self.method, **form})
        except CupolaError as exc:
            await self.show_sign_in(
                problem=str(exc), status=exc.status, username=form["username"][:LONGEST_LOGIN]
            )
            return
        if user is None:
            await self.show_sign_in(
                problem="Name or password are wrong: type both once more.",
                status=HTTPStatus.FORBIDDEN,
                username=form["username"][:LONGEST_LOGIN],
            )
        else:
            self._jupyterhub_user = user
            self.redirect(self.get_next_url(user))


class _RemoteHandler(PageHandler):
    """What both ends of the way to a provider share."""

    def initialize(self, method: str) -> None:
        """Take the method of this address."""
        self.method = method

    @property
    def remote(self) -> Any:
        """The method."""
        return self.sign_in.methods[self.method]

    def _cookie(self, state: str) -> dict[str, Any]:
        """Return name and place of the cookie of one sign-in: two tabs do not spoil each other's."""
        secure = self._is_secure
        # Not "__Host-": that would send it to all sessions of this address too, where other people's code runs.
        prefix = "__Secure-" if secure else ""
        path = url_path_join(self.hub.base_url, PATH, self.method) + "/"
        return {"name": f"{prefix}cupola-sign-in-{state[:12]}", "path": path, "secure": secure}

    @property
    def _is_secure(self) -> bool:
        public = self.settings.get("public_url")
        return bool((public.scheme if public else self.request.protocol) == "https")


class StartHandler(_RemoteHandler, OAuthLoginHandler):  # type: ignore[misc]
    """Sends the browser to a provider."""

    @property
    def authenticator(self) -> Any:
        """The provider's client, which the library's handler asks for its addresses."""
        return self.remote.protocol

    @override
    async def refresh_auth(self, user: Any, force: bool = False) -> Any:
        return user  # nobody's rights are asked for here

    async def get(self) -> None:
        """Send it, with a state, a proof key and a nonce that this browser keeps."""
        try:
            await self.remote.ready()
        except CupolaError as exc:
            await self.show_sign_in(problem=str(exc), status=HTTPStatus.BAD_GATEWAY)
            return
        state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        verifier, challenge = self._generate_pkce_params()
        kept = {"state": state, "verifier": verifier, "nonce": nonce, "next": self.wanted_page}
        cookie = self._cookie(state)
        self.set_secure_cookie(
            cookie["name"],
            json.dumps(kept),
            expires_days=None,
            max_age=_MINUTES_S,
            path=cookie["path"],
            secure=cookie["secure"],
            httponly=True,
            samesite="Lax",
        )
        more = {"state": state, "code_challenge": challenge, "code_challenge_method": "S256"}
        if self.remote.wants_nonce:
            more["nonce"] = nonce
        self.authorize_redirect(
            redirect_uri=self.authenticator.get_callback_url(self),
            client_id=self.authenticator.client_id,
            scope=self.authenticator.scope,
            extra_params={**self.authenticator.extra_authorize_params, **more},
            response_type="code",
        )


class CallbackHandler(_RemoteHandler):
    """Where a provider sends the browser back to."""

    async def get(self) -> None:
        """Sign in, or say why not."""
        try:
            kept = self._begun()
            self._check_answer()
            self.kept = kept
            user = await self._login(kept["nonce"])
        except CupolaError as exc:
            # Not on this page: its address holds the code.
            self.keep_reason(str(exc), exc.status)
            self.redirect(url_path_join(self.hub.base_url, "login"))
            return
        self._jupyterhub_user = user
        self._remember_provider()
        self.redirect(safe_path(kept["next"], self.base_url) or str(self.default_url))

    def _begun(self) -> dict[str, str]:
        """Return what this browser kept of the sign-in, once: a second answer finds nothing.

        Raises
        ------
        NotAllowedError
            It began none, or too long ago.
        """
        state = self.get_argument("state", "")
        cookie = self._cookie(state)
        raw = self.get_secure_cookie(cookie["name"], max_age_days=_MINUTES_S / 86400)
        self.clear_cookie(cookie["name"], path=cookie["path"])
        try:
            kept: dict[str, str] = json.loads(raw or b"{}")
        except ValueError:
            kept = {}
        if not state or not hmac.compare_digest(kept.get("state", "").encode(), state.encode()):
            raise NotAllowedError(
                "This sign-in was not begun in this browser, or too long ago: begin it again."
            )
        return kept

    def _check_answer(self) -> None:
        title = self.remote.settings.called
        error = self.get_argument("error", "")
        if error:
            log = self.sign_in.log
            log.warning("%s answers a sign-in with %r", title, error[:80])
            if error == "access_denied":
                raise NotAllowedError(
                    f"You did not agree at {title}: begin the sign-in again if you want to come in."
                )
            raise NotAllowedError(f"{title} refused the sign-in: tell an administrator.")
        if not self.get_argument("code", ""):
            raise NotAllowedError(f"{title} sent no code: begin the sign-in again.")
        self.remote.check_issuer(self.get_argument("iss", ""))

    async def _login(self, nonce: str) -> Any:
        title = self.remote.settings.called
        try:
            user = await self.login_user({"method": self.method, "nonce": nonce})
        except CupolaError:
            raise
        except Exception as exc:
            # A provider answers whatever it likes: nothing of it reaches the page.
            raise self.sign_in.remote_error(exc, title) from exc
        if user is None:
            raise NotAllowedError(f"{title} did not confirm who you are: begin the sign-in again.")
        return user

    def get_state_cookie(self) -> str:
        """Return what the library's client looks for: the proof key."""
        return str(_serialize_state({"code_verifier": self.kept["verifier"]}))

    def _remember_provider(self) -> None:
        self.set_secure_cookie(
            METHOD_COOKIE,
            self.method,
            expires_days=30,
            path=self.hub.base_url,
            secure=self._is_secure,
            httponly=True,
            samesite="Lax",
        )


class SignUpHandler(FormHandler):
    """Asks for an account of this platform."""

    @property
    def local(self) -> LocalMethod:
        """The accounts of this platform."""
        local = self.sign_in.local
        if local is None or not local.settings.sign_up:
            raise web.HTTPError(HTTPStatus.NOT_FOUND)
        return local

    async def get(self) -> None:
        """Show the form."""
        await self.show("sign-up.html", length=self.local.settings.password_length)

    async def post(self) -> None:
        """Make the account, which waits from now on, or say why not."""
        local, form = self.local, self.read_form("username", "password", "again")
        name = folded(form["username"].strip())
        try:
            await self._create(local, name, form)
        except CupolaError as exc:
            await self.show(
                "sign-up.html",
                problem=str(exc),
                status=exc.status,
                username=name[:64],
                length=local.settings.password_length,
            )
            return
        self.sign_in.log.warning("%s asks for an account", name)
        await self.show("sign-up.html", done=True, username=name)

    async def _create(self, local: LocalMethod, name: str, form: dict[str, str]) -> None:
        address = str(self.request.remote_ip)
        if wait := local.sign_ups.wait(address):
            raise LimitError(f"Many accounts were asked for from here: wait {int(wait) + 1} seconds.")
        local.sign_ups.failed(address)
        if not hmac.compare_digest(form["password"].encode(), form["again"].encode()):
            raise InputError("The two passwords differ: type both once more.")
        if self.find_user(name) is not None or local.has(name):
            raise ConflictError(f'The name "{name[:64]}" is taken: choose another one.')
        await local.create(name, form["password"])
        try:
            self.sign_in.admission.people.ask(local.identity(name), name)
        except CupolaError:
            local.discard(name)
            raise


class PasswordHandler(FormHandler):
    """Changes one's password, or sets the first one."""

    @property
    def local(self) -> LocalMethod:
        """The accounts of this platform."""
        if self.sign_in.local is None:
            raise web.HTTPError(HTTPStatus.NOT_FOUND)
        return self.sign_in.local

    async def get(self) -> None:
        """Show the form."""
        if self.current_user is None:
            self.redirect(url_path_join(self.hub.base_url, "login"))
            return
        await self._show()

    async def _show(self, **content: Any) -> None:
        local = self.local
        has = local.has(self.current_user.name)
        await self.show("password.html", has=has, length=local.settings.password_length, **content)

    async def post(self) -> None:
        """Change it; every other browser has to sign in again."""
        local, form = self.local, self.read_form("old", "password", "again")
        user = self.current_user
        if user is None:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, "Sign in first.")
        try:
            if not hmac.compare_digest(form["password"].encode(), form["again"].encode()):
                raise InputError("The two passwords differ: type both once more.")
            self._may_have_account(local, user.name)
            await local.change_password(user.name, form["old"], form["password"])
        except CupolaError as exc:
            await self._show(problem=str(exc), status=exc.status)
            return
        self._end_other_logins(user)
        await self._show(done=True)

    def _may_have_account(self, local: LocalMethod, name: str) -> None:
        people = self.sign_in.admission.people
        identity = local.identity(name)
        known = people.of(identity)
        if known is None:
            people.bind(identity, name, create=False)
        elif known.name != name:
            raise ConflictError(f'The account "{name}" is somebody else\'s: ask an administrator.')

    def _end_other_logins(self, user: Any) -> None:
        from jupyterhub import orm

        user.orm_user.cookie_id = orm.new_token()
        session = self.get_session_cookie()
        for token in list(user.orm_user.api_tokens):
            # Logins of browsers have a session; what servers and programs hold has none.
            if token.session_id and token.session_id != session:
                self.db.delete(token)
        self.db.commit()
        self.set_hub_cookie(user)


class SignOutHandler(PageHandler, LogoutHandler):  # type: ignore[misc]
    """Ends a login, and says where one is signed in still."""

    @override
    async def render_logout_page(self) -> None:
        name = (self.get_secure_cookie(METHOD_COOKIE) or b"").decode(errors="replace")
        self.clear_cookie(METHOD_COOKIE, path=self.hub.base_url)
        method = self.sign_in.methods.get(name)
        await self.show(
            "logout.html",
            provider=method.settings.called if method else "",
            provider_sign_out=getattr(method, "sign_out_address", ""),
        )


def routes(authenticator: SignInAuthenticator) -> list[tuple[Any, ...]]:
    """Return the pages of `authenticator`."""
    found: list[tuple[Any, ...]] = [
        ("/login", LoginHandler),
        ("/logout", SignOutHandler),
        (f"/{PATH}", LinkHandler),
        ("/sign-up", SignUpHandler),
        ("/password", PasswordHandler),
    ]
    for name, method in authenticator.methods.items():
        given = {"method": name}
        if is_form(method):
            found.append((f"/{PATH}/{name}", EnterHandler, given))
        else:
            found.append((f"/{PATH}/{name}/start", StartHandler, given))
            found.append((f"/{PATH}/{name}/callback", CallbackHandler, given))
    return found
