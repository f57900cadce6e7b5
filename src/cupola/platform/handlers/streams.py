"""Answers that go out in parts: server-sent events, open files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, BinaryIO, TypeVar

from fastapi.responses import StreamingResponse

from cupola.exceptions import CupolaError
from cupola.models.base import Model

__all__ = ["EVENT_STREAM", "event_stream", "file_parts"]

_HEARTBEAT_S = 10.0
"""Proxies and browsers give up on a connection that stays silent for longer than some 30 s."""

EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}
}

Thing = TypeVar("Thing", bound=Model)

_PART_BYTES = 2**18


def event_stream(
    name: str, things: AsyncIterator[Thing], number: Callable[[Thing], int] | None = None
) -> StreamingResponse:
    """Return an answer that sends each of `things` as an event.

    Parameters
    ----------
    name
        The kind of event.
    things
        What to send, as JSON.
    number
        Gives a thing its number, by which a browser that lost the connection says where to go on.
    """
    # No proxy on the way may collect events before it passes them on.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(name, things, number), media_type="text/event-stream", headers=headers)


async def _lines(
    name: str, things: AsyncIterator[Thing], number: Callable[[Thing], int] | None
) -> AsyncIterator[str]:
    """Yield the text of each event, and a comment whenever there was none for a while."""
    yield ": hello\n\n"
    iterator = aiter(things)
    waiting: asyncio.Future[Thing] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(iterator))
            done, _ = await asyncio.wait([waiting], timeout=_HEARTBEAT_S)
            if not done:
                yield ": still here\n\n"
                continue
            try:
                thing = waiting.result()
            except StopAsyncIteration:
                return
            except CupolaError as error:
                # The answer began with 200 long ago; this is all that can still be said.
                yield f"event: problem\ndata: {str(error).replace(chr(10), ' ')}\n\n"
                return
            waiting = None
            mark = f"id: {number(thing)}\n" if number else ""
            yield f"event: {name}\n{mark}data: {thing.model_dump_json()}\n\n"
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, CupolaError):
                await waiting


def file_parts(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of an open file, and close it at the end."""
    with file:
        while part := file.read(_PART_BYTES):
            yield part
