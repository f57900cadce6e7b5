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
DOOR = "door"
NAMES = ("hub", "portal", "proxy", DOOR)


@dataclass(frozen=True)
class Ports:
    """The loopback ports that nobody but the parts themselves uses."""

    hub: int
    portal: int
    proxy: int
    """Of the proxy's own API."""
    door: int
    """Where containers of sessions reach the platform, on the gateway of their network."""

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
    def choose(cls, file: Path, in_use: frozenset[int] = frozenset(), *, gateway: str = LOOPBACK) -> Ports:
        """Return the ports chosen earlier, each replaced where a stranger took it since, and keep them.

        Parameters
        ----------
        file
            Where they are kept.
        in_use
            Ports on which parts of this very platform still listen: these stay.
        gateway
            The address that the door is on.
        """
        kept = _kept(file)
        good = {
            name: port
            for name, port in kept.items()
            if port in in_use or is_free(gateway if name == DOOR else LOOPBACK, port)
        }
        chosen = cls(**{name: good.get(name) or port for name, port in _new_ports(gateway).items()})
        if asdict(chosen) != kept:
            write_private(file, json.dumps(asdict(chosen)))
        return chosen

    @classmethod
    def _kept(cls, file: Path) -> Ports | None:
        kept = _kept(file)
        return cls(**kept) if len(kept) == len(NAMES) else None


def _kept(file: Path) -> dict[str, int]:
    """Return the ports in a file; none where it is damaged, and all but the new ones where it is older."""
    found: dict[str, Any] = read_json(file)
    if not set(found) <= set(NAMES):
        return {}
    values = list(found.values())
    good = all(type(value) is int and 0 < value <= LARGEST for value in values)
    return found if good and len(set(values)) == len(values) else {}


def _new_ports(gateway: str) -> dict[str, int]:
    """Choose free ports; all are held until the last is chosen, so that they differ."""
    with contextlib.ExitStack() as held:
        chosen: dict[str, int] = {}
        while len(chosen) < len(NAMES):
            name = NAMES[len(chosen)]
            listener = held.enter_context(socket.socket())
            listener.bind((gateway if name == DOOR else LOOPBACK, 0))
            port = int(listener.getsockname()[1])
            if port not in chosen.values():  # on another address the same number could be free
                chosen[name] = port
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
