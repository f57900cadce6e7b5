"""``python -m cupola.platform.storage.mounts.guard PORT``: the only way out for the buckets of people.

Whoever names the address of a bucket decides where this host connects to. A check of the name beforehand is not enough:
the name may lead elsewhere a moment later, and a store may send its reader on to another address. So rclone connects
through this proxy, which looks the name up itself, at each connection, and connects to just the address that it judged.
It outlives the portal, as the mounts do.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import os
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from cupola.exceptions import CupolaError, NotAllowedError
from cupola.platform.storage.mounts.addresses import AddressRule

__all__ = ["ALLOW", "SECRET", "Guard", "main"]

ALLOW = "CUPOLA_GUARD_ALLOW"
SECRET = "CUPOLA_GUARD_SECRET"  # noqa: S105 - the name of the variable
_HEAD_BYTES = 32_768
_HEAD_S = 10.0
_CONNECT_S = 10.0
_IDLE_S = 300.0
_BLOCK = 65_536
_HTTP, _HTTPS = 80, 443


class _RefusedError(Exception):
    """What was asked for is not given; carries the line of the answer."""


@dataclass(frozen=True)
class _Wish:
    """Where a client wants to go."""

    host: str
    port: int
    head: bytes
    """What the other end gets first."""
    tunnel: bool


class Guard:
    """A proxy for HTTP that lets through what `rule` permits.

    Parameters
    ----------
    rule
        Which addresses.
    secret
        What clients must show.
    """

    def __init__(self, rule: AddressRule, secret: str) -> None:
        self._rule = rule
        self._proof = b"Basic " + base64.b64encode(f"volume:{secret}".encode())

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            wish = await self._wish(client)
            there, out = await self._connect(wish)
        except _RefusedError as refusal:
            back.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await _close(back)
            return
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await _close(back)
            return
        if wish.tunnel:
            back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            out.write(wish.head)
        await asyncio.gather(_pump(client, out), _pump(there, back))

    async def _wish(self, client: asyncio.StreamReader) -> _Wish:
        async with asyncio.timeout(_HEAD_S):
            head = await client.readuntil(b"\r\n\r\n")
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        fields = [
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        ]
        shown = dict(fields).get(b"proxy-authorization", b"")
        if not hmac.compare_digest(shown, self._proof):
            raise _RefusedError("407 Proxy Authentication Required")
        try:
            method, target, _ = first.decode("ascii").split(" ")
            parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise _RefusedError("400 Bad Request") from error
        if not host:
            raise _RefusedError("400 Bad Request")
        if method == "CONNECT":
            return _Wish(host, port or _HTTPS, b"", tunnel=True)
        if parts.scheme != "http" or not self._rule.names(host):
            raise _RefusedError("403 Only https")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # One request per connection: the next one may be for somewhere else, and is judged by itself.
        kept = [line for line, (name, _) in zip(lines, fields, strict=True) if name not in _HOP_BY_HOP]
        head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""])
        return _Wish(host, port or _HTTP, head, tunnel=False)

    async def _connect(self, wish: _Wish) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to an address that was judged, never to a name."""
        try:
            addresses = await self._rule.resolve(wish.host, wish.port)
        except NotAllowedError as error:
            raise _RefusedError("403 Private address") from error
        except CupolaError as error:
            raise _RefusedError("502 Unknown host") from error
        for address in addresses:
            if not self._rule.permits(wish.host, ipaddress.ip_address(address)):
                continue
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(address, wish.port)
        raise _RefusedError("502 No answer")


_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection"}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes until one end has no more, or is silent for long."""
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(_IDLE_S):
                block = await source.read(_BLOCK)
            if not block:
                break
            sink.write(block)
            await sink.drain()
    await _close(sink)


async def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def _run(port: int) -> None:
    allow = tuple(filter(None, os.environ.get(ALLOW, "").split(",")))
    guard = Guard(AddressRule(allow), os.environ[SECRET])
    server = await asyncio.start_server(guard.serve, "127.0.0.1", port, limit=_HEAD_BYTES)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until told to end."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(int(sys.argv[1])))


if __name__ == "__main__":
    main()
