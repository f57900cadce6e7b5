from __future__ import annotations

import asyncio
import io

import pytest

from cupola.lab.tiles import frames


def test_a_message_comes_back_as_it_was() -> None:
    stream = io.BytesIO(frames.pack({"do": "png", "ä": [1, None]}, b"\0\1\2") + frames.pack({}))
    assert frames.read(stream) == ({"do": "png", "ä": [1, None]}, b"\0\1\2")
    assert frames.read(stream) == ({}, b"")
    assert frames.read(stream) is None


def test_a_message_cut_short_is_the_end() -> None:
    message = frames.pack({"a": 1}, b"12345")
    for length in range(len(message)):
        assert frames.read(io.BytesIO(message[:length])) is None


def test_something_else_in_the_pipe_is_refused() -> None:
    with pytest.raises(ValueError, match="none of ours"):
        frames.read(io.BytesIO(b"Segmentation fault (core dumped)\n"))


@pytest.mark.asyncio
async def test_the_server_reads_the_same_messages() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(frames.pack({"ready": True}, b"xyz"))
    stream.feed_eof()
    assert await frames.read_async(stream) == ({"ready": True}, b"xyz")
    with pytest.raises(asyncio.IncompleteReadError):
        await frames.read_async(stream)
