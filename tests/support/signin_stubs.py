"""What takes the place of proxy and sessions in `support.signin`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner


class NoProxy(Proxy):
    """Keeps the routes in mind; people talk to the hub directly."""

    should_start = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kept = {}

    async def add_route(self, routespec, target, data):
        self.kept[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec):
        self.kept.pop(routespec, None)

    async def get_all_routes(self):
        return dict(self.kept)


class StubSpawner(Spawner):
    """A session that answers every connection with a line per tenth of a second, as a kernel's channel would."""

    listener = None
    poll_interval = 2

    async def start(self):
        self.listener = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        self.open = set()
        Path(f"port-{self.user.name}").write_text(str(self.port))
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, reader, writer):
        self.open.add(writer)
        with contextlib.suppress(OSError):
            first = await reader.readline()
            if first.startswith(b"TICK"):
                while True:
                    writer.write(b"tick\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)
            body = b"{}"
            head = f"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 6.1.1\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        self.open.discard(writer)
        writer.close()

    async def poll(self):
        return None if self.listener is not None else 0

    async def stop(self, now=False):  # noqa: ARG002 - the hub's own name
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.close()
            for writer in list(self.open):
                writer.transport.abort()
