"""The ports of the parts: chosen once, kept, so that a session that outlives a crash still finds its hub."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cupola.exceptions import StartError
from cupola.hub.files import read_json, write_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LOOPBACK", "Ports", "answers", "is_free"]

LOOPBACK = "127.0.0.1"
LARGEST = 65535


@dataclass(frozen=True)
class Ports:
    """The loopback ports that nobody but the parts themselves uses."""

    hub: int
    portal: int
    proxy: int
    """Of the proxy's own API."""

    @classmethod
    def read(cls, file: Path) -> Ports:
        """Return the ports chosen earlier.

        Raises
        ------
        StartError
            None were.
        """
        ports = cls._kept(file)
        if ports is None:
            raise StartError(
                f"{file} names no ports; start the platform with `cupola up`, which chooses them"
            )
        return ports

    @classmethod
    def choose(cls, file: Path, in_use: frozenset[int] = frozenset()) -> Ports:
        """Return the ports chosen earlier, each replaced where a stranger took it since, and keep them.

        Parameters
        ----------
        file
            Where they are kept.
        in_use
            Ports on which parts of this very platform still listen: these stay.
        """
        kept: dict[str, int] = asdict(ports) if (ports := cls._kept(file)) else {}
        good = {name: port for name, port in kept.items() if port in in_use or is_free(LOOPBACK, port)}
        chosen = cls(**{name: good.get(name) or port for name, port in _new_ports().items()})
        if asdict(chosen) != kept:
            write_private(file, json.dumps(asdict(chosen)))
        return chosen

    @classmethod
    def _kept(cls, file: Path) -> Ports | None:
        found: dict[str, Any] = read_json(file)
        values = [found.get(name) for name in ("hub", "portal", "proxy")]
        if all(isinstance(value, int) and 0 < value <= LARGEST for value in values) and len(
            set(values)
        ) == len(values):
            return cls(**found) if len(found) == len(values) else None
        return None


def _new_ports() -> dict[str, int]:
    """Choose three free ports; all are held until the last is chosen, so that they differ."""
    with contextlib.ExitStack() as held:
        chosen = {}
        for name in ("hub", "portal", "proxy"):
            listener = held.enter_context(socket.socket())
            listener.bind((LOOPBACK, 0))
            chosen[name] = int(listener.getsockname()[1])
        return chosen


def is_free(address: str, port: int) -> bool:
    """Return whether one can listen on a port.

    Raises
    ------
    OSError
        One cannot for another reason than that it is taken: no such address, not allowed.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        # As servers do: a connection that has just ended does not occupy the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def answers(address: str, port: int, seconds: float = 1) -> bool:
    """Return whether somebody accepts connections there."""
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except OSError:
        return False
    return True
