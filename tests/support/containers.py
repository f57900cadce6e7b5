"""Containers of sessions without a platform: a network, rules, a door, and plans for the stub image."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cupola.config import Config
from cupola.hub.containers import network as networks
from cupola.hub.containers.engine import engine_client
from cupola.hub.containers.firewall import Firewall
from cupola.hub.drivers.docker import SessionContainer
from cupola.models.containers import container_name
from cupola.models.resources import Resources
from cupola.models.session import ContainerPlan, Plan
from support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.containers import SessionNetwork
    from support.docker import Engine

NUMBER = 20007
"""The user number of the stub sessions."""


class Door(ThreadingHTTPServer):
    """A server that answers everything with a word; it stands for the platform, or for what must not be reached."""

    daemon_threads = True

    def __init__(self, address: str, port: int = 0, word: str = "door") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(word.encode())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((address, port), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Grounds:
    """The network of a platform in `folder`, with rules as strong as ``weaken`` leaves them."""

    def __init__(self, folder: Path, engine: Engine, **settings: object) -> None:
        self.engine = engine
        self.image = engine.stub()
        self.config = Config(
            state=folder / "state", owner="ada", compute="docker", docker={"host": engine.host, **settings}
        )
        self.sessions: list[Session] = []
        self.network: SessionNetwork | None = None
        self.firewall: Firewall | None = None

    def make(self, *, weaken: frozenset[str] = frozenset(), name_servers: tuple[str, ...] = ()) -> None:
        made = networks.make(self.config, talk="icc" in weaken)
        self.door = Door(made.gateway)
        self.network = made.model_copy(update={"door": self.door.port})
        settings = self.config.docker
        self.firewall = Firewall(
            self.network,
            allow=settings.allow,
            block=settings.block,
            name_servers=name_servers,
            weaken=weaken,
        )
        self.firewall.apply()
        self.config.paths.network.parent.mkdir(parents=True, exist_ok=True)
        networks.keep(self.config.paths, self.network)

    def session(self, name: str, **changes: object) -> Session:
        self.sessions.append(Session(self, name, **changes))
        return self.sessions[-1]

    def clear(self) -> None:
        self.engine.remove(**{"cupola.platform": self.config.paths.key})
        if self.firewall is not None:
            self.firewall.remove()
        if self.network is not None:
            self.door.__exit__()
        engine_client(self.engine.host).close()
        engine_client.cache_clear()


class Session:
    """One session of the stub image."""

    def __init__(self, grounds: Grounds, name: str, **changes: object) -> None:
        self.grounds, self.name = grounds, name
        key = grounds.config.paths.key
        self.home = grounds.config.paths.home(name)
        plan = ContainerPlan(
            name=container_name(key, name),
            image=grounds.image,
            command=["/opt/cupola/bin/python", "-P", "-m", "cupola.lab.session"],
            environment={"CUPOLA_API_URL": f"{grounds.network.door_url}/services/cupola/api"},
            user=NUMBER,
            group=NUMBER,
            folder=f"/home/{name}",
            folders=[self.home],
            mounts=[{"source": self.home, "target": f"/home/{name}"}],
            resources=Resources(cores=0.5, memory_mib=128),
            processes=64,
            scratch_mib=16,
            network=grounds.network.name,
            publish=not grounds.network.internal,
            log=grounds.config.paths.session_log(name),
        )
        self.plan = Plan(
            session=name,
            owner=name,
            datalab="lab",
            version=grounds.image,
            ready_path="/",
            mounts=[],
            container=plan.model_copy(update=changes),
        )
        self.driver = self.another_driver()
        self.address = ""

    def another_driver(self) -> SessionContainer:
        """Return what a hub that was just started has."""
        return SessionContainer(self.name, host=self.grounds.engine.host, key=self.grounds.config.paths.key)

    async def start(self, seconds: float = 60) -> Session:
        self.grounds.config.paths.homes.mkdir(parents=True, exist_ok=True)
        host, port = self.driver.listens(self.plan)
        environment = {
            "JUPYTERHUB_SERVICE_PREFIX": f"/user/{self.name}/s/",
            "JUPYTERHUB_SERVICE_URL": f"http://{host}:{port}/user/{self.name}/s/",
            "JUPYTERHUB_API_TOKEN": "a-made-up-token",
        }
        place = await self.driver.start(self.plan, environment)
        await self.driver.wait_for_port(seconds)
        self.address = f"http://{place.host}:{place.port}/user/{self.name}/s/"
        return self

    @property
    def container(self):
        return self.grounds.engine.client.containers.get(self.plan.container.name)

    async def ask(self, path: str, code: str | None = None, seconds: float = 60) -> str:
        """GET a path of the session, or have it run `code`: ``child`` in a program of its own, ``inside`` in the server."""

        def fetch() -> str:
            data = None if code is None else code.encode()
            with urllib.request.urlopen(f"{self.address}{path}", data, timeout=seconds) as answer:
                return answer.read().decode()

        return await asyncio.to_thread(fetch)

    async def run(self, code: str, seconds: float = 60) -> str:
        return (await self.ask("child", code, seconds)).strip()

    async def reaches(self, address: str, port: int) -> str:
        """Return ``open`` or the reason why one cannot connect from inside."""
        code = (
            "import socket\n"
            f"try:\n    socket.create_connection(({address!r}, {port}), timeout=3).close()\n"
            "except OSError as e:\n    print(type(e).__name__)\nelse:\n    print('open')"
        )
        return await self.run(code)


@contextmanager
def grounds_in(folder: Path, engine: Engine, *, weaken: frozenset[str] = frozenset(), **settings: object):
    """Give grounds that are cleared at the end."""
    grounds = Grounds(folder, engine, **settings)
    try:
        grounds.make(weaken=weaken)
        yield grounds
    finally:
        grounds.clear()


__all__ = ["NUMBER", "Door", "Grounds", "Session", "free_port", "grounds_in"]
