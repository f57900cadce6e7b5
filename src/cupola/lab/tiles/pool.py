"""The worker processes that compute tiles: a few, started when needed, killed when a tile takes too long.

User functions are arbitrary code. They run neither in the kernel (which may be busy) nor in the Jupyter server
(which must not be), but here: a function that loops, crashes or eats memory costs a worker and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from cupola.lab.tiles.process import Answer, NodeLostError, TileWorkerError, WorkerLimits, WorkerProcess
from cupola.lab.tiles.queue import Queue, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cupola.lab.tiles.process import Worker

__all__ = ["Pool"]

KILLS = 3
KILLS_SECONDS = 30.0
"""Each worker is killed at most so often in so long for work that nobody wants any more: starting another one costs a
second or two, more than most tiles. What is over that goes on to its end or its time limit."""
ELSEWHERE = frozenset({"no-image", "not-found"})
"""Problems that a node may have with files which this machine sees."""
TRIES = 3
"""So often a request is begun when service nodes die with it."""


class _Flight:
    """One request on its way, however many wait for it."""

    def __init__(self, key: str, request: dict[str, Any], patience: float) -> None:
        self.key = key
        self.request = request
        self.patience = patience
        self.place = place_of(request)
        self.waiters = 0
        self.tries = 0
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.worker: Worker | None = None
        self.began: float | None = None
        self.interrupted: float | None = None

    def start_over(self) -> None:
        """Be as if it was never begun."""
        self.task = self.worker = self.began = self.interrupted = None


class Pool:
    """Computes tiles in at most `limits.workers` processes of this machine, and in those of the nodes that joined.

    Everything happens on one event loop, and nothing between two awaits is shared with a thread: the lists
    below need no lock.
    """

    def __init__(
        self, limits: WorkerLimits | None = None, *, environment: dict[str, str] | None = None
    ) -> None:
        self.limits = limits or WorkerLimits.from_environment()
        self._environment = environment
        self._flights: dict[str, _Flight] = {}
        self._queue: Queue[_Flight] = Queue(lambda: asyncio.get_running_loop().time())
        self._idle: dict[Worker, asyncio.TimerHandle | None] = {}
        self._local = 0
        self._closed = False
        self._alone = asyncio.Lock()
        self._kills: deque[float] = deque()
        self._chores: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self.avoid: Callable[[Worker], None] = lambda _worker: None
        """Called with a worker of a node that does not see the session's files."""

    @property
    def idle_pids(self) -> list[int]:
        """Process ids of the workers that wait for work."""
        return [worker.pid for worker in self._idle]

    @property
    def waiting(self) -> int:
        """Requests that no worker has begun."""
        return len(self._queue)

    @property
    def slots(self) -> int:
        """How many requests are computed at a time, when all are there."""
        remote = sum(1 for worker in self._idle if worker.remote)
        remote += sum(1 for flight in self._flights.values() if flight.worker and flight.worker.remote)
        return self.limits.workers + remote

    async def ask(self, request: dict[str, Any], *, key: str = "", patience: float = 1.0) -> Answer:
        """Have `request` computed; equal requests at the same time are computed once.

        Cancel the caller's task to say that nobody wants the answer any more: a request that still waits is
        dropped, one that runs is interrupted, and killed once it has had its grace.

        Parameters
        ----------
        request
            For `cupola.lab.tiles.worker`.
        key
            The request as text, where the caller has it already.
        patience
            How many times longer than a tile it may take.

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
            self._queue.add(request, flight)
        flight.waiters += 1
        self._pump()
        try:
            return await asyncio.shield(flight.answer)
        finally:
            flight.waiters -= 1
            self._abandon(flight)

    async def alone(self, request: dict[str, Any], *, patience: float) -> Answer:
        """Have `request` computed in a process of its own, after everything else on this machine and one at a time."""
        chore = asyncio.ensure_future(self._in_background(request, patience))
        self._chores.add(chore)
        self._background.add(chore)
        chore.add_done_callback(self._chores.discard)
        chore.add_done_callback(self._background.discard)
        return await chore

    async def _in_background(self, request: dict[str, Any], patience: float) -> Answer:
        async with self._alone:
            worker: WorkerProcess | None = None
            try:
                worker = await WorkerProcess.start(self.limits, self._environment, background=True)
                return await worker.ask(request, patience=patience)
            except TileWorkerError as error:
                return Answer(problem=error.problem)
            finally:
                if worker is not None:
                    await worker.kill()

    def join(self, worker: Worker) -> None:
        """Take in a worker of a service node; it leaves by itself when its node is gone."""
        self._idle[worker] = None
        self._pump()

    def leave(self, worker: Worker) -> None:
        """Forget a worker of a service node that is gone."""
        self._idle.pop(worker, None)

    def _pump(self) -> None:
        """Give waiting requests to workers that are idle, or that may still be started."""
        while self._queue and not self._closed:
            worker = self._next_worker()
            if worker is None and self._local >= self.limits.workers:
                return
            busy = [
                flight.place for flight in self._flights.values() if flight.task is not None and flight.place
            ]
            flight = self._queue.take(worker.last if worker else None, busy)
            if worker is None or not worker.remote:
                self._local += 1
            flight.task = asyncio.create_task(self._fly(flight, worker))

    def _next_worker(self) -> Worker | None:
        """Return an idle worker, one of this machine first; nothing where there is none."""
        # The one used last has the readers of this chain open, most likely.
        newest = list(reversed(self._idle))
        worker = next((worker for worker in newest if not worker.remote), None) or next(iter(newest), None)
        if worker is not None and (timer := self._idle.pop(worker)) is not None:
            timer.cancel()
        return worker

    async def _fly(self, flight: _Flight, worker: Worker | None) -> None:
        """Compute one request and hand the worker on."""
        answer: Answer | None = None
        local = worker is None or not worker.remote
        try:
            worker = await self._ready(worker)
            # Starting takes a second or more: whoever asked may be gone.
            if flight.waiters:
                flight.worker, flight.began = worker, asyncio.get_running_loop().time()
                flight.tries += 1
                worker.last = flight.place
                answer = await worker.ask(flight.request, patience=flight.patience)
                if worker.remote and answer.problem is not None and answer.problem.code in ELSEWHERE:
                    answer = await self._checked(flight, worker, answer)
        except NodeLostError as error:
            # Not the function's fault: it is computed elsewhere.
            worker = None
            answer = Answer(problem=error.problem) if flight.tries >= TRIES else None
        except TileWorkerError as error:
            worker, answer = None, Answer(problem=error.problem)
        except asyncio.CancelledError:
            # Only _abandon and close cancel: nobody wants the answer, and the worker is in the middle of it.
            if worker is not None:
                await worker.kill()
            worker = None
        finally:
            if local:
                self._local -= 1
            header = answer.header if answer is not None else {}
            self._land(flight, None if header.get("abandoned") else answer)
            if worker is not None:
                self._rest(worker, retire=bool(header.get("retire")))
            self._pump()

    async def _checked(self, flight: _Flight, worker: Worker, answer: Answer) -> Answer:
        """Look on this machine whether what a node did not find is there; a node without the files is left alone."""
        here = await WorkerProcess.start(self.limits, self._environment)
        try:
            again = await here.ask(flight.request, patience=flight.patience)
        finally:
            await here.kill()
        if again.problem is not None:
            return answer
        self.avoid(worker)
        await worker.kill()
        return again

    async def _ready(self, worker: Worker | None) -> Worker:
        """Return a worker that runs: this one, or another one in its place."""
        if worker is not None and (worker.alive or worker.remote):
            return worker
        if worker is not None:
            await worker.kill()
        return await WorkerProcess.start(self.limits, self._environment)

    def _land(self, flight: _Flight, answer: Answer | None) -> None:
        """Tell those who wait, and forget the request."""
        if answer is None and flight.waiters and not self._closed:
            # Somebody asked again while the abandoned work was being killed, or its node died: start over.
            flight.start_over()
            self._queue.add(flight.request, flight)
            return
        del self._flights[flight.key]
        if answer is None:
            flight.answer.cancel()
        elif not flight.answer.done():
            flight.answer.set_result(answer)

    def _rest(self, worker: Worker, *, retire: bool) -> None:
        """Keep a worker for the next request, for a while."""
        if self._closed or (retire and not worker.remote):
            self._later(worker.kill())
            return
        if worker.remote and not worker.alive:
            return
        loop = asyncio.get_running_loop()
        self._idle[worker] = (
            None if worker.remote else loop.call_later(self.limits.idle_seconds, self._end, worker)
        )

    def _end(self, worker: Worker) -> None:
        """End a worker that had nothing to do."""
        if worker in self._idle:
            del self._idle[worker]
            self._later(worker.kill())

    def _later(self, chore: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine without waiting for it, and keep it alive meanwhile."""
        task = asyncio.ensure_future(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _abandon(self, flight: _Flight) -> None:
        """Stop work that nobody waits for, unless it will soon be done.

        First it is asked to stop, which costs nothing and works for most Python; what does not hear is killed.
        """
        if flight.waiters or flight.answer.done():
            return
        if flight in self._queue:
            self._queue.remove(flight)
            self._flights.pop(flight.key, None)
            flight.answer.cancel()
        elif flight.began is not None and flight.worker is not None and flight.task is not None:
            now = asyncio.get_running_loop().time()
            if now < flight.began + self.limits.soft_seconds:
                self._again(flight.began + self.limits.soft_seconds, self._abandon, flight)
            elif flight.interrupted is None:
                flight.interrupted = now
                flight.worker.interrupt()
                self._again(now + self.limits.grace_seconds, self._abandon, flight)
            elif now < flight.interrupted + self.limits.grace_seconds or flight.task.cancelling():
                return
            elif self._may_kill(now):
                flight.task.cancel()
            else:
                self._again(self._kills[0] + KILLS_SECONDS, self._abandon, flight)

    @staticmethod
    def _again(when: float, what: Callable[[_Flight], None], flight: _Flight) -> None:
        """Call `what` at a time of the loop's clock, a little later for certain."""
        asyncio.get_running_loop().call_at(when + 0.001, what, flight)

    def _may_kill(self, now: float) -> bool:
        """Whether one more worker may be killed for work that nobody wants; it counts as done."""
        while self._kills and self._kills[0] <= now - KILLS_SECONDS:
            self._kills.popleft()
        if len(self._kills) >= KILLS * self.limits.workers:
            return False
        self._kills.append(now)
        return True

    async def close(self) -> None:
        """End all workers; whoever still waits is cancelled."""
        self._closed = True
        for flight in self._queue:
            flight.answer.cancel()
        self._queue.clear()
        running = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in [*running, *self._background]:
            task.cancel()
        for worker, timer in list(self._idle.items()):
            if timer is not None:
                timer.cancel()
            self._later(worker.kill())
        self._idle.clear()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, *self._chores, return_exceptions=True)
