"""A network that can be cut: every connection of a browser goes through a port here, and what happens to it is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field

__all__ = ["Wire"]

OPEN, RESET, SILENT = "open", "reset", "silent"
BLOCK = 65536


@dataclass
class Wire:
    """A relay of TCP in front of a port of this machine.

    ``cut("reset")`` ends all connections and refuses new ones, as a network card does that is switched off; ``cut("silent")`` swallows
    what either side sends and answers nothing, as a train in a tunnel does; `mend` ends what was cut and lets through what comes.
    """

    target: int
    port: int = 0
    state: str = OPEN
    passed: int = 0
    """Connections that were let through so far."""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._call(self._listen())

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.state == RESET:
                return
            # Who comes in the middle of a silence is never answered.
            while self.state == SILENT:
                await asyncio.sleep(0.05)
                if writer.is_closing():
                    return
            there = await asyncio.open_connection("127.0.0.1", self.target)
            self.passed += 1
            self._open.add(there[1])
            ways = (self._pass(reader, there[1]), self._pass(there[0], writer))
            with contextlib.suppress(OSError):
                await asyncio.gather(*ways)
            self._end(there[1])
        except OSError:
            pass  # the server is away, which is what a browser is to see
        finally:
            self._end(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(BLOCK):
            if self.state == OPEN:
                writer.write(block)
                await writer.drain()
        writer.close()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        """End a connection as one that is cut off: nothing that waits is sent any more."""
        self._open.discard(writer)
        if self.state != OPEN and (plug := writer.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort() if self.state != OPEN else writer.close()

    def cut(self, how: str = RESET) -> None:
        """Cut it: ``reset`` or ``silent``."""

        async def now() -> None:
            self.state = how
            if how == RESET:
                self._drop()

        self._call(now())

    def mend(self) -> None:
        """Let through what comes from now on; what was there before is gone."""

        async def now() -> None:
            self._drop()
            await asyncio.sleep(0)
            self.state = OPEN

        self._call(now())

    def _drop(self) -> None:
        for writer in list(self._open):
            self._end(writer)

    def point_at(self, port: int) -> None:
        """Lead to another port from now on."""
        self.target = port

    def close(self) -> None:
        """End all connections and listen no more."""

        async def now() -> None:
            self._server.close()
            self._drop()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(now())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
