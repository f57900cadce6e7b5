"""One wire to a kernel for all pages: requests go out under one name, and answers are sorted by who asked."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Port", "Wire"]

HEARS_S = 5.0
"""Requests wait so long at most until the guardian hears what they bring about."""
LOOK_S = 0.02
_DELIMITER = b"<IDS|MSG>"


class Port:
    """A page's end of a wire, with the face of a ``ZMQStream``.

    Parameters
    ----------
    wire
        The kernel's.
    channel
        ``shell``, ``control`` or ``stdin``.
    session
        The page's.
    """

    def __init__(self, wire: Wire, channel: str, session: str) -> None:
        self.channel = channel
        self._wire = wire
        self._session = session
        self._closed = False
        self._callback: Callable[[Any, list[Any]], None] | None = None
        wire.plug(channel, session, self)

    def on_recv_stream(self, callback: Callable[[Any, list[Any]], None] | None) -> None:
        """Call `callback` with this and each message."""
        self._callback = callback

    def on_recv(self, callback: Callable[[list[Any]], None] | None) -> None:
        """Call `callback` with each message."""
        self._callback = None if callback is None else lambda _, parts: callback(parts)

    def receive(self, parts: list[Any]) -> None:
        """Take an answer."""
        if self._callback is not None:
            self._callback(self, parts)

    def send_multipart(self, parts: list[Any], *flags: int, **options: Any) -> Any:
        """Send a request."""
        return self._wire.send(self.channel, parts, *flags, **options)

    def closed(self) -> bool:
        """Whether the page has gone."""
        return self._closed

    def close(self) -> None:
        """Let the page go; the wire stays."""
        self._closed = True
        self._wire.unplug(self.channel, self._session, self)

    def stop_on_recv(self) -> None:
        """Take no more messages."""
        self._callback = None

    def flush(self) -> None:
        """Do nothing: answers are taken as they come."""


class Wire:
    """The server's sockets to one kernel.

    Parameters
    ----------
    manager
        Of the kernel.
    guarded
        Whether a guardian hears its questions; else they come here.
    """

    def __init__(self, manager: Any, *, guarded: bool = True) -> None:
        self._name = b"cupola-" + manager.kernel_id.encode()
        self._guarded = guarded
        self._streams: dict[str, Any] = {}
        self._ports: list[int] = []
        self._plugged: dict[tuple[str, str], Port] = {}
        self._manager = manager
        self._held: deque[tuple[str, list[Any], tuple[int, ...], dict[str, Any]]] = deque()
        self.connect(manager)

    def connect(self, manager: Any) -> None:
        """Connect to where the kernel is now; what pages have plugged in stays there."""
        self._manager = manager
        if self._ports == list(manager.ports):
            return
        self.close()
        self._ports = list(manager.ports)
        # The guardian has stdin under the first name, so each question of the kernel is in its journal.
        stdin = self._name + b"-answers" if self._guarded else self._name
        self._streams = {
            "shell": manager.connect_shell(identity=self._name),
            "control": manager.connect_control(identity=self._name),
            "stdin": manager.connect_stdin(identity=stdin),
        }
        for channel, stream in self._streams.items():
            stream.on_recv(lambda parts, channel=channel: self._sort(channel, parts))

    def plug(self, channel: str, session: str, port: Port) -> None:
        """Send answers to `session` to a port."""
        self._plugged[channel, session] = port

    def unplug(self, channel: str, session: str, port: Port) -> None:
        """Forget a port."""
        if self._plugged.get((channel, session)) is port:
            del self._plugged[channel, session]

    def send(self, channel: str, parts: list[Any], *flags: int, **options: Any) -> Any:
        """Send a request; the first ones of a kernel when its guardian hears it, or what they bring about would be lost."""
        provisioner: Any = self._manager.provisioner
        if not self._held and (not getattr(provisioner, "deaf", False) or provisioner.hears()):
            return self._streams[channel].send_multipart(parts, *flags, **options)
        self._held.append((channel, parts, flags, options))
        if len(self._held) == 1:
            self._release(time.monotonic() + HEARS_S)
        return None

    def _release(self, until: float) -> None:
        """Send what was held back, as soon as that may be."""
        provisioner: Any = self._manager.provisioner
        if getattr(provisioner, "deaf", False) and not provisioner.hears():
            if time.monotonic() < until:
                IOLoop.current().call_later(LOOK_S, self._release, until)
                return
            # A full disk, mostly: the guardian cannot say it.
            provisioner.deaf = False
        while self._held:
            channel, parts, flags, options = self._held.popleft()
            # Whoever ended the kernel meanwhile wants nothing of it any more.
            if not self._streams[channel].closed():
                self._streams[channel].send_multipart(parts, *flags, **options)

    def close(self) -> None:
        """Cut the wire."""
        for stream in self._streams.values():
            if not stream.closed():
                stream.close()

    def _sort(self, channel: str, parts: list[Any]) -> None:
        """Give an answer to the page that asked; nobody misses the answer to one that is gone."""
        port = self._plugged.get((channel, _asker(parts)))
        if port is not None:
            port.receive(parts)


def _asker(parts: list[Any]) -> str:
    """Return the session of whoever a message is for; empty where it is no message."""
    with contextlib.suppress(ValueError, IndexError, AttributeError, StopIteration):
        at = next(place for place, part in enumerate(parts) if bytes(part) == _DELIMITER)
        return str(json.loads(bytes(parts[at + 3])).get("session", ""))
    return ""
