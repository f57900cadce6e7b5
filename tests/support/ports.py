"""Free ports for programs that tests start."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["free_port"]


def _ports() -> Iterator[int]:
    """Give each process that runs tests numbers of its own, below those that the kernel takes for connections."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = 20_000 + 3_000 * worker
    start = random.randrange(3_000)  # noqa: S311 - another run of the tests may go on beside
    yield from itertools.cycle(first + (start + number) % 3_000 for number in range(3_000))


_PORTS = _ports()


def free_port() -> int:
    """Return a port that stays free until a program that is started now takes it, seconds later."""
    while True:
        port = next(_PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
