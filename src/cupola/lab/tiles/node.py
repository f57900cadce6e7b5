"""``python -m cupola.lab.tiles.node FOLDER``: a service node, which computes tiles for a session elsewhere.

It listens on a port of its own choice, and writes into ``FOLDER`` where and with which key (a file that only its owner
can read); ``-`` for the folder writes that to standard output instead. The session connects once for each slot, and each
connection has a worker process of its own, with the limits that workers of a session have. The node ends when its time is
over, when its file is deleted, when no session was connected for a while, or with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.tiles.channel import Channel, StrangerError
from cupola.lab.tiles.process import TileWorkerError, WorkerLimits, WorkerProcess
from cupola.lab.tiles.worker import die_with

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from cupola.lab.tiles.process import Answer

__all__ = ["Node", "main", "serve"]

IDLE_SECONDS = 900.0
"""A node that no session is connected to ends after so long."""
LOOK_SECONDS = 2.0


class Node:
    """Computes for sessions that have its key.

    Parameters
    ----------
    slots
        How many tiles at a time.
    limits
        Of each worker.
    """

    def __init__(self, slots: int, limits: WorkerLimits | None = None) -> None:
        self.slots = slots
        self.limits = limits or WorkerLimits.from_environment()
        self.key = secrets.token_bytes(32)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> dict[str, Any]:
        """Listen; return what a session needs to know."""
        self._server = await asyncio.start_server(self._accept, host=None, port=0, family=socket.AF_INET)
        return {
            "version": 1,
            "name": f"{socket.gethostname()}-{os.getpid()}",
            "hosts": _addresses(),
            "port": self._server.sockets[0].getsockname()[1],
            "key": self.key.hex(),
            "slots": self.slots,
        }

    @property
    def connected(self) -> int:
        """Sessions' connections at the moment."""
        return len(self._connections)

    async def close(self) -> None:
        """Hang up on all, and end their workers."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self.connected >= self.slots:
            writer.close()
            return
        self._connections.add(task)
        try:
            channel = await Channel.accept(reader, writer, self.key)
        except (StrangerError, OSError, TimeoutError):
            writer.close()
            return
        else:
            # Cancelled when the node ends; nobody waits for this task.
            with contextlib.suppress(OSError, StrangerError, asyncio.CancelledError):
                await self._serve(channel)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, channel: Channel) -> None:
        """Compute what one connection asks for, one request at a time."""
        slot = _Slot(channel, self.limits)
        listening: asyncio.Task[tuple[dict[str, Any], bytes]] | None = None
        try:
            while True:
                listening = listening or asyncio.ensure_future(channel.receive())
                # Both at once: while a request is computed the session may ask to stop it, or hang up.
                waiting: set[asyncio.Task[Any]] = {listening}
                if slot.work is not None:
                    waiting.add(slot.work)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await slot.answer()
                if listening.done():
                    message, _ = listening.result()
                    listening = None
                    await slot.take(message)
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            await slot.close()


class _Slot:
    """What computes for one connection."""

    def __init__(self, channel: Channel, limits: WorkerLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._worker: WorkerProcess | None = None
        self.work: asyncio.Task[Answer] | None = None

    async def take(self, message: dict[str, Any]) -> None:
        """Begin a request, or stop the one that is computed."""
        if message.get("do") == "interrupt":
            if self._worker is not None and self.work is not None:
                self._worker.interrupt()
            return
        if self.work is not None:
            return
        try:
            if self._worker is None or not self._worker.alive:
                self._worker = await WorkerProcess.start(self._limits)
        except TileWorkerError as error:
            await self._channel.send({"problem": error.problem.to_json()})
            return
        patience = float(message.pop("patience", 1.0))
        self.work = asyncio.ensure_future(self._worker.ask(message, patience=patience))

    async def answer(self) -> None:
        """Send what was computed, if it is done."""
        if self.work is None or not self.work.done():
            return
        work, self.work = self.work, None
        try:
            answer = work.result()
        except TileWorkerError as error:
            self._worker = None
            await self._channel.send({"problem": error.problem.to_json()})
            return
        await self._channel.send(answer.header, answer.body)
        if answer.header.get("retire") and self._worker is not None:
            await self._worker.kill()
            self._worker = None

    async def close(self) -> None:
        """End what is computed, and the process."""
        if self.work is not None:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)
        if self._worker is not None:
            await self._worker.kill()


def _addresses() -> list[str]:
    """Return by which addresses this machine can be reached, the likeliest first."""
    found = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # No packet is sent: this only asks which of the machine's addresses leads outside.
        probe.connect(("192.0.2.1", 9))
        found.append(str(probe.getsockname()[0]))
    found += [socket.gethostname(), "127.0.0.1"]
    return list(dict.fromkeys(found))


def write(folder: Path, about: dict[str, Any]) -> Path:
    """Let the owner's sessions know of a node; nobody else can read it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".", suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(about, file)
    path = folder / f"{about['name']}.json"
    Path(draft).replace(path)
    return path


async def serve(folder: str, slots: int, seconds: float | None = None) -> None:
    """Be a node until its time is over, its file is deleted, or nobody needs it.

    Parameters
    ----------
    folder
        Where sessions look for nodes; ``-`` for none, which then has to be told otherwise.
    slots
        How many tiles at a time.
    seconds
        How long at most; without end where nothing is said.
    """
    loop = asyncio.get_running_loop()
    node = Node(slots)
    about = await node.start()
    path = write(Path(folder), about) if folder != "-" else None
    if path is None:
        sys.stdout.write(json.dumps(about) + "\n")
        sys.stdout.flush()
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        # Only in a main thread, which a node in a task of a job may not have.
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    used, end = loop.time(), None if seconds is None else loop.time() + seconds
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            used = loop.time() if node.connected else used
            over = end is not None and loop.time() >= end
            if over or loop.time() - used > IDLE_SECONDS or (path is not None and not path.exists()):
                break
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
        await node.close()


def task(about: tuple[str, int, float]) -> str:
    """Be a node in a task of a job: folder, slots, seconds."""
    folder, slots, seconds = about
    asyncio.run(serve(folder, slots, seconds))
    return "released"


def main(args: list[str] | None = None) -> int:
    """Be a node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where sessions look for nodes, or - to tell standard output")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--parent", type=int, help="end with this process")
    options = parser.parse_args(args)
    if options.parent is not None:
        die_with(options.parent)
    asyncio.run(serve(options.folder, max(options.slots, 1), options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
