"""One tile worker as the server sees it: a process that is asked, waited for, and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cupola.lab.tiles import frames
from cupola.lab.tiles.problems import TileProblem

if TYPE_CHECKING:
    from cupola.lab.tiles.queue import Place

__all__ = ["Answer", "NodeLostError", "TileWorkerError", "Worker", "WorkerLimits", "WorkerProcess"]

ERRORS_KEPT = 8192
"""Bytes of a worker's standard error that are kept, for the sentence when it dies."""
MOST_PATIENCE = 6.0
"""Times the limit after which a tile is stopped however busy the machine is."""


@dataclass(frozen=True)
class WorkerLimits:
    """What tile workers may use."""

    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 4))
    """Most of them at a time."""
    seconds: float = 20.0
    """For one tile, from when a worker begins; time in which it wanted a processor and got none is not counted."""
    start_seconds: float = 90.0
    """For a worker to come up; libraries load slowly on a busy machine."""
    soft_seconds: float = 0.3
    """A tile that nobody waits for any more may still run this long, then it is interrupted: cheap work is kept."""
    grace_seconds: float = 2.0
    """One that does not hear the interrupt is killed so long after it."""
    idle_seconds: float = 300.0
    """A worker that has nothing to do for so long ends."""
    memory_mib: int = 2048
    """Memory of one worker."""

    @classmethod
    def from_environment(cls) -> WorkerLimits:
        """Return the limits, with those that ``CUPOLA_TILE_SECONDS|WORKERS|MEMORY_MIB`` say."""
        given = {
            "seconds": os.environ.get("CUPOLA_TILE_SECONDS"),
            "workers": os.environ.get("CUPOLA_TILE_WORKERS"),
            "memory_mib": os.environ.get("CUPOLA_TILE_MEMORY_MIB"),
        }
        numbers: dict[str, Any] = {}
        for name, text in given.items():
            with contextlib.suppress(ValueError):
                value = float(text) if text else 0.0
                if value > 0:
                    numbers[name] = value if name == "seconds" else max(int(value), 1)
        return cls(**numbers)


@dataclass(frozen=True)
class Answer:
    """What a worker made of a request."""

    body: bytes = b""
    header: dict[str, Any] = field(default_factory=dict)
    problem: TileProblem | None = None


class TileWorkerError(Exception):
    """A worker could not be started, died, or was killed; carries the problem to show."""

    def __init__(self, problem: TileProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class NodeLostError(TileWorkerError):
    """The node that a worker ran on is gone, or cannot be reached any more."""


class Worker(Protocol):
    """What computes requests, one at a time: a process of this machine, or one of a service node."""

    remote: bool
    """Whether it is elsewhere."""
    last: Place | None
    """The tile it made last."""

    @property
    def pid(self) -> int:
        """Its process id; 0 for one that is elsewhere."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can be asked, as far as is known."""
        ...

    async def ask(self, request: dict[str, Any], *, patience: float = 1.0) -> Answer:
        """Send a request and wait for the answer; raises TileWorkerError when it is gone."""
        ...

    def interrupt(self) -> None:
        """Ask it to stop what it computes."""
        ...

    async def kill(self) -> None:
        """End it, and what it started, at once."""
        ...


class WorkerProcess:
    """A running ``python -m cupola.lab.tiles.worker``."""

    remote = False

    def __init__(self, process: asyncio.subprocess.Process, limits: WorkerLimits) -> None:
        self.last: Place | None = None
        self._process = process
        self._limits = limits
        self._errors = bytearray()
        self._reader = asyncio.create_task(self._read_errors())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as is known."""
        return self._process.returncode is None

    @classmethod
    async def start(
        cls,
        limits: WorkerLimits,
        environment: dict[str, str] | None = None,
        *,
        background: bool = False,
    ) -> WorkerProcess:
        """Start a worker with the session's interpreter for user code and wait until it is ready.

        One in the `background` gets processor time only where nothing else wants any.

        Raises
        ------
        TileWorkerError
            It did not come up.
        """
        python = os.environ.get("CUPOLA_PYTHON") or sys.executable
        try:
            process = await asyncio.create_subprocess_exec(
                python, "-m", "cupola.lab.tiles.worker", str(limits.memory_mib), str(os.getpid()),
                *(["background"] if background else []),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # A group of its own: a kill takes along what the user's function started,
                # and Ctrl-C in a terminal is the server's to handle.
                start_new_session=True,
                env=worker_environment() if environment is None else environment,
            )  # fmt: skip
        except OSError as error:
            raise TileWorkerError(_no_start(f"{python}: {error.strerror}")) from error
        worker = cls(process, limits)
        try:
            async with asyncio.timeout(limits.start_seconds):
                await frames.read_async(worker._stdout)
        except (asyncio.IncompleteReadError, ValueError, TimeoutError) as error:
            await worker.kill()
            lines = worker.errors.strip().splitlines() or ["it said nothing"]
            raise TileWorkerError(_no_start(lines[-1])) from error
        except asyncio.CancelledError:
            await worker.kill()
            raise
        return worker

    @property
    def _stdout(self) -> asyncio.StreamReader:
        """The pipe its answers come through."""
        if self._process.stdout is None:
            raise RuntimeError("a worker is started with pipes")
        return self._process.stdout

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        """The pipe that requests go into."""
        if self._process.stdin is None:
            raise RuntimeError("a worker is started with pipes")
        return self._process.stdin

    @property
    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        return self._errors.decode(errors="replace")

    async def ask(self, request: dict[str, Any], *, patience: float = 1.0) -> Answer:
        """Send a request and wait for the answer, at most `patience` times the limit of a tile.

        Raises
        ------
        TileWorkerError
            The time limit passed, or the worker died; it is gone in both cases.
        """
        self._errors.clear()
        seconds = self._limits.seconds * patience
        try:
            header, body = await self._answered(request, seconds)
        except TimeoutError as error:
            await self.kill()
            raise TileWorkerError(_too_slow(seconds, request.get("do", "tile"))) from error
        except (asyncio.IncompleteReadError, ValueError, OSError) as error:
            await self.kill()
            raise TileWorkerError(self._died()) from error
        if "problem" in header:
            return Answer(problem=TileProblem.model_validate(header["problem"]), header=header)
        return Answer(body, header)

    async def _answered(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send a request and return the answer; raises TimeoutError when it takes too long.

        Time for which the worker wanted a processor and got none is not counted, up to some times the limit: a tile
        is not stopped because others keep the machine busy.
        """

        async def exchange() -> tuple[dict[str, Any], bytes]:
            self._stdin.write(frames.pack(request))
            await self._stdin.drain()
            return await frames.read_async(self._stdout)

        started, waited = time.monotonic(), _waited(self.pid)
        end = started + seconds
        work = asyncio.create_task(exchange())
        try:
            while not work.done() and (left := end - time.monotonic()) > 0:
                await asyncio.wait({work}, timeout=left)
                end = started + min(seconds + _waited(self.pid) - waited, seconds * MOST_PATIENCE)
            if not work.done():
                raise TimeoutError
            return work.result()
        finally:
            work.cancel()

    def interrupt(self) -> None:
        """Ask it to stop what it computes; it hears that between two steps of Python."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._process.send_signal(signal.SIGUSR1)

    async def kill(self) -> None:
        """End the worker, and what it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        # A grandchild that left the group keeps the pipe open: do not wait for its end.
        await asyncio.wait([self._reader], timeout=1.0)
        self._reader.cancel()
        # asyncio closes a transport's pipes only when all of them saw their end.
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()

    async def _read_errors(self) -> None:
        """Keep the end of standard error, so that a chatty function never blocks on a full pipe."""
        if self._process.stderr is None:
            return
        while chunk := await self._process.stderr.read(4096):
            self._errors += chunk
            del self._errors[:-ERRORS_KEPT]

    def _died(self) -> TileProblem:
        """Say why the worker died in the middle of a tile."""
        code = self._process.returncode or 0
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        return TileProblem(
            code="crash",
            status=500,
            message=f"The function ended its own process ({how}); it calls something that crashes.",
            traceback=self.errors,
        )


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: the server's own, with one thread per library and a small GDAL cache.

    Workers run side by side on the same cores, so threads inside them would only get in each other's way.
    """
    quiet = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "GDAL_NUM_THREADS": "1",
    }
    # As an environment variable the number means megabytes (as an option of rasterio.Env: bytes).
    return {**quiet, "GDAL_CACHEMAX": "128", **os.environ}


def _no_start(why: str) -> TileProblem:
    """Say that a worker did not come up."""
    return TileProblem(
        code="worker",
        status=503,
        message=f"The tile worker did not start ({why}); if you installed packages, start a session without them.",
    )


def _waited(pid: int) -> float:
    """Return for how many seconds a process has been ready to run without a processor; 0 where nobody knows."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _too_slow(seconds: float, work: str) -> TileProblem:
    """Say that a tile took too long."""
    what = {"view": "one viewport", "area": "this area", "probe": "one place"}.get(work, "one tile")
    return TileProblem(
        code="time-limit",
        status=504,
        message=f"The function needs more than {seconds:g} s for {what} and was stopped; make it faster or run it as a job.",
    )
