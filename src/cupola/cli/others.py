"""Building the other datalabs while the platform runs: ``cupola up`` keeps a ``cupola build`` beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.config import Config

__all__ = ["building_others"]

STOP_SECONDS = 20


@contextlib.contextmanager
def building_others(config: Config) -> Iterator[None]:
    """Build what is not built yet, at low priority, as long as the context is open.

    It has a log of its own, ``build.log``; that it fails stops nothing. The options of this command line reach it by the
    environment, as they reach hub and portal.
    """
    from cupola.config import Compute

    if config.compute is not Compute.DOCKER or not config.docker.build:
        yield
        return
    config.paths.log.mkdir(parents=True, exist_ok=True)
    with (config.paths.log / "build.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cupola.cli", "build", "--background"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal is for the supervisor, which ends this one when all else has ended.
            start_new_session=True,
        )
    try:
        yield
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the build with all it has started."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
