"""A real hub with our sign-in, without proxy and portal, for tests that sign people in and throw them out.

A stub answers in the place of sessions; everything else (configuration, pages, database, guard) is what runs elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import httpx

from cupola.config import load
from cupola.hub.keys import Keys
from cupola.hub.links import Links
from cupola.models.containers import SessionNetwork
from support.ports import free_port

CONFIGURATION = """
from cupola.config import load
from cupola.models.containers import SessionNetwork
from cupola.hub.settings import configure
from support.signin_stubs import NoProxy, StubSpawner

config = load()
configure(c, config)
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = StubSpawner
c.JupyterHub.public_url = config.address + "/"
c.JupyterHub.services = [
    {name: value for name, value in service.items() if name not in ("command", "environment", "cwd")}
    for service in c.JupyterHub.services
]
"""
PATIENCE_S = 180
TESTS = Path(__file__).parents[1]


@dataclass
class Hub:
    """One hub in a folder of its own."""

    folder: Path
    sign_in: str
    """The lines below ``sign_in:``, indented by two."""
    owner: str = "ada"
    more: str = ""
    """Lines at the end of the hub's own configuration."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config_file(self) -> Path:
        return self.folder / "cupola.yaml"

    @property
    def config(self):
        return load(self.config_file)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(
            f"state: state\nowner: {self.owner}\ncompute: docker\nserver:\n  port: {self.port}\n"
            f"sample_archive: false\nsign_in:\n{self.sign_in}"
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.write()
        paths = self.config.paths
        for folder in (paths.secrets, paths.hub, paths.lock.parent, paths.log, paths.proxy):
            folder.mkdir(parents=True, exist_ok=True)
        Keys(paths.secrets).make()
        ports = {"hub": self.port, "portal": free_port(), "proxy": free_port(), "door": free_port()}
        paths.ports.write_text(json.dumps(ports))
        engine = SessionNetwork(
            key=paths.key,
            host="unix:///nowhere",
            name="none",
            bridge="none",
            gateway="127.0.0.1",
            subnet="127.0.0.0/8",
            door=ports["door"],
        )
        paths.network.write_text(engine.model_dump_json())
        file = self.folder / "hub_config.py"
        file.write_text(CONFIGURATION + self.more)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CUPOLA_", "JUPYTERHUB_"))
        }
        environment = kept | {"CUPOLA_CONFIG": str(self.config_file), "PYTHONPATH": str(TESTS)}
        with (self.folder / "hub.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=paths.hub,
            )
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.address}/hub/health", timeout=2).status_code == 200:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the hub did not start:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def users(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``cupola users`` for this hub."""
        verb, *rest = arguments
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CUPOLA_")}
        return subprocess.run(
            [sys.executable, "-m", "cupola.cli", "users", verb, *rest, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            check=False,
            env=kept,
            timeout=60,
        )

    def link(self, name: str) -> str:
        return f"{self.address}/hub/sign-in?token={Links(self.config.paths.links).create(name)}"

    def as_portal(self, method: str, path: str, **content) -> httpx.Response:
        """Ask the hub's REST API as the portal does."""
        headers = {"Authorization": f"token {Keys(self.config.paths.secrets).portal}"}
        return httpx.request(method, f"{self.address}/hub/api{path}", headers=headers, timeout=90, **content)


class Browser:
    """What of a browser counts here: cookies, redirects, forms."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.http = httpx.Client(timeout=90, headers={"Accept": "text/html"})
        self.seen: list[str] = []

    def get(self, address: str) -> httpx.Response:
        return self._follow(self.http.get(urljoin(self.hub.address, address)))

    def _follow(self, answer: httpx.Response) -> httpx.Response:
        for _ in range(20):
            self.seen.append(str(answer.url))
            place = answer.headers.get("location")
            # The portal does not run: who is sent there has arrived.
            if place is None or urljoin(str(answer.url), place).startswith(f"{self.hub.address}/services/"):
                return answer
            answer = self.http.get(urljoin(str(answer.url), place))
        raise AssertionError(f"redirects without an end: {self.seen[-5:]}")

    def send(self, page: httpx.Response, number: int = 0, **fields: str) -> httpx.Response:
        """Fill in a form of `page` and send it."""
        form = forms(page.text)[number]
        address = urljoin(str(page.url), form.pop("action"))
        return self._follow(self.http.post(address, data=form | fields))

    def open_link(self, name: str) -> httpx.Response:
        return self.send(self.get(self.hub.link(name)))

    @property
    def name(self) -> str | None:
        """The name of who is signed in."""
        answer = self.http.get(f"{self.hub.address}/hub/home")
        if answer.status_code != 200:
            return None
        found = re.search(r"Sign out ([a-z0-9._-]+)", answer.text)
        return found[1] if found else None

    def close(self) -> None:
        self.http.close()


def forms(text: str) -> list[dict[str, str]]:
    """Return the fields of each form with its ``action``."""
    found = []
    for head, body in re.findall(r"<form\b([^>]*)>(.*?)</form>", text, re.DOTALL):
        place = re.search(r'action="([^"]*)"', head)
        fields = {"action": unescape(place[1]) if place else ""}
        for tag in re.findall(r"<input\b[^>]*>", body):
            name = re.search(r'name="([^"]*)"', tag)
            value = re.search(r'value="([^"]*)"', tag)
            if name:
                fields[name[1]] = unescape(value[1]) if value else ""
        found.append(fields)
    return found


def problem(answer: httpx.Response) -> str:
    """Return the sentence of a page that says why somebody is not in."""
    found = re.search(r'<p class="problem"[^>]*>(.*?)</p>', answer.text, re.DOTALL)
    return unescape(found[1]) if found else ""


def wait_until(condition, seconds: float = 60) -> float:
    """Wait until `condition` holds; return the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.2)
    return time.monotonic() - began
