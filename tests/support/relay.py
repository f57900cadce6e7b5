"""A Unix socket that everybody may use in front of one that root alone may use."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["relay"]


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def relay(place: Path, target: str) -> Iterator[str]:
    """Listen at `place` for what goes to the socket `target`, and return the address as Docker writes it."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as behind:
                behind.connect(target)
                back = threading.Thread(target=_pass_on, args=(behind, self.request), daemon=True)
                back.start()
                _pass_on(self.request, behind)
                back.join()

    with _Server(str(place), Handler) as server:
        place.chmod(0o666)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"unix://{place}"
        finally:
            server.shutdown()
            place.unlink(missing_ok=True)
