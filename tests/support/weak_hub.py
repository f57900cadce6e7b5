"""A hub whose defences of signing in are taken away, in its own process and by this file alone.

Rows 30 to 33 of the matrix send it the same attacks as the hub as it is: where they succeed here, a test that counts
them would have noticed. Nothing of the product knows a switch for any of this.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from support.oidc import CLIENT, SECRET, OpenID
from support.signin import Browser, Hub

__all__ = ["Weak", "weak_hub", "weaken"]


@dataclass
class Weak:
    """The hub without defences, and its provider."""

    hub: Hub
    institute: OpenID

    @contextlib.contextmanager
    def browser(self):
        """Give a browser that nobody has used; the provider tells the truth before and afterwards."""
        self.institute.person = {"sub": "1001", "preferred_username": "edwin"}
        self.institute.bend = {}
        one = Browser(self.hub)
        try:
            yield one
        finally:
            one.close()
            self.institute.bend = {}


@pytest.fixture(scope="session")
def weak_hub(tmp_path_factory):
    """One for all rows; nobody needs to be on its list."""
    institute = OpenID()
    folder = tmp_path_factory.mktemp("weak-hub")
    (folder / "secret").write_text(SECRET)
    (folder / "people.txt").write_text("institute:edwin\n")
    hub = Hub(
        folder,
        "  allow_list: people.txt\n  methods:\n    - kind: local\n"
        f"    - kind: oidc\n      name: institute\n      client_id: {CLIENT}\n      client_secret_file: secret\n"
        f"      url: {institute.url}\n",
        more="from support.weak_hub import weaken\nweaken()\n",
    )
    try:
        hub.start()
        yield Weak(hub, institute)
    finally:
        hub.stop()
        institute.close()


def weaken() -> None:
    """Take all of them away; runs in the hub's process, from its configuration."""
    _redirects()
    _providers()
    _people()
    _guesses()


def _redirects() -> None:
    """Row 30: send a browser wherever ``next`` says."""
    from cupola.hub.signin import forms, handlers

    forms.PageHandler.wanted_page = property(lambda self: self.get_argument("next", "", strip=False))
    handlers.safe_path = lambda path, *_: path


def _providers() -> None:
    """Row 31: believe what comes back, whoever sent it, as a client does that looks at the user-info page alone."""
    from cupola.hub.signin import handlers, openid
    from cupola.hub.signin.admission import Proof
    from cupola.hub.signin.names import Identity

    async def verified(_self: Any, token: Any, _nonce: str) -> dict[str, Any]:
        return jwt.decode(token, options={"verify_signature": False, "verify_sub": False}) | {"sub": "1001"}

    async def page(self: Any, answer: dict[str, Any], _subject: str) -> dict[str, Any]:
        headers = self.protocol.build_userdata_request_headers(answer["access_token"], "Bearer")
        return await self.protocol.httpfetch(
            self._metadata["userinfo_endpoint"], method="GET", headers=headers
        )

    def proof(self: Any, claims: dict[str, Any]) -> Proof:
        login = str(claims.get("preferred_username"))
        return Proof(Identity(self.settings.known_as, self.issuer, claims["sub"], login))

    def begun(self: Any) -> dict[str, str]:
        name = next(each for each in self.request.cookies if "cupola-sign-in-" in each)
        self.clear_cookie(name, path=self._cookie("")["path"])
        return handlers.json.loads(self.get_secure_cookie(name))

    openid.OpenIDMethod.verified = verified
    openid.OpenIDMethod._more = page
    openid.OpenIDMethod._proof = proof
    openid.OpenIDMethod.check_issuer = lambda *_: None
    handlers.CallbackHandler._begun = begun
    handlers.CallbackHandler._check_answer = lambda _: None


def _people() -> None:
    """Rows 31 and 32: everybody may come in by their login alone, and stays for ever."""
    from cupola.hub.signin import admission, authenticator, guard
    from cupola.hub.signin.names import name_for

    async def stays(*_: Any) -> bool:
        return True

    async def blind(_: Any) -> None:
        pass

    admission.Admission.enter = lambda _, proof: admission.Entrance(name_for(proof.identity.login), False)
    authenticator.SignInAuthenticator.check_allowed = lambda *_, **__: True
    authenticator.SignInAuthenticator.refresh_user = stays
    guard.Guard.look = blind


def _guesses() -> None:
    """Row 33: no wait after a wrong guess, forms of any length, and names in the log as they came."""
    from cupola.hub.signin import forms, handlers, throttle

    class Loud(handlers.EnterHandler):
        def read_form(self, *names: str) -> dict[str, str]:
            form = super().read_form(*names)
            self.log.warning("Somebody comes as %r", form["username"])
            return form

    throttle.Throttle.wait = lambda *_: 0.0
    forms.LARGEST_FORM = 2**22
    handlers.EnterHandler = Loud
