"""Jupyter servers that can be killed: a stock one, and one with Cupola's settings, each a process of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nbformat
import psutil

from cupola.processes import marked_with
from support.ports import free_port
from support.survive_page import Machine, Notebook, until
from support.survive_wire import Wire

__all__ = ["Lab", "OursLab", "StockLab", "guardians"]

MARK = "SURVIVE_LAB"
"""In the environment of all processes of one lab."""
QUIET = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"


def guardians(mark: str, name: str = MARK) -> list[psutil.Process]:
    """Return the guardians among the processes that carry a mark."""
    return [
        one
        for one in marked_with(name, mark)
        if any(word.endswith("guardian/kernels/watch.py") for word in _command(one))
    ]


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


class Lab(ABC):
    """What scenarios need of a JupyterLab: see the methods."""

    name = "lab"
    folder: Path
    wire: Wire

    def notebook_file(self, name: str) -> Path:
        """Where a notebook lies on this machine's disk."""
        return self.folder / name

    def write(self, name: str, book: nbformat.NotebookNode) -> None:
        """Put a notebook there."""
        nbformat.write(book, self.notebook_file(name))

    def read(self, name: str) -> nbformat.NotebookNode:
        """Read it as it lies on the disk."""

        def whole():
            with contextlib.suppress(ValueError, OSError, nbformat.reader.NotJSONError):
                return nbformat.read(self.notebook_file(name), as_version=4)
            return None

        return until(whole, f"{name} can be read", 10)

    @abstractmethod
    def machine(self) -> Machine:
        """Return a computer that reaches this Lab over its wire."""

    @abstractmethod
    def open(self, machine: Machine, name: str) -> Notebook:
        """Open a notebook in a new tab, signing in where that is needed."""

    @abstractmethod
    def kill_server(self) -> None:
        """Kill the Jupyter server alone, with -9."""

    @abstractmethod
    def back(self) -> None:
        """Have it answer again: start it, or wait for whoever starts it."""

    @abstractmethod
    def lose(self) -> None:
        """Kill all processes of the session at once, with -9: its kernels and whatever watches them too."""

    @abstractmethod
    def again(self) -> None:
        """Start the session anew."""

    @abstractmethod
    def stop(self) -> None:
        """End it, and leave nothing behind."""

    def guardians(self) -> list[psutil.Process]:
        """Return the guardians of its kernels."""
        return []


@dataclass
class StockLab(Lab):
    """JupyterLab as it comes, of the environment of an interpreter."""

    place: Path
    python: Path = field(default_factory=lambda: Path(sys.executable))
    name: str = "stock"
    more: dict[str, str] = field(default_factory=dict)
    """Further environment variables."""

    def __post_init__(self) -> None:
        self.mark, self.token = secrets.token_hex(8), secrets.token_hex()
        self.folder = self.place / "home"
        quiet = self.place / "settings" / QUIET
        for folder in (self.folder, quiet.parent):
            folder.mkdir(parents=True, exist_ok=True)
        quiet.write_text('{"fetchNews": "false"}')
        self.port = free_port()
        self.wire = Wire(self.port)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wire.port}/user/ada/lab-1/"

    @property
    def behind(self) -> str:
        """The same, past the wire."""
        return f"http://127.0.0.1:{self.port}/user/ada/lab-1/"

    @property
    def log(self) -> Path:
        return self.place / "server.log"

    def environment(self) -> dict[str, str]:
        left_out = ("JUPYTER", "CUPOLA", "PYTEST")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
            "HOME": str(self.folder),
            "IPYTHONDIR": str(self.place / "ipython"),
            "JUPYTER_TOKEN": self.token,
            "JUPYTERLAB_SETTINGS_DIR": str(self.place / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.place / "workspaces"),
            MARK: self.mark,
            **self.more,
        }

    def options(self) -> list[str]:
        return [
            *("--allow-root", "--no-browser", f"--port={self.port}", "--ServerApp.ip=127.0.0.1"),
            *("--ServerApp.port_retries=0", "--ServerApp.base_url=/user/ada/lab-1/"),
        ]

    def command(self) -> list[str]:
        # Voilà takes seconds to load, and has nothing to do here.
        quick = ["--ServerApp.jpserver_extensions", "voila.server_extension=False"]
        home = f"--ServerApp.root_dir={self.folder}"
        return [str(self.python), "-P", "-m", "jupyterlab", *self.options(), home, *quick]

    def start(self) -> StockLab:
        """Start the server and wait until it answers."""
        self.starts += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), env=self.environment(), cwd=self.folder, stdout=output, stderr=output
            )
        self.wait()
        return self

    def wait(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.HTTPError):
                return self.ask("GET", "api/status").status_code == httpx.codes.OK
            return False

        until(answers, lambda: f"the server answers:\n{self.log.read_text()[-3000:]}")

    def ask(self, method: str, path: str, **options) -> httpx.Response:
        """Ask the server itself."""
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(
            method, self.behind + path, headers=headers, timeout=20, trust_env=False, **options
        )

    def machine(self) -> Machine:
        return Machine()

    def open(self, machine: Machine, name: str) -> Notebook:
        page = machine.page()
        page.goto(f"{self.url}lab/workspaces/{Path(name).stem}/tree/{name}?token={self.token}")
        return Notebook(page)

    def server(self) -> psutil.Process:
        """Return the process of the Jupyter server."""
        return psutil.Process(self.process.pid)

    def kill_server(self) -> None:
        self.process.kill()
        self.process.wait()

    def back(self) -> None:
        if self.process.poll() is not None:
            self.start()
        self.wait()

    def lose(self) -> None:
        for process in marked_with(MARK, self.mark):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def again(self) -> None:
        self.start()

    def stop(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            for kernel in self.ask("GET", "api/kernels").json():
                self.ask("DELETE", f"api/kernels/{kernel['id']}")
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.wire.close()
        end = time.monotonic() + 5
        while (left := marked_with(MARK, self.mark)) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()

    def guardians(self) -> list[psutil.Process]:
        return guardians(self.mark)


OURS = """
import sys
from cupola.lab import session
session.leave_out()
session.prepare()
session.pass_over_home()
# There is no hub here, so nobody to ask who comes in: the token is enough.
left_out = ("identity_provider_class", "authorizer_class", "root_dir")
settings = [one for one in session.settings() if not any(word in one for word in left_out)]
sys.argv = ["jupyter-lab", *settings, *sys.argv[1:]]
from jupyterlab.labapp import main
main()
"""
"""What ``python -m cupola.lab.session`` does, without the hub and without whoever starts a killed server again."""


@dataclass
class OursLab(StockLab):
    """JupyterLab with what a session of Cupola sets, on no platform."""

    name: str = "ours"

    def environment(self) -> dict[str, str]:
        mine = {"CUPOLA_SESSION": "lab-1", "CUPOLA_VERSION": "sha256:" + "ab" * 32}
        runtime = {"CUPOLA_RUNTIME": str(self.folder / ".cupola")}
        return {**super().environment(), **mine, **runtime, **self.more}

    def command(self) -> list[str]:
        home = f"--ServerApp.root_dir={self.folder}"
        return [str(self.python), "-P", "-c", OURS, *self.options(), home]

    def state(self, name: str) -> dict:
        """Return what the session says of a notebook (``cupola/api/guardian``)."""
        answer = self.ask("GET", "cupola/api/guardian", params={"path": name})
        return json.loads(answer.text) if answer.status_code == httpx.codes.OK else {}
