"""OpenID Connect: a provider that is known by its issuer, and whose word is checked before it is believed.

The library's generic client trusts what the user-info page says. Here the identity comes from the signed ID token, as
the standard asks: signature, issuer, audience, times, nonce; and the user-info page must speak of the same subject.
"""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import jwt
from oauthenticator.generic import GenericOAuthenticator
from tornado.httpclient import HTTPClientError

from cupola.exceptions import NotAllowedError
from cupola.hub.signin.admission import Proof
from cupola.hub.signin.names import LONGEST_LOGIN, Identity, folded

if TYPE_CHECKING:
    from jupyterhub.handlers.base import BaseHandler

    from cupola.config import MethodSettings

__all__ = ["OpenIDMethod"]

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""With a key of the provider's own. None and the symmetric ones are not among them."""
_KNOWN_S = 3600.0
"""So long the provider's addresses and keys are believed without asking again."""
_AGAIN_S = 30.0
"""For a key that is not known they are fetched again, but not more often than this."""
_LEEWAY_S = 60
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LONGEST_SUBJECT = 255
"""As the standard says."""


class OpenIDMethod:
    """An account at a provider of OpenID Connect.

    Parameters
    ----------
    settings
        Of the method.
    client
        What the library's client is made with.
    """

    wants_nonce = True

    def __init__(self, settings: MethodSettings, **client: Any) -> None:
        self.settings = settings
        self.protocol = GenericOAuthenticator(username_claim="sub", **client)
        self.issuer = settings.url or ""
        self.sign_out_address = ""
        self._keys: jwt.PyJWKSet | None = None
        self._metadata: dict[str, Any] = {}
        self._learned = -_KNOWN_S

    async def ready(self) -> None:
        """Learn the provider's addresses and keys.

        Raises
        ------
        NotAllowedError
            It does not answer, or names another issuer.
        """
        if time.monotonic() - self._learned < _KNOWN_S:
            return
        place = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        metadata = await self._fetch(place)
        if metadata.get("issuer") != self.issuer:
            raise NotAllowedError(
                f"{self.settings.called} calls itself another name than the platform's configuration: tell an administrator."
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _check_address(metadata.get(name), self.settings.called)
        self._keys = jwt.PyJWKSet.from_dict(await self._fetch(metadata["jwks_uri"]))
        self._metadata = metadata
        self.protocol.authorize_url = metadata["authorization_endpoint"]
        self.protocol.token_url = metadata["token_endpoint"]
        supported = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        self.protocol.basic_auth = "client_secret_post" not in supported
        self.sign_out_address = self._sign_out_at(metadata)
        self._learned = time.monotonic()

    def _sign_out_at(self, metadata: dict[str, Any]) -> str:
        place = metadata.get("end_session_endpoint")
        if not isinstance(place, str) or urlsplit(place).scheme not in {"https", "http"}:
            return ""
        return f"{place}{'&' if '?' in place else '?'}{urlencode({'client_id': self.settings.client_id})}"

    async def _fetch(self, place: str) -> dict[str, Any]:
        try:
            found = await self.protocol.httpfetch(place, method="GET", follow_redirects=False)
        except (HTTPClientError, OSError, ValueError) as exc:
            raise NotAllowedError(
                f"{self.settings.called} does not answer now: try again in a minute."
            ) from exc
        if not isinstance(found, dict):
            raise NotAllowedError(
                f"{self.settings.called} answers what nobody understands: tell an administrator."
            )
        return found

    def check_issuer(self, named: str) -> None:
        """Refuse an answer that another provider sent the browser with.

        Raises
        ------
        NotAllowedError
            It is another one, or the provider always says its name and did not.
        """
        always = self._metadata.get("authorization_response_iss_parameter_supported") is True
        if (named or always) and named != self.issuer:
            raise NotAllowedError(f"This answer is not from {self.settings.called}: begin the sign-in again.")

    async def prove(self, handler: BaseHandler, data: dict[str, str]) -> Proof | None:
        """Find out who came."""
        await self.ready()
        parameters = self.protocol.build_access_tokens_request_params(handler, None)
        parameters.pop("data", None)
        answer = await self.protocol.get_token_info(handler, parameters)
        claims = await self.verified(answer.get("id_token"), data.get("nonce", ""))
        more = await self._more(answer, claims["sub"])
        if "email" in claims:  # "verified" is said of the address beside it, not of another one
            more.pop("email_verified", None)
        return self._proof({**more, **claims})

    async def verified(self, token: object, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that is the provider's, for us, and for this very sign-in.

        Raises
        ------
        NotAllowedError
            It is not.
        """
        if not isinstance(token, str):
            raise NotAllowedError(f"{self.settings.called} sent no ID token: tell an administrator.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=(await self._key(token)).key,
                algorithms=_ALGORITHMS,
                audience=str(self.settings.client_id),
                issuer=self.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            raise NotAllowedError(
                f"{self.settings.called} did not vouch for this sign-in ({exc}): begin again."
            ) from exc
        sent = claims.get("nonce")
        if not nonce or not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), nonce.encode()):
            raise NotAllowedError("This answer belongs to another sign-in: begin again.")
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise NotAllowedError("This answer was made for another platform: begin again.")
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise NotAllowedError(f"{self.settings.called} did not say who you are: tell an administrator.")
        return claims

    async def _key(self, token: str) -> jwt.PyJWK:
        """Return the provider's key that `token` names."""
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in _ALGORITHMS:
            raise jwt.InvalidAlgorithmError("its algorithm is not one that is believed")
        found = self._find(header)
        if found is None and time.monotonic() - self._learned > _AGAIN_S:
            self._learned = -_KNOWN_S
            await self.ready()
            found = self._find(header)
        if found is None:
            raise jwt.InvalidKeyError("its key is not one of the provider's")
        return found

    def _find(self, header: dict[str, Any]) -> jwt.PyJWK | None:
        keys = [key for key in (self._keys.keys if self._keys else []) if key.public_key_use in {None, "sig"}]
        if "kid" not in header:
            return keys[0] if len(keys) == 1 else None
        return next((key for key in keys if key.key_id == header["kid"]), None)

    async def _more(self, answer: dict[str, Any], subject: str) -> dict[str, Any]:
        """Return what the user-info page adds, if it speaks of the same person."""
        place = self._metadata.get("userinfo_endpoint")
        if not isinstance(place, str):
            return {}
        _check_address(place, self.settings.called)
        found = await self.protocol.httpfetch(
            place,
            method="GET",
            headers=self.protocol.build_userdata_request_headers(answer["access_token"], "Bearer"),
        )
        if not isinstance(found, dict) or found.get("sub") != subject:
            raise NotAllowedError(f"{self.settings.called} spoke of somebody else: begin again.")
        return found

    def _proof(self, claims: dict[str, Any]) -> Proof:
        settings = self.settings
        login = claims.get(settings.username_claim)
        if not isinstance(login, str) or not login or len(login) > LONGEST_LOGIN or not login.isprintable():
            raise NotAllowedError(
                f'{settings.called} did not send "{settings.username_claim}", which would be your name here: '
                "tell an administrator."
            )
        mail = claims.get("email") if claims.get("email_verified") is True else None
        if settings.username_claim == "email" and mail is None:
            raise NotAllowedError(
                f"{settings.called} has not verified your mail address: do that there first."
            )
        identity = Identity(settings.known_as, self.issuer, claims["sub"], login)
        address = mail if isinstance(mail, str) else ""
        groups = _groups(claims, settings.groups_claim)
        admin = bool(groups & set(settings.admin_groups)) if settings.admin_groups else None
        domain = folded(address).rpartition("@")[2]
        if admin or groups & set(settings.groups):
            return Proof(identity, rule="groups", admin=admin, mail=address)
        if domain and domain in {folded(each) for each in settings.mail_domains}:
            return Proof(identity, rule="mail domain", admin=admin, mail=address)
        return Proof(identity, admin=admin, mail=address)


def _groups(claims: dict[str, Any], path: str) -> set[str]:
    """Return the groups that stand at `path` in the claims."""
    found: Any = claims.get(path)  # a claim may have dots in its name: https://example.org/groups
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, str):
        found = [found]
    return {group for group in found if isinstance(group, str)} if isinstance(found, list) else set()


def _check_address(place: object, who: str) -> None:
    """Refuse an address of a provider that others could listen to."""
    if isinstance(place, str):
        parts = urlsplit(place)
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            return
    raise NotAllowedError(f"{who} names an address without encryption: tell an administrator.")
