"""Calls to the process that owns HTCondor's bindings, each with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TOKENS", "Agent"]

SECONDS = 20.0
"""A query of 10,000 procs takes 0.1 s; a schedd that is busy with a large submit some seconds."""
_PIECE = 1 << 20
TOKENS = "_CONDOR_SEC_TOKEN_DIRECTORY"
"""How the environment of the bindings says which tokens are to be used."""


_ASKED = {
    "submit": "take the job",
    "find": "say whether it has the job",
    "poll": "say where jobs are",
    "act": "change the job",
    "throttle": "change how many tasks run at a time",
    "ended": "say how tasks ended",
    "ahead": "say what waits",
    "capacity": "say what it has",
}
_STRANGERS = re.compile(r"authenticat|authoriz|permission|token|allocate a cluster id|SECMAN", re.IGNORECASE)
"""How the bindings say that the schedd does not know who asks."""

_NOBODY = re.compile(
    r"Failed communication|Unable to locate|Failed to connect|Failed to fetch", re.IGNORECASE
)
"""How they say that nobody answers, or refuses to."""


class Agent:
    """The child process, started when it is first asked and anew after a call that hung.

    Parameters
    ----------
    environment
        What the child finds: `CONDOR_CONFIG` names the pool and the folder of the tokens.
    seconds
        Most time for one call.
    """

    def __init__(self, environment: Mapping[str, str], *, seconds: float = SECONDS) -> None:
        self._environment = dict(environment)
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None
        # Calls come from several threads, and the pipe takes one after the other.
        self._lock = threading.Lock()
        self._hung: tuple[float, UnavailableError] | None = None
        """When a call had no answer the last time, and what was said of it."""

    def __del__(self) -> None:
        # Nobody can ask it any more; while the interpreter ends, parts of it are gone already.
        with contextlib.suppress(Exception):
            self._end()

    def ask(self, call: str, **said: Any) -> dict[str, Any]:
        """Make one call and return its answer.

        Raises
        ------
        UnavailableError
            HTCondor does not answer in time, or refuses.
        """
        config = self._environment.get("CONDOR_CONFIG", "")
        if not Path(config).is_file():
            raise UnavailableError(
                f"HTCondor's configuration {config} is not there: the platform's administrator mends engines.htcondor.config."
            )
        began = time.monotonic()
        with self._lock:
            if self._hung is not None and self._hung[0] > began:
                # Whoever waits behind a call that hangs has waited long enough: all of them together would wait for minutes.
                raise self._hung[1]
            child = self._running()
            try:
                answer = self._exchange(child, json.dumps({"call": call, **said}).encode() + b"\n")
            except (OSError, ValueError) as error:
                # The pipe may hold half of an answer: it is not used again.
                self._end()
                silent = UnavailableError(
                    f"HTCondor does not answer ({str(error) or type(error).__name__}): try again in a minute; its "
                    "administrator finds the cause in the schedd's log."
                )
                self._hung = time.monotonic(), silent
                raise silent from error
        if "error" in answer:
            raise UnavailableError(
                _sentence(call, str(answer["error"]), self._environment, token=str(answer.get("token", "")))
            )
        return answer

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "cupola.platform.storage.htcondor.agent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                # Ctrl-C at the platform is not for it: it ends when its pipe does.
                start_new_session=True,
            )
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
        assert child.stdin is not None  # noqa: S101 - both are pipes, see above
        assert child.stdout is not None  # noqa: S101
        child.stdin.write(line)
        child.stdin.flush()
        end = time.monotonic() + self._seconds
        got = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not got.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError(f"no answer in {self._seconds:g} s")
                piece = os.read(child.stdout.fileno(), _PIECE)
                if not piece:
                    raise BrokenPipeError("its bindings ended")
                got += piece
        answer: dict[str, Any] = json.loads(got)
        return answer

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _sentence(call: str, error: str, environment: Mapping[str, str], *, token: str = "") -> str:
    reason = " ".join(error.split())[:300].rstrip(".")
    tokens = environment.get(TOKENS) or f"the folder that {environment.get('CONDOR_CONFIG')} names"
    if token and (_NOBODY.search(error) or _STRANGERS.search(error)):
        return f"HTCondor does not {_ASKED[call]} without a token, and {token}: the platform's administrator mends that."
    if _NOBODY.search(error):
        return (
            f"HTCondor does not {_ASKED[call]} ({reason}): it does not run, or does not accept the token in {tokens}; the pool's "
            "administrator finds the cause in its log."
        )
    if _STRANGERS.search(error):
        return (
            f"HTCondor does not {_ASKED[call]} for who the token in {tokens} says ({reason}): the pool's administrator gives a "
            "new token, or allows it."
        )
    return (
        f"HTCondor does not {_ASKED[call]} ({reason}): its administrator finds the cause in the schedd's log."
    )
