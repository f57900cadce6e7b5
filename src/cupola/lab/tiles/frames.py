"""Messages between the Jupyter server and its tile workers: a JSON header and bytes, each with its length.

::

    header length  4 bytes, big-endian
    body length    4 bytes, big-endian
    header         JSON
    body           whatever the header says
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import asyncio

__all__ = ["LARGEST", "pack", "read", "read_async"]

LENGTHS = struct.Struct("!II")
LARGEST = 256 * 1024 * 1024
"""No tile is larger; a longer message means that something else wrote into the pipe."""


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """Return `header` and `body` as one message."""
    head = json.dumps(header).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def _check(head: int, body: int) -> None:
    """Raise ValueError where the lengths cannot be those of a message."""
    if head + body > LARGEST:
        raise ValueError(f"a message of {head + body} bytes is none of ours")


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read one message; nothing where the other side is gone.

    Raises
    ------
    ValueError
        What came is no message.
    """
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head, body = LENGTHS.unpack(lengths)
    _check(head, body)
    header, rest = stream.read(head), stream.read(body)
    if len(header) < head or len(rest) < body:
        return None
    return json.loads(header), rest


async def read_async(stream: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Raises
    ------
    asyncio.IncompleteReadError
        The other side is gone.
    ValueError
        What came is no message.
    """
    head, body = LENGTHS.unpack(await stream.readexactly(LENGTHS.size))
    _check(head, body)
    header = await stream.readexactly(head)
    return json.loads(header), await stream.readexactly(body)
