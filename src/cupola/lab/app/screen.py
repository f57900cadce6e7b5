"""The page that shows a screen, and its websocket: what noVNC says goes to the X server's socket, and back."""

from __future__ import annotations

import asyncio
import contextlib
import html
from pathlib import Path
from typing import Any

from tornado import web, websocket
from typing_extensions import override

__all__ = ["NOVNC", "make_screen"]

NOVNC = Path("/opt/novnc")
"""Where the image keeps noVNC's own files."""
PAGE = Path(__file__).with_name("page")
CHUNK = 2**16
LARGEST_MESSAGE = 64 * 2**20


class First(web.RequestHandler):
    """The page itself, with the datalab's title."""

    @override
    def initialize(self, title: str) -> None:
        """Take the title."""
        self.title = title

    @override
    def get(self) -> None:
        """Answer with the page."""
        text = (PAGE / "screen.html").read_text("utf-8").replace("{title}", html.escape(self.title))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(text)


class Files(web.StaticFileHandler):
    """Scripts and styles: asked for again each time, since two versions of a datalab may follow each other here."""

    @override
    def set_extra_headers(self, path: str) -> None:
        """Let browsers keep them, but ask."""
        self.set_header("Cache-Control", "no-cache")


class Wire(websocket.WebSocketHandler):
    """Carries bytes between a browser and the X server."""

    @override
    def initialize(self, socket: Path) -> None:
        """Take the path of the X server's socket."""
        self.socket = socket
        self.writer: asyncio.StreamWriter | None = None
        self.pump: asyncio.Task[None] | None = None

    @override
    def check_origin(self, origin: str) -> bool:
        """Say yes: the door in front has looked, and nobody else gets here."""
        return True

    @override
    async def open(self, *_args: str, **_kwargs: str) -> None:
        """Connect to the X server."""
        try:
            reader, self.writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            self.close(1011, "the screen is gone")
            return
        self.pump = asyncio.ensure_future(self._carry(reader))

    async def _carry(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, websocket.WebSocketClosedError):
            while data := await reader.read(CHUNK):
                # Waiting here is what keeps a slow browser from filling the memory.
                await self.write_message(data, binary=True)
        self.close(1000, "the screen is gone")

    @override
    async def on_message(self, message: str | bytes) -> None:
        """Carry what the browser says."""
        if self.writer is None or isinstance(message, str):
            return
        with contextlib.suppress(OSError):
            self.writer.write(message)
            await self.writer.drain()

    @override
    def on_close(self) -> None:
        """Leave the X server."""
        if self.pump is not None:
            self.pump.cancel()
        if self.writer is not None:
            self.writer.close()


def make_screen(title: str, socket: Path, novnc: Path = NOVNC) -> web.Application:
    """Return the application that shows a screen.

    Parameters
    ----------
    title
        Of the page.
    socket
        Where the X server speaks VNC.
    novnc
        The folder with noVNC's ``core`` and ``vendor``.
    """
    routes: list[Any] = [
        ("/", First, {"title": title}),
        ("/rfb", Wire, {"socket": socket}),
        ("/novnc/(.*)", Files, {"path": str(novnc)}),
        (r"/(screen\.(?:js|css))", Files, {"path": str(PAGE)}),
    ]
    return web.Application(
        routes, websocket_max_message_size=LARGEST_MESSAGE, log_function=lambda _handler: None
    )
