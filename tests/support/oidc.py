"""Providers on loopback: OpenID Connect (one that can be bent to lie), and the documented shapes of GitHub and GitLab.

All three keep to the protocol where a test does not say otherwise: codes work once, the proof key is compared, the
redirect address must be the registered one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT, SECRET = "cupola", "not-so-secret"


class Provider:
    """What the three share: people, codes, tokens.

    ``person`` is who agrees next; ``bend`` changes what the provider says, by name.
    """

    token_path = "/token"
    authorize_path = "/authorize"

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.bend: dict[str, Any] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, str]] = []
        self.requests: list[str] = []
        self.used: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.get(self)

            def do_POST(self) -> None:
                owner.post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append(request.path)
        if parts.path == self.authorize_path:
            self.authorize(request, query)
        else:
            token = request.headers.get("Authorization", "").partition(" ")[2]
            self.answer(request, *self.page(parts.path, self.tokens.get(token)))

    def authorize(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        """The person agrees at once, as somebody does who is signed in there."""
        self.asked.append(query)
        code = secrets.token_urlsafe(12)
        self.codes[code] = {"person": self.person, **query}
        back = {"code": code, "state": self.bend.get("state", query.get("state", ""))} | self.bend.get(
            "answer", {}
        )
        request.send_response(302)
        request.send_header("Location", f"{query['redirect_uri']}?{urlencode(back)}")
        request.end_headers()

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        code = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = (
            form.get("client_secret") == SECRET or request.headers.get("Authorization") == f"Basic {basic}"
        )
        good = (
            code is not None
            and known
            and code["redirect_uri"] == form.get("redirect_uri")
            and code.get("code_challenge") == challenge.rstrip(b"=").decode()
        )
        self.used.append(form.get("code", ""))
        if not good:
            self.refuse(request)
            return
        token = secrets.token_urlsafe(16)
        self.tokens[token] = code["person"]
        more = self.token_answer(code)
        self.answer(request, 200, {"access_token": token, "token_type": "bearer", **more})

    def refuse(self, request: BaseHTTPRequestHandler) -> None:
        self.answer(request, 400, {"error": "invalid_grant"})

    def token_answer(self, code: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - others use it
        return {}

    def page(self, path: str, person: dict[str, Any] | None) -> tuple[int, Any]:
        raise AssertionError(path, person)

    def answer(self, request: BaseHTTPRequestHandler, status: int, content: Any = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


class OpenID(Provider):
    """A provider of OpenID Connect. ``bend``: ``claims`` and ``userinfo`` replace what it says (None: leaves it out),
    ``metadata`` its own description, ``key`` signs with another key, ``unsigned`` not at all."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        super().__init__()

    def page(self, path: str, person: dict[str, Any] | None) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            return 200, self.metadata()
        if path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [key | {"kid": "one", "use": "sig", "alg": "RS256"}]}
        if path == "/userinfo" and person is not None:
            return 200, _bent(person, self.bend.get("userinfo", {}))
        return 401, {"error": "invalid_token"}

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/goodbye",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
        } | self.bend.get("metadata", {})

    def token_answer(self, code: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": code["person"]["sub"],
            "iat": now,
            "exp": now + 300,
            "nonce": code.get("nonce"),
        }
        claims = _bent(claims, self.bend.get("claims", {}))
        if self.bend.get("unsigned"):
            return {"id_token": jwt.encode(claims, None, algorithm="none")}
        if self.bend.get("symmetric"):
            return {"id_token": jwt.encode(claims, SECRET * 4, algorithm="HS256", headers={"kid": "one"})}
        key = self.bend.get("key", self.key)
        return {"id_token": jwt.encode(claims, key, algorithm="RS256", headers={"kid": "one"})}


class GitHub(Provider):
    """What docs.github.com says of sign-in, users and organisations. ``organisations``: name or name:team → logins."""

    token_path = "/login/oauth/access_token"
    authorize_path = "/login/oauth/authorize"

    def __init__(self) -> None:
        super().__init__()
        self.organisations: dict[str, set[str]] = {}

    def page(self, path: str, person: dict[str, Any] | None) -> tuple[int, Any]:
        if person is None:
            return 401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        parts = path.removeprefix("/api/v3/").split("/")
        if parts == ["user"]:
            return 200, {"email": None, "name": "A Person", "type": "User", "site_admin": False, **person}
        match parts:
            case ["orgs", organisation, "members", login]:
                name = organisation
            case ["orgs", organisation, "teams", team, "members", login]:
                name = f"{organisation}:{team}"
            case _:
                return 404, {"message": "Not Found"}
        return (
            (204, None) if login in self.organisations.get(name, set()) else (404, {"message": "Not Found"})
        )

    def refuse(self, request: BaseHTTPRequestHandler) -> None:
        # GitHub says this with status 200.
        problem = {
            "error": "bad_verification_code",
            "error_description": "The code passed is incorrect or expired.",
        }
        self.answer(request, 200, problem)

    def token_answer(self, code: dict[str, Any]) -> dict[str, Any]:
        return {"scope": code.get("scope", "").replace(" ", ",")}


class GitLab(Provider):
    """What docs.gitlab.com says. ``members``: path of a group, or number of a project → user id → access level."""

    token_path = "/oauth/token"
    authorize_path = "/oauth/authorize"

    def __init__(self) -> None:
        super().__init__()
        self.members: dict[str, dict[int, int]] = {}

    def page(self, path: str, person: dict[str, Any] | None) -> tuple[int, Any]:
        if person is None:
            return 401, {"message": "401 Unauthorized"}
        parts = path.removeprefix("/api/v4/").split("/")
        if parts == ["user"]:
            return 200, {"state": "active", "email": "x@example.org", **person}
        match parts:
            case ["groups" | "projects", place, "members", "all", number]:
                level = self.members.get(place, {}).get(int(number))
                if level is not None:
                    return 200, {
                        "id": int(number),
                        "username": person["username"],
                        "state": "active",
                        "access_level": level,
                    }
        return 404, {"message": "404 Not found"}

    def token_answer(self, code: dict[str, Any]) -> dict[str, Any]:
        return {"expires_in": 7200, "refresh_token": "x", "scope": code.get("scope", ""), "created_at": 1}


def _bent(said: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


@contextlib.contextmanager
def provider_mock() -> Iterator[str]:
    """Run oidc-provider-mock, a provider that others wrote, and yield its issuer."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    issuer = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 90
        while True:
            with contextlib.suppress(httpx.TransportError):
                metadata = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
                break
            assert time.monotonic() < until, "oidc-provider-mock did not start"
            time.sleep(0.1)
        yield metadata["issuer"]
    finally:
        process.terminate()
        process.wait(60)
