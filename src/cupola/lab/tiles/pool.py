"""The worker processes that compute tiles: a few, started when needed, killed when a tile takes too long.

User functions are arbitrary code. They run neither in the kernel (which may be busy) nor in the Jupyter server
(which must not be), but here: a function that loops, crashes or eats memory costs a worker and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import Any

from cupola.lab.tiles.process import Answer, TileWorkerError, WorkerLimits, WorkerProcess

__all__ = ["Pool"]


class _Flight:
    """One request on its way, however many wait for it."""

    def __init__(self, key: str, request: dict[str, Any], patience: float) -> None:
        self.key = key
        self.request = request
        self.patience = patience
        self.waiters = 0
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.began: float | None = None


class Pool:
    """Computes tiles in at most `limits.workers` processes.

    Everything happens on one event loop, and nothing between two awaits is shared with a thread: the lists
    below need no lock.
    """

    def __init__(
        self, limits: WorkerLimits | None = None, *, environment: dict[str, str] | None = None
    ) -> None:
        self.limits = limits or WorkerLimits.from_environment()
        self._environment = environment
        self._flights: dict[str, _Flight] = {}
        self._queue: deque[_Flight] = deque()
        self._idle: dict[WorkerProcess, asyncio.TimerHandle] = {}
        self._busy = 0
        self._closed = False
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def idle_pids(self) -> list[int]:
        """Process ids of the workers that wait for work."""
        return [worker.pid for worker in self._idle]

    @property
    def waiting(self) -> int:
        """Requests that no worker has begun."""
        return len(self._queue)

    async def ask(self, request: dict[str, Any], *, key: str = "", patience: float = 1.0) -> Answer:
        """Have `request` computed; equal requests at the same time are computed once.

        `key` is the request as text where the caller has it already; `patience` says how many times longer than a tile
        it may take.

        Cancel the caller's task to say that nobody wants the answer any more: a request that still waits is
        dropped, one that runs is killed once it has had its grace.

        Raises
        ------
        asyncio.CancelledError
            The caller gave up, or the pool was closed.
        """
        if self._closed:
            raise asyncio.CancelledError
        key = key or json.dumps(request, sort_keys=True)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(key, request, patience)
            self._queue.append(flight)
        flight.waiters += 1
        self._pump()
        try:
            return await asyncio.shield(flight.answer)
        finally:
            flight.waiters -= 1
            self._abandon(flight)

    def _pump(self) -> None:
        """Give waiting requests to workers that are idle, or that may still be started."""
        while self._queue and not self._closed and self._busy < self.limits.workers:
            flight = self._queue.popleft()
            worker = None
            if self._idle:
                # The one used last has the readers of this chain open, most likely.
                worker, timer = self._idle.popitem()
                timer.cancel()
            self._busy += 1
            flight.task = asyncio.create_task(self._fly(flight, worker))

    async def _fly(self, flight: _Flight, worker: WorkerProcess | None) -> None:
        """Compute one request and hand the worker on."""
        answer: Answer | None = None
        try:
            if worker is None or not worker.alive:
                if worker is not None:
                    await worker.kill()
                worker = await WorkerProcess.start(self.limits, self._environment)
            # Starting takes a second or more: whoever asked may be gone.
            if flight.waiters:
                flight.began = asyncio.get_running_loop().time()
                answer = await worker.ask(flight.request, patience=flight.patience)
        except TileWorkerError as error:
            worker, answer = None, Answer(problem=error.problem)
        except asyncio.CancelledError:
            # Only _abandon and close cancel: nobody wants the answer, and the worker is in the middle of it.
            if worker is not None:
                await worker.kill()
            worker = None
        finally:
            self._busy -= 1
            self._land(flight, answer)
            if worker is not None:
                self._rest(worker, retire=answer is not None and bool(answer.header.get("retire")))
            self._pump()

    def _land(self, flight: _Flight, answer: Answer | None) -> None:
        """Tell those who wait, and forget the request."""
        if answer is None and flight.waiters and not self._closed:
            # Somebody asked again while the abandoned work was being killed: start over.
            flight.task = flight.began = None
            self._queue.append(flight)
            return
        del self._flights[flight.key]
        if answer is None:
            flight.answer.cancel()
        elif not flight.answer.done():
            flight.answer.set_result(answer)

    def _rest(self, worker: WorkerProcess, *, retire: bool) -> None:
        """Keep a worker for the next request, for a while."""
        if self._closed or retire:
            self._later(worker.kill())
            return
        loop = asyncio.get_running_loop()
        self._idle[worker] = loop.call_later(self.limits.idle_seconds, self._end, worker)

    def _end(self, worker: WorkerProcess) -> None:
        """End a worker that had nothing to do."""
        if self._idle.pop(worker, None) is not None:
            self._later(worker.kill())

    def _later(self, chore: Any) -> None:
        """Run a coroutine without waiting for it, and keep it alive meanwhile."""
        task = asyncio.ensure_future(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _abandon(self, flight: _Flight) -> None:
        """Stop work that nobody waits for, unless it will soon be done."""
        if flight.waiters or flight.answer.done():
            return
        if flight in self._queue:
            self._queue.remove(flight)
            self._flights.pop(flight.key, None)
            flight.answer.cancel()
        elif flight.began is not None and flight.task is not None:
            loop = asyncio.get_running_loop()
            left = flight.began + self.limits.grace_seconds - loop.time()
            if left > 0:
                loop.call_later(left, self._abandon, flight)
            else:
                flight.task.cancel()

    async def close(self) -> None:
        """End all workers; whoever still waits is cancelled."""
        self._closed = True
        for flight in self._queue:
            flight.answer.cancel()
        self._queue.clear()
        running = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in running:
            task.cancel()
        for worker, timer in list(self._idle.items()):
            timer.cancel()
            self._later(worker.kill())
        self._idle.clear()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, *self._chores, return_exceptions=True)
