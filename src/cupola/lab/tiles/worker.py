"""``python -m cupola.lab.tiles.worker MEMORY_MIB PARENT_PID [background]``: computes tiles, one at a time, until its parent is gone.

Requests and answers are frames on standard input and output. What a user's function prints goes to standard
error: in the pipe it would be taken for an answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import hashlib
import os
import resource
import signal
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from cupola.exceptions import CupolaError, InputError
from cupola.lab.tiles import frames, works
from cupola.lab.tiles.problems import TileProblem
from cupola.lab.tiles.source import remember

if TYPE_CHECKING:
    from cupola.lab.chains import Chain

__all__ = ["die_with", "main"]

CHAINS_KEPT = 16
BACKGROUND_NICE = 10
"""A tenth of a processor where others want it: less, and on a busy machine nothing would ever be done."""
PR_SET_PDEATHSIG = 1


def main(args: list[str] | None = None) -> int:
    """Compute tiles until standard input ends."""
    numbers = sys.argv[1:] if args is None else args
    memory_mib, parent = int(numbers[0]), int(numbers[1])
    die_with(parent)
    if "background" in numbers:
        os.nice(BACKGROUND_NICE)
    source, sink = _private_pipes()
    _limit(memory_mib)
    faulthandler.enable()
    worker = Worker(memory_mib)
    signal.signal(signal.SIGUSR1, worker.interrupted)
    sink.write(frames.pack({"ready": True}))
    sink.flush()
    while (message := frames.read(source)) is not None:
        header, body = worker.answer(message[0])
        sink.write(frames.pack(header, body))
        sink.flush()
    return 0


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent: a function that loops would never see the closed pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before that call.
    if os.getppid() != parent:
        sys.exit(1)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the two pipes to descriptors that no user function writes to by accident."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _limit(memory_mib: int) -> None:
    """Bound the memory, so that a greedy function gets a MemoryError on its own line and the machine stays usable.

    Data segments are what counts: libraries reserve far more address space than they use.
    """
    size = memory_mib * 1024 * 1024
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Abandoned(BaseException):
    """Nobody wants any more what is computed; no ``except Exception`` of a function holds this up."""


class Worker:
    """Answers requests with the chains it has open."""

    def __init__(self, memory_mib: int) -> None:
        # What is slow to load is loaded before the first tile's time begins.
        from cupola.lab.chains import store
        from cupola.lab.chains.compute import evaluate  # noqa: F401
        from cupola.lab.tiles import encode, overview  # noqa: F401

        self._store = store
        self._memory_mib = memory_mib
        self._busy = False
        self._chains: OrderedDict[tuple[str, str], Chain] = OrderedDict()

    def interrupted(self, _signal: int, _frame: object) -> None:
        """Stop what is computed. Where nothing is, the signal came too late and means nothing."""
        if self._busy:
            self._busy = False
            raise Abandoned

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the header and the body of the answer to `request`; no error gets out."""
        try:
            self._busy = True
            answer = self._guarded(request)
            self._busy = False
        except Abandoned:
            return {"abandoned": True}, b""
        return answer

    def _guarded(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        chain: Chain | None = None
        try:
            chain = self._chain(request["chain"], request["revision"], request.pop("text", None))
            return self._answer(chain, request)
        except CupolaError as error:
            return self._problem(TileProblem(code=error.code, status=error.status, message=str(error)))
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - a function may raise anything, SystemExit included
            if chain is not None:
                remember(chain, error)
            return self._failed(error)

    def _failed(self, error: BaseException) -> tuple[dict[str, Any], bytes]:
        """Tell what the user's function raised."""
        from cupola.lab.jobs.failure import describe

        failure = describe(error)
        if not isinstance(error, MemoryError):
            problem = TileProblem(
                code="function",
                status=500,
                message=f"{failure.error}: {failure.message}",
                line=failure.line,
                traceback=failure.traceback,
            )
            return self._problem(problem)
        problem = TileProblem(
            code="memory",
            status=507,
            message=f"The function needs more than {self._memory_mib} MiB of memory for one tile.",
            line=failure.line,
            traceback=failure.traceback,
        )
        # What it had taken may still be held somewhere: the next tile gets a fresh process.
        return {**self._problem(problem)[0], "retire": True}, b""

    @staticmethod
    def _problem(problem: TileProblem) -> tuple[dict[str, Any], bytes]:
        return {"problem": problem.to_json()}, b""

    @staticmethod
    def _answer(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        began = time.perf_counter()
        header, body = works.find(request["do"])(chain, request)
        return {**header, "seconds": round(time.perf_counter() - began, 5)}, body

    def _chain(self, name: str, revision: str, text: str | None) -> Chain:
        """Return a chain, from memory if it was used lately; another revision looks at its folder again.

        Its JSON comes along as `text` where the session has another home than this machine.
        """
        key = (name, revision)
        if key in self._chains:
            self._chains.move_to_end(key)
            return self._chains[key]
        chain = self._chains[key] = self._store.load(name) if text is None else _parsed(name, text)
        while len(self._chains) > CHAINS_KEPT:
            self._chains.popitem(last=False)
        return chain


def _parsed(name: str, text: str) -> Chain:
    """Return the chain whose JSON came with a request.

    Raises
    ------
    InputError
        It is another one than the request names.
    """
    from cupola.lab.chains import Chain

    if hashlib.sha256(text.encode()).hexdigest() != name:
        raise InputError(
            f"What was sent is not the chain {name[:12]}: run the notebook cell that makes it again."
        )
    return Chain.from_json(text)


if __name__ == "__main__":
    sys.exit(main())
