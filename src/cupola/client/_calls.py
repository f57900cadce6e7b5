"""How the client speaks: one call with its time limit and tries, whole listings, events that are followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx

from cupola.client._errors import error_of
from cupola.exceptions import CupolaError, UnavailableError
from cupola.models.base import Model, Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

__all__ = ["Calls", "quoted", "told"]

Answer = TypeVar("Answer", bound=Model)

_PAUSES = (0.2, 0.4, 0.8, 1.6)
"""In seconds, between tries: a portal that is restarted is away for about 3 s."""
_SILENCE = httpx.Timeout(60)
"""In seconds. The portal sends a sign of life every 10 s."""
_THIS_HOST = {"127.0.0.1", "::1", "localhost"}


class Calls:
    """Carries the calls of `AsyncClient`, which has a method for each of them and says what the parameters are."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = 30,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.seconds = seconds
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(None),  # one budget of our own bounds the whole call
            transport=transport,
            # The environment may name a proxy for the internet; it cannot reach this host.
            trust_env=httpx.URL(url).host not in _THIS_HOST,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str, kind: type[Answer]) -> Answer:
        return told(kind, (await self._call("GET", path)).content)

    async def _post(self, path: str, kind: type[Answer], content: Model | None = None) -> Answer:
        return told(kind, (await self._call("POST", path, content=content)).content)

    async def _all(self, path: str, kind: type[Answer]) -> list[Answer]:
        """Return a whole listing, page by page."""
        found: list[Answer] = []
        cursor: str | None = None
        while True:
            answer = await self._call("GET", path, params={"cursor": cursor} if cursor else {})
            page = told(Page[kind], answer.content)  # type: ignore[valid-type]
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    async def _call(
        self,
        method: str,
        path: str,
        *,
        content: Model | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        body = None if content is None else content.model_dump_json()
        headers = (headers or {}) | ({"Content-Type": "application/json"} if body else {})
        request = self._http.build_request(method, path, content=body, params=params, headers=headers)
        try:
            async with asyncio.timeout(self.seconds):
                answer = await self._send(request)
        except (httpx.TransportError, TimeoutError) as exc:
            raise self._silent(exc) from exc
        if not answer.is_success:
            raise error_of(answer)
        return answer

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; one that surely did no harm is sent again, for a portal that is just being restarted."""
        for pause in _PAUSES:
            try:
                return await self._http.send(request)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as exc:
                if request.method != "GET" and not isinstance(exc, httpx.ConnectError):
                    raise
            await asyncio.sleep(pause)
        return await self._http.send(request)

    async def _follow(self, path: str, event: str) -> AsyncIterator[str]:
        """Yield the data of each server-sent event of one name.

        A connection that is lost, or that a portal ends because it is restarted, is made again; whoever follows stops
        at the event that he knows to be the last.
        """
        position, failures = "", 0
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": position} if position else {})
            try:
                async with self._http.stream("GET", path, headers=headers, timeout=_SILENCE) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        raise error_of(answer)
                    async for name, number, data in _events(answer):
                        position, failures = number or position, 0
                        if name == event:
                            yield data
                        elif name == "problem":
                            raise CupolaError(data)
                    ended: Exception = httpx.RemoteProtocolError("it ended the stream early")
            except httpx.TransportError as exc:
                ended = exc
            if failures == len(_PAUSES):
                raise self._silent(ended) from ended
            await asyncio.sleep(_PAUSES[failures])
            failures += 1

    def _silent(self, exc: Exception) -> UnavailableError:
        why = (
            f"gave no answer within {self.seconds:g} s"
            if isinstance(exc, TimeoutError)
            else f"cannot be reached ({exc})"
        )
        return UnavailableError(
            f"the portal at {self.url} {why}; is the platform running? `cupola status` tells"
        )


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, str, str]]:
    """Yield name, number and data of each server-sent event."""
    name, number = "", ""
    async for line in answer.aiter_lines():
        key, _, value = line.partition(":")
        if key == "event":
            name = value.strip()
        elif key == "id":
            number = value.strip()
        elif key == "data":
            yield name, number, value.strip()
        elif not line:
            name, number = "", ""


def told(kind: type[Answer], content: bytes | str) -> Answer:
    """Read what the portal told. A session keeps its version for years, so a newer portal tells fields that it does not know."""
    return kind.model_validate_json(content, extra="ignore")


def quoted(name: str) -> str:
    """Return `name` as one part of an address, whatever it contains."""
    return quote(name, safe="")
