"""The hub's REST API: people by token, and the servers that sessions are."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from cupola.exceptions import ConflictError, NotSignedInError, UnavailableError
from cupola.models.base import Time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cupola.platform.storage.hub.settings import HubSettings

__all__ = ["HubClient", "HubServer", "HubUser", "Progress", "RefusedError", "Started"]

_TIMEOUT = httpx.Timeout(30, connect=5)
"""In seconds. The hub itself answers a start after at most 10 s."""
_PAGE = 200


class RefusedError(ConflictError):
    """The hub refused a request; the text is its reason."""


class Started(StrEnum):
    """What the hub answers to a start."""

    READY = "ready"
    PENDING = "pending"


class _FromHub(BaseModel):
    """Part of an answer of the hub; what we do not use is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Answer = TypeVar("Answer", bound=_FromHub)


class HubServer(_FromHub):
    """A named server."""

    name: str
    ready: bool = False
    pending: str | None = None
    stopped: bool = False
    last_activity: Time | None = None


class HubUser(_FromHub):
    """A user of the hub, or whoever else holds a token."""

    kind: str = "user"
    name: str
    admin: bool = False
    groups: list[str] = []
    scopes: list[str] = []
    servers: dict[str, HubServer] = {}


class Progress(_FromHub):
    """One step of a start, as the hub streams it."""

    message: str = ""
    ready: bool = False
    failed: bool = False


class HubClient:
    """The hub, as the portal sees it.

    Parameters
    ----------
    settings
        Where it is, and the portal's token.
    transport
        Another way to the hub than the network, for tests.
    """

    def __init__(self, settings: HubSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        # The environment may name a proxy for the internet; the hub is on this host.
        self._http = httpx.AsyncClient(
            base_url=settings.api_url, transport=transport, timeout=_TIMEOUT, trust_env=False
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def user_of(self, token: str) -> HubUser:
        """Return who holds `token`.

        Raises
        ------
        NotSignedInError
            If nobody does (any more).
        UnavailableError
            If the hub does not answer.
        """
        if not token.isascii() or not token.isprintable():
            raise NotSignedInError("The token is none of this platform's: sign in again.")
        answer = await self._send("GET", "/user", token=token)
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            raise NotSignedInError("The token is unknown or has ended: sign in again.")
        return _parse(HubUser, _checked(answer))

    async def exchange(self, *, code: str, verifier: str, redirect_uri: str) -> str:
        """Return the token for the `code` that the browser brought from the hub.

        Raises
        ------
        NotSignedInError
            If the hub does not accept the code.
        UnavailableError
            If the hub does not answer.
        """
        form = {
            "client_id": self._settings.client_id,
            "client_secret": self._settings.api_token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._send("POST", "/oauth2/token", data=form)
        if answer.status_code in range(400, 500):
            raise NotSignedInError(
                "The hub did not accept this sign-in: open the platform's first page and try again."
            )
        token = _json(_checked(answer)).get("access_token")
        if not isinstance(token, str) or not token:
            raise UnavailableError("The hub answered without a token: try again in a moment.")
        return token

    async def active_servers(self) -> dict[tuple[str, str], HubServer]:
        """Return all servers that run, start or stop, by (owner, name)."""
        found: dict[tuple[str, str], HubServer] = {}
        offset: int | None = 0
        while offset is not None:
            answer = await self._send(
                "GET",
                "/users",
                params={"state": "active", "offset": offset, "limit": _PAGE},
                headers={"Accept": "application/jupyterhub-pagination+json"},
            )
            page = _json(_checked(answer))
            for entry in page.get("items", []):
                user = _parse(HubUser, entry)
                found.update({(user.name, server.name): server for server in user.servers.values()})
            following = page.get("_pagination", {}).get("next")
            offset = following["offset"] if following else None
        return found

    async def server(self, owner: str, name: str) -> HubServer | None:
        """Return the server, or nothing if the hub knows none or it is stopped."""
        answer = await self._send("GET", _path(owner, name))
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        server = _parse(HubServer, _checked(answer))
        return None if server.stopped and not server.pending else server

    async def start(self, owner: str, name: str) -> Started:
        """Start the server; one that starts or runs already is no error.

        Raises
        ------
        RefusedError
            If the hub or the spawner refuses.
        UnavailableError
            If the hub does not answer, or has too many starts at once.
        """
        answer = await self._send("POST", _path(owner, name), json={"user_options": {}})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            await self._create(owner)
            answer = await self._send("POST", _path(owner, name), json={"user_options": {}})
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            server = await self.server(owner, name)
            if server and (server.ready or server.pending):
                return Started.READY if server.ready else Started.PENDING
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise UnavailableError("Too many sessions start at this moment: yours waits for its turn.")
        _checked(answer)
        return Started.PENDING if answer.status_code == HTTPStatus.ACCEPTED else Started.READY

    async def progress(self, owner: str, name: str) -> AsyncIterator[Progress]:
        """Yield the steps of a start until it is ready or failed.

        Raises
        ------
        RefusedError
            If the server does not start at all.
        UnavailableError
            If the hub ends the stream early or does not answer.
        """
        url = _path(owner, name) + "/progress"
        try:
            # The hub sends an empty line every 8 s.
            async with (
                _answering(),
                self._http.stream("GET", url, headers=self._headers(), timeout=_TIMEOUT) as answer,
            ):
                if answer.is_error:
                    await answer.aread()
                    _checked(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        step = _parse(Progress, json.loads(line.removeprefix("data:")))
                        yield step
                        if step.ready or step.failed:
                            return
        except ValueError as error:
            raise UnavailableError(
                "The hub sent a broken progress message: try again in a moment."
            ) from error

    async def stop(self, owner: str, name: str) -> bool:
        """Stop and forget the server. Returns whether it is gone already; if not, the hub is at it.

        Raises
        ------
        RefusedError
            If the hub refuses.
        UnavailableError
            If the hub does not answer.
        """
        answer = await self._send("DELETE", _path(owner, name), json={"remove": True})
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return True
        return _checked(answer).status_code != HTTPStatus.ACCEPTED

    async def ask(
        self, method: str, path: str, *, json: dict[str, Any] | None = None, missing: HTTPStatus | None = None
    ) -> dict[str, Any] | None:
        """Return the hub's answer, empty where it says nothing.

        Parameters
        ----------
        method, path, json
            The request, `path` below the hub's API.
        missing
            A status that is no error here; nothing is returned then.

        Raises
        ------
        RefusedError
            If the hub refuses.
        UnavailableError
            If the hub does not answer.
        """
        answer = await self._send(method, path, json=json)
        if answer.status_code == missing:
            return None
        return _json(_checked(answer)) if answer.content else {}

    async def listing(self, path: str, *, missing: HTTPStatus | None = None) -> list[dict[str, Any]] | None:
        """Return everything of a listing that comes in pages; nothing if it answers with the status `missing`."""
        found: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            answer = await self._send(
                "GET",
                path,
                params={"offset": offset, "limit": _PAGE},
                headers={"Accept": "application/jupyterhub-pagination+json"},
            )
            if answer.status_code == missing:
                return None
            page = _json(_checked(answer))
            found += page.get("items", [])
            following = page.get("_pagination", {}).get("next")
            offset = following["offset"] if following else None
        return found

    async def _create(self, owner: str) -> None:
        """Make the hub know `owner`; a person who is known already is no error."""
        answer = await self._send("POST", f"/users/{quote(owner, safe='')}")
        if answer.status_code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            raise RefusedError(f"The hub does not know {owner} any more: sign in again, then launch again.")
        if answer.status_code != HTTPStatus.CONFLICT:
            _checked(answer)

    def _headers(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"token {token or self._settings.api_token}"}

    async def _send(
        self, method: str, path: str, *, token: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = self._headers(token) | options.pop("headers", {})
        async with _answering():
            return await self._http.request(method, path, headers=headers, **options)


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Turn every failure of the network into our own error."""
    try:
        yield
    except (httpx.HTTPError, TimeoutError) as error:
        raise UnavailableError("The hub does not answer: try again in a moment.") from error


def _path(owner: str, name: str) -> str:
    return f"/users/{quote(owner, safe='')}/servers/{quote(name, safe='')}"


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return `answer` if it is none that reports an error."""
    if answer.is_success:
        return answer
    if answer.status_code in {
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }:
        raise UnavailableError("The hub does not answer: try again in a moment.")
    try:
        message = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = f"The hub refused with status {answer.status_code}."
    raise RefusedError(str(message))


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UnavailableError("The hub sent an answer that is no JSON object: see log/hub.log.")
    return body


def _parse(cls: type[Answer], source: httpx.Response | dict[str, Any]) -> Answer:
    try:
        return cls.model_validate(_json(source) if isinstance(source, httpx.Response) else source)
    except ValidationError as error:
        raise UnavailableError(
            "The hub sent an answer that we do not understand: see log/portal.log."
        ) from error
