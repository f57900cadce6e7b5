"""The way between a session and a worker on another machine: messages over TCP that nobody else can make.

Both sides have the same key, which only the owner of the session can read. Each proves to the other that it has it
before anything is said, without sending it; from then on each message carries a code made of the key, its number and
its content. Whoever does not have the key can neither feed a worker nor answer for one. The content is not hidden: it
travels inside of the cluster's network as that of Dask does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

from cupola.lab.tiles import frames

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

__all__ = ["Channel", "StrangerError"]

NONCE = 32
CODE = 32
HELLO = b"cupola-tiles-1\n"
HANDSHAKE_SECONDS = 10.0


class StrangerError(Exception):
    """The other side does not have the key, or is something else altogether."""


class Channel:
    """An open way; made by `connect` or `accept`."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, key: bytes, *, session: bool) -> None:
        self._reader, self._writer = reader, writer
        self._key = key
        self._out, self._in = (b"session", b"node") if session else (b"node", b"session")
        self._sent = self._received = 0

    @classmethod
    async def connect(cls, host: str, port: int, key: bytes) -> Channel:
        """Open a way to a node.

        Raises
        ------
        OSError
            Nobody listens there, or not soon enough.
        StrangerError
            Whoever listens does not have the key.
        """
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            return await cls._greet(reader, writer, key, session=True)

    @classmethod
    async def accept(cls, reader: StreamReader, writer: StreamWriter, key: bytes) -> Channel:
        """Greet a session that connected.

        Raises
        ------
        OSError
            It said nothing in time.
        StrangerError
            It does not have the key.
        """
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            return await cls._greet(reader, writer, key, session=False)

    @classmethod
    async def _greet(
        cls, reader: StreamReader, writer: StreamWriter, key: bytes, *, session: bool
    ) -> Channel:
        mine = secrets.token_bytes(NONCE)
        try:
            writer.write(HELLO + mine)
            hello = await reader.readexactly(len(HELLO) + NONCE)
            theirs = hello[len(HELLO) :]
            both = mine + theirs if session else theirs + mine
            # What each proves has its role in it, or one side's proof could be sent back to it.
            roles = (b"session", b"node") if session else (b"node", b"session")
            writer.write(_code(key, roles[0] + both))
            proof = await reader.readexactly(CODE)
            known = hello.startswith(HELLO) and hmac.compare_digest(proof, _code(key, roles[1] + both))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            writer.close()
            raise StrangerError("the other side hung up") from error
        except BaseException:
            writer.close()
            raise
        if not known:
            writer.close()
            raise StrangerError("the other side does not have the key")
        # A key of this connection alone: what was said in another one cannot be said again.
        return cls(reader, writer, _code(key, b"key" + both), session=session)

    async def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a message.

        Raises
        ------
        OSError
            The other side is gone.
        """
        message = frames.pack(header, body)
        self._writer.write(message + self._sign(self._out, self._sent, message))
        self._sent += 1
        await self._writer.drain()

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for a message.

        Raises
        ------
        OSError
            The other side is gone.
        StrangerError
            What came was not made by the other side.
        """
        try:
            lengths = await self._reader.readexactly(frames.LENGTHS.size)
            head, body = frames.LENGTHS.unpack(lengths)
            if head + body > frames.LARGEST:
                raise StrangerError("what came is no message")
            rest = await self._reader.readexactly(head + body)
            code = await self._reader.readexactly(CODE)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the other side is gone") from error
        if not hmac.compare_digest(code, self._sign(self._in, self._received, lengths + rest)):
            raise StrangerError("what came was not made by the other side")
        self._received += 1
        return json.loads(rest[:head]), rest[head:]

    def _sign(self, role: bytes, number: int, message: bytes) -> bytes:
        return _code(self._key, role + number.to_bytes(8, "big") + message)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _code(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()
