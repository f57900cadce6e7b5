"""What it costs that notebooks survive: memory of the guardians, and time for each cell that is executed."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import statistics
import struct
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import nbformat
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

    from support.survive_labs import StockLab

__all__ = ["Cells", "added_latency", "guardian_memory"]

PROTOCOL = "v1.kernel.websocket.jupyter.org"
"""What JupyterLab speaks."""
WARM = 20
MB = 10**6


class Cells:
    """A notebook's kernel and a websocket to it, as a page has them.

    Parameters
    ----------
    lab
        The server.
    name
        Of the notebook.
    """

    def __init__(self, lab: StockLab, name: str) -> None:
        self._lab = lab
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", id="only")])
        lab.write(name, book)
        wish = {"path": name, "type": "notebook", "name": name, "kernel": {"name": "python3"}}
        made = lab.ask("POST", "api/sessions", json=wish)
        self.kernel = made.raise_for_status().json()["kernel"]["id"]
        self.session = secrets.token_hex(16)
        address = f"{lab.behind}api/kernels/{self.kernel}/channels?session_id={self.session}"
        self.socket: ClientConnection = connect(
            address.replace("http", "ws", 1),
            subprotocols=[PROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"token {lab.token}"},
            max_size=None,
            open_timeout=60,
        )

    def run(self, code: str) -> float:
        """Execute a cell; return the seconds until its reply is there and the kernel is idle again."""
        message = secrets.token_hex(16)
        header = {
            "msg_id": message,
            "msg_type": "execute_request",
            "session": self.session,
            "username": "",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.4",
        }
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        content |= {"user_expressions": {}, "stop_on_error": True}
        metadata = {"cellId": "only", "deletedCells": [], "recordTiming": False}
        sent = packed("shell", header, {}, metadata, content)
        begun = time.perf_counter()
        self.socket.send(sent)
        wanted = {"execute_reply", "idle"}
        while wanted:
            # The server's small packets would wait for our acknowledgement (40 ms), and hide what is measured.
            self.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            kind, parent, told = unpacked(self.socket.recv(timeout=60))
            if parent == message:
                wanted -= {kind, told}
        return time.perf_counter() - begun

    def close(self) -> None:
        """Leave the kernel and end it: what it still does is not to meet what is measured next."""
        self.socket.close()
        self._lab.ask("DELETE", f"api/kernels/{self.kernel}").raise_for_status()


def packed(channel: str, *parts: dict[str, Any]) -> bytes:
    """Return a message as the websocket takes it: the places of its parts, then the parts."""
    pieces = [channel.encode(), *(json.dumps(part).encode() for part in parts)]
    places = [8 * (len(pieces) + 2)]
    for piece in pieces:
        places.append(places[-1] + len(piece))
    return struct.pack(f"<{len(places) + 1}Q", len(places), *places) + b"".join(pieces)


def unpacked(raw: Any) -> tuple[str, str, str]:
    """Return the type of a message, the id of what it answers, and the state of the kernel that it tells."""
    (number,) = struct.unpack_from("<Q", raw)
    places = struct.unpack_from(f"<{number}Q", raw, 8)
    _, header, parent, _, content = (raw[start:end] for start, end in pairwise(places[:6]))
    told = json.loads(content).get("execution_state", "") if b"execution_state" in content else ""
    return json.loads(header)["msg_type"], json.loads(parent).get("msg_id", ""), told


@contextlib.contextmanager
def _cells(lab: StockLab, name: str) -> Iterator[Cells]:
    one = Cells(lab, name)
    try:
        yield one
    finally:
        one.close()


def added_latency(ours: StockLab, plain: StockLab, cells: int) -> tuple[float, float, float]:
    """Execute trivial cells in turn on both servers.

    Returns
    -------
    tuple[float, float, float]
        Medians in milliseconds: of ours, of the other's, and of how much longer ours takes than the other's beside it.
    """
    with _cells(ours, "latency.ipynb") as first, _cells(plain, "latency.ipynb") as second:
        times: dict[int, list[float]] = {0: [], 1: []}
        for number in range(WARM + cells):
            # In turn, and each as often the first: what else the machine does meanwhile meets both.
            for side in (0, 1) if number % 2 else (1, 0):
                taken = (first, second)[side].run(f"x = {number}")
                if number >= WARM:
                    times[side].append(taken)
    added = [mine - theirs for mine, theirs in zip(times[0], times[1], strict=True)]
    mine, theirs, more = (statistics.median(one) * 1000 for one in (times[0], times[1], added))
    return mine, theirs, more


def guardian_memory(lab: StockLab, kernels: int) -> list[tuple[float, float]]:
    """Start kernels that say something; return RSS and PSS of each guardian in MB."""
    with contextlib.ExitStack() as stack:
        for number in range(kernels):
            one = stack.enter_context(_cells(lab, f"memory-{number}.ipynb"))
            one.run("for number in range(2000):\n    print('line', number)")
        infos = [one.memory_full_info() for one in lab.guardians()]
        return [(info.rss / MB, info.pss / MB) for info in infos]
