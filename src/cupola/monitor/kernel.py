"""A Jupyter kernel reached through the proxy, by WebSocket, as JupyterLab does it."""

from __future__ import annotations

import ast
import asyncio
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.client import connect
from websockets.typing import Origin

from cupola.exceptions import TaskError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["Kernel", "Outcome"]

LARGEST_MESSAGE = 64 * 2**20
"""In bytes. A picture in an output is a few MiB."""


@dataclass
class Outcome:
    """What one cell gave."""

    text: str = ""
    """All it printed."""
    displays: list[dict[str, Any]] = field(default_factory=list)
    """The mime bundles of its results, in order."""


class Kernel:
    """One kernel; runs cells one after the other."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._session = uuid.uuid4().hex

    @classmethod
    async def connect(cls, address: str, *, cookies: str, origin: str) -> Self:
        """Connect to the channels of a running kernel.

        Parameters
        ----------
        address
            ``ws://.../api/kernels/ID/channels``.
        cookies
            The ``Cookie`` header a browser would send.
        origin
            The address of the page that a browser would connect from.
        """
        socket = await connect(
            address,
            additional_headers={"Cookie": cookies},
            origin=Origin(origin),
            max_size=LARGEST_MESSAGE,
        )
        return cls(socket)

    async def close(self) -> None:
        """Close the connection; the kernel goes on."""
        await self._socket.close()

    async def send(self, code: str) -> str:
        """Send a cell without waiting for it; return its message id."""
        message = uuid.uuid4().hex
        header = {
            "msg_id": message,
            "msg_type": "execute_request",
            "session": self._session,
            "username": "visitor",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        request = {
            "channel": "shell",
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
        }
        await self._socket.send(json.dumps({**request, "buffers": []}))
        return message

    async def run(self, code: str, *, seconds: float = 300) -> Outcome:
        """Run a cell and return what it gave.

        Raises
        ------
        TaskError
            The cell raised; the text is its traceback's last line.
        TimeoutError
            It was not done after `seconds`.
        """
        async with asyncio.timeout(seconds):
            return await self._follow(await self.send(code))

    async def value(self, expression: str, *, seconds: float = 60) -> Any:
        """Return the value of an expression made of plain Python data."""
        outcome = await self.run(f"print(repr({expression}))", seconds=seconds)
        return ast.literal_eval(outcome.text.strip())

    async def _follow(self, message: str) -> Outcome:
        outcome = Outcome()
        while True:
            seen = json.loads(await self._socket.recv())
            if seen["parent_header"].get("msg_id") != message:
                continue
            kind, content = seen["header"]["msg_type"], seen["content"]
            if kind == "stream":
                outcome.text += content["text"]
            elif kind in {"display_data", "execute_result"}:
                outcome.displays.append(content["data"])
            elif kind == "error":
                raise TaskError(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return outcome
