"""The ways to show who one is. The field's own libraries speak the protocols; here their answers become a `Proof`."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from oauthenticator.github import GitHubOAuthenticator
from oauthenticator.gitlab import GitLabOAuthenticator

from cupola.config import MethodKind
from cupola.exceptions import NotAllowedError
from cupola.hub.signin.admission import Proof
from cupola.hub.signin.custom import make_custom
from cupola.hub.signin.local import LocalMethod
from cupola.hub.signin.names import LONGEST_LOGIN, Identity
from cupola.hub.signin.openid import OpenIDMethod

if TYPE_CHECKING:
    from jupyterhub.auth import Authenticator
    from jupyterhub.handlers.base import BaseHandler
    from oauthenticator.oauth2 import OAuthenticator

    from cupola.config import MethodSettings

__all__ = ["FormMethod", "Method", "RemoteMethod", "make_method"]

log = logging.getLogger("JupyterHub.sign-in")

_DEVELOPER = 30
_GUEST = 10
"""GitLab's numbers for what members of projects and groups may do."""


class Method(Protocol):
    """One way to sign in."""

    settings: MethodSettings

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:
        """Find out who came; nothing where they showed nothing that counts.

        Raises
        ------
        NotAllowedError
            With a sentence for the person.
        """


class RemoteMethod(Method, Protocol):
    """A method whose page lies at a provider."""

    protocol: OAuthenticator

    async def ready(self) -> None:
        """Learn the provider's addresses."""

    @property
    def wants_nonce(self) -> bool:
        """Whether the provider repeats a nonce."""

    @property
    def sign_out_address(self) -> str:
        """Where one signs out at the provider; empty where there is no such page."""

    def check_issuer(self, named: str) -> None:
        """Refuse an answer that names another issuer."""


class FormMethod(Method, Protocol):
    """A method with a form for name and password on our page."""


class _Remote:
    """What GitHub and GitLab share."""

    wants_nonce = False
    sign_out_address = ""

    def __init__(self, settings: MethodSettings, protocol: OAuthenticator) -> None:
        self.settings = settings
        self.protocol = protocol

    async def ready(self) -> None:
        """Do nothing: the addresses are known."""

    def check_issuer(self, named: str) -> None:
        """Do nothing: these name none."""

    async def _user(self, handler: BaseHandler) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the provider says of the person, and the whole answer."""
        model = await self.protocol.authenticate(handler, None)
        return model["auth_state"][self.protocol.user_auth_state_key], model

    def _identity(self, issuer: str, number: object, login: object) -> Identity:
        # A number is for ever, a login changes hands: without the number nobody is anybody.
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise NotAllowedError(f"{self.settings.called} did not say who you are: try again.")
        if not isinstance(login, str) or not login or len(login) > LONGEST_LOGIN:
            raise NotAllowedError(f"{self.settings.called} did not say what you are called: try again.")
        return Identity(self.settings.known_as, issuer, str(number), login)

    async def _ask(self, address: str, model: dict[str, Any]) -> Any:
        """Ask the provider's API as the person; nothing where it answers anything but 200."""
        token = model["auth_state"]["token_response"]["access_token"]
        answer = await self.protocol.httpfetch(
            address,
            parse_json=False,
            raise_error=False,
            method="GET",
            headers=self.protocol.build_userdata_request_headers(token, "Bearer"),
        )
        if answer.code != HTTPStatus.OK:
            return None
        return json.loads(answer.body)


class GitHubMethod(_Remote):
    """An account at GitHub, or at one's own GitHub server."""

    def __init__(self, settings: MethodSettings, callback: str) -> None:
        url = (settings.url or "https://github.com").rstrip("/")
        # Only with this scope GitHub tells of memberships that are not public.
        needed = ["read:org"] if settings.organisations else []
        protocol = GitHubOAuthenticator(
            github_url=url,
            allowed_organizations=set(settings.organisations),
            **_client(settings, callback, needed),
        )
        super().__init__(settings, protocol)
        self._issuer = url

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:  # noqa: ARG002 - all comes in the address
        """Find out who came."""
        user, model = await self._user(handler)
        identity = self._identity(self._issuer, user.get("id"), user.get("login"))
        # Compared by the login of this very moment; GitHub just said that it is theirs.
        member = bool(self.settings.organisations) and await self.protocol.check_allowed(
            identity.login, model
        )
        # GitHub lets people show only an address that it has verified.
        return Proof(identity, rule="organisations" if member else "", mail=str(user.get("email") or ""))


class GitLabMethod(_Remote):
    """An account at GitLab, or at one's own GitLab server."""

    def __init__(self, settings: MethodSettings, callback: str) -> None:
        url = (settings.url or "https://gitlab.com").rstrip("/")
        needed = ["read_api"] if settings.groups or settings.projects else ["read_user"]
        protocol = GitLabOAuthenticator(
            gitlab_url=url, username_claim="username", **_client(settings, callback, needed)
        )
        super().__init__(settings, protocol)
        self._issuer = url

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:  # noqa: ARG002 - all comes in the address
        """Find out who came."""
        user, model = await self._user(handler)
        identity = self._identity(self._issuer, user.get("id"), user.get("username"))
        mail = str(user.get("email") or "") if user.get("confirmed_at") else ""
        member = await self._is_member(identity.subject, model)
        return Proof(identity, rule="groups" if member else "", mail=mail)

    async def _is_member(self, number: str, model: dict[str, Any]) -> bool:
        # Asked here and not by the library, which writes the slash of a group in a group twice over.
        places = [("groups", quote(group, safe=""), _GUEST) for group in self.settings.groups]
        places += [("projects", str(project), _DEVELOPER) for project in self.settings.projects]
        for kind, place, least in places:
            address = f"{self.protocol.gitlab_api}/{kind}/{place}/members/all/{number}"
            found = await self._ask(address, model)
            if not isinstance(found, dict) or str(found.get("id")) != number:
                continue
            level = found.get("access_level")
            if isinstance(level, int) and level >= least and found.get("state", "active") == "active":
                return True
        return False


def _client(settings: MethodSettings, callback: str, scopes: list[str]) -> dict[str, Any]:
    """Return what every OAuth client is made with."""
    return {
        "client_id": settings.client_id,
        "client_secret": settings.secret(),
        "oauth_callback_url": callback,
        "scope": settings.scopes or scopes,
        "enable_pkce": True,
        # Said outright, so that no variable of the environment can open the door.
        "allow_all": False,
        "allow_existing_users": False,
        "validate_server_cert": True,
        "http_request_kwargs": {"connect_timeout": 10, "request_timeout": 20, "max_redirects": 3},
    }


def make_method(settings: MethodSettings, callback: str, parent: Authenticator) -> Method:
    """Make the method that `settings` describe.

    Parameters
    ----------
    settings
        Of one method.
    callback
        The address that its provider sends people back to.
    parent
        The authenticator of the hub.

    Raises
    ------
    ConfigError
        The secret is missing, or a class cannot be used.
    """
    match settings.kind:
        case MethodKind.LOCAL:
            return LocalMethod(settings, parent._deprecated_db_session)  # noqa: SLF001 - where its accounts lie
        case MethodKind.GITHUB:
            return GitHubMethod(settings, callback)
        case MethodKind.GITLAB:
            return GitLabMethod(settings, callback)
        case MethodKind.OIDC:
            scopes = ["openid", "profile", "email"]
            return OpenIDMethod(settings, **_client(settings, callback, scopes))
        case MethodKind.CUSTOM:
            return make_custom(settings, callback, parent)
