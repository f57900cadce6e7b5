"""The service nodes of a session: workers on other machines, which join its pool.

A node writes into a folder of the owner's home where it listens (`node`). The session looks there while tiles are asked
for, connects once for each slot, and forgets nodes that are gone: what they were computing is computed elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.tiles.channel import Channel, StrangerError
from cupola.lab.tiles.problems import TileProblem
from cupola.lab.tiles.process import Answer, NodeLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.tiles.pool import Pool
    from cupola.lab.tiles.queue import Place

__all__ = ["Nodes", "RemoteWorker", "folder", "known"]

LOOK_SECONDS = 2.0
REST_SECONDS = 20.0
"""A node that cannot be reached is left alone for so long."""
GIVEN_UP = 3
"""After so many times in a row it is left alone until its file changes."""
SLACK_SECONDS = 10.0
"""A node ends what takes too long itself; so much longer it may take to say so."""
MOST_SLOTS = 256

log = logging.getLogger(__name__)


def folder() -> Path:
    """Return where the owner's nodes tell of themselves."""
    runtime = os.environ.get("CUPOLA_RUNTIME")
    return (Path(runtime) if runtime else Path.home() / ".cupola") / "nodes"


def known() -> dict[Path, dict[str, Any]]:
    """Return the nodes that told of themselves, by their file; a file that others could have written counts for nothing."""
    found: dict[Path, dict[str, Any]] = {}
    for path in sorted(folder().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            status = path.stat()
            about = json.loads(path.read_bytes())
            mine = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            if mine and about["version"] == 1 and len(bytes.fromhex(about["key"])) >= 32:  # noqa: PLR2004
                found[path] = about
    return found


class RemoteWorker:
    """A worker of a node, as the pool sees it.

    Parameters
    ----------
    channel
        The way to it.
    seconds
        The limit of a tile.
    text
        Returns the JSON of a chain by its hash: the node may have another home.
    lost
        Called when it is gone.
    """

    remote = True
    pid = 0

    def __init__(
        self,
        channel: Channel,
        seconds: float,
        text: Callable[[str], str | None],
        lost: Callable[[RemoteWorker], None],
    ) -> None:
        self.last: Place | None = None
        self.alive = True
        self._channel = channel
        self._seconds = seconds
        self._text, self._lost = text, lost
        self._answer: asyncio.Future[tuple[dict[str, Any], bytes]] | None = None
        self._chores: set[asyncio.Future[None]] = set()
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        """Take the answers, and notice when the node is gone."""
        try:
            while True:
                message = await self._channel.receive()
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(message)
        except (OSError, StrangerError, ValueError) as error:
            self._gone(str(error))
            await self._channel.close()

    def _gone(self, why: str) -> None:
        if not self.alive:
            return
        self.alive = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NodeLostError(_lost(why)))
        self._lost(self)

    async def ask(self, request: dict[str, Any], *, patience: float = 1.0) -> Answer:
        """Send a request and wait for the answer.

        Raises
        ------
        NodeLostError
            The node is gone.
        """
        if not self.alive:
            raise NodeLostError(_lost("it hung up"))
        self._answer = asyncio.get_running_loop().create_future()
        message = {**request, "patience": patience, "text": self._text(request["chain"])}
        try:
            async with asyncio.timeout(self._seconds * patience + SLACK_SECONDS):
                await self._channel.send(message)
                header, body = await self._answer
        except (OSError, TimeoutError) as error:
            await self.kill()
            raise NodeLostError(_lost(str(error) or "it does not answer")) from error
        finally:
            self._answer = None
        if "problem" not in header:
            return Answer(body, header)
        problem = TileProblem.model_validate(header["problem"])
        if problem.code == "worker":
            # Its own processes do not start: it is of no use.
            await self.kill()
            raise NodeLostError(problem)
        return Answer(problem=problem, header=header)

    def interrupt(self) -> None:
        """Ask it to stop what it computes."""
        chore = asyncio.ensure_future(self._say({"do": "interrupt"}))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _say(self, header: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            await self._channel.send(header)

    async def kill(self) -> None:
        """Hang up: the node ends the process behind this connection at once."""
        self._gone("the session hung up")
        self._listening.cancel()
        await self._channel.close()
        await asyncio.gather(self._listening, *self._chores, return_exceptions=True)


class Nodes:
    """Connects the pool with the nodes that tell of themselves."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._looked = float("-inf")
        self._workers: dict[str, list[RemoteWorker]] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        """By port and key: how often in a row it could not be reached, and when last."""
        self._looking: asyncio.Task[None] | None = None

    @property
    def workers(self) -> int:
        """Connections that are open."""
        return sum(len(workers) for workers in self._workers.values())

    def look(self) -> None:
        """See whether nodes came or went, without waiting; cheap to call for each tile."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_SECONDS or (self._looking is not None and not self._looking.done()):
            return
        self._looked = now
        self._looking = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        """Connect with all nodes that can be reached."""
        # The home may be on a slow file system: that must not hold up the server.
        found = await asyncio.to_thread(known)
        current = {about["key"]: about for about in found.values()}
        for key in [key for key in self._workers if key not in current]:
            for worker in list(self._workers[key]):
                await worker.kill()
        await asyncio.gather(*(self._connect(about) for about in current.values()))

    async def _connect(self, about: dict[str, Any]) -> None:
        key = about["key"]
        failures, when = self._failures.get(key, (0, 0.0))
        now = asyncio.get_running_loop().time()
        if failures >= GIVEN_UP or (failures and now - when < REST_SECONDS):
            return
        workers = self._workers.setdefault(key, [])
        while len(workers) < min(int(about["slots"]), MOST_SLOTS):
            channel = await _reach(about)
            if channel is None:
                if not workers:
                    self._failures[key] = failures + 1, now
                    log.warning("cupola: the node %s cannot be reached", about.get("name"))
                return
            self._failures.pop(key, None)
            worker = RemoteWorker(channel, self._pool.limits.seconds, _text_of, self._lost)
            workers.append(worker)
            self._pool.join(worker)

    def _lost(self, worker: RemoteWorker) -> None:
        for workers in self._workers.values():
            if worker in workers:
                workers.remove(worker)
        self._workers = {key: workers for key, workers in self._workers.items() if workers}
        self._pool.leave(worker)

    def avoid(self, worker: Any) -> None:
        """Leave the node of a worker alone until it tells of itself anew: it does not see the session's files."""
        for key, workers in self._workers.items():
            if worker in workers:
                self._failures[key] = GIVEN_UP, 0.0

    async def close(self) -> None:
        """Hang up on all."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for worker in [worker for workers in self._workers.values() for worker in workers]:
            await worker.kill()


async def _reach(about: dict[str, Any]) -> Channel | None:
    """Return a way to a node by one of its addresses, if any leads there."""
    for host in about["hosts"]:
        with contextlib.suppress(OSError, StrangerError, TimeoutError):
            return await Channel.connect(str(host), int(about["port"]), bytes.fromhex(about["key"]))
    return None


def _text_of(chain: str) -> str | None:
    """Return the JSON of a chain that this session keeps."""
    from cupola.lab.chains import store

    try:
        return (store.folder() / f"{chain}.json").read_text(encoding="utf-8")
    except OSError:
        return None


def _lost(why: str) -> TileProblem:
    return TileProblem(
        code="node-lost",
        status=503,
        message=f"The service node that computed this is gone ({why}); move the map to have it computed elsewhere.",
    )
