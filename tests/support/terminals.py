"""A Jupyter server that can be killed and started again, and somebody who types into its terminals."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cupola.lab.guardian import settings
from cupola.lab.guardian.terminals import held
from cupola.lab.guardian.terminals.manager import terminal_settings
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["PATIENCE_S", "Screen", "Server", "guarded", "unguarded", "until"]

PATIENCE_S = 120.0
"""A loaded machine takes several times as long as a quiet one."""
SESSION = "lab-7"


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {condition}")
        time.sleep(0.05)
    return found


def guarded(folder: Path, *more: str, **environ: str) -> Server:
    """Return a server as a session has it below `folder`, with guardians of its kernels; it is not started yet."""
    place = {"CUPOLA_RUNTIME": str(folder / "home" / ".cupola"), "CUPOLA_SESSION": SESSION}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        found = [one for one in settings.server_settings() if "TerminalsExtensionApp" not in one]
    return Server(
        folder, *found, "--ServerApp.jpserver_extensions", "cupola.lab.extension=True", *more, **environ
    )


def unguarded(folder: Path, *more: str, **environ: str) -> Server:
    """Return the same with kernels as they come; its terminals outlive it."""
    return Server(
        folder, "--ServerApp.jpserver_extensions", "cupola.lab.extension=True", *more, CUPOLA_GUARDIAN="0", **environ
    )  # fmt: skip


class Server:
    """A Jupyter server with our settings, in the environment of the tests."""

    def __init__(self, folder: Path, *more: str, module: str = "jupyter_server", **environ: str) -> None:
        self.folder, self.more, self.module = folder, more, module
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.port, self.token = free_port(), secrets.token_hex()
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "CUPOLA"))},
            "HOME": str(self.home),
            "SHELL": "/bin/bash",
            "CUPOLA_RUNTIME": str(self.home / ".cupola"),
            "CUPOLA_SESSION": SESSION,
            "JUPYTER_TOKEN": self.token,
            "IPYTHONDIR": str(folder / "ipython"),
            "PS1": "$ ",
            **environ,
        }
        # They take seconds to load, and have nothing to do here.
        self.without = ["voila.server_extension"]
        if module == "jupyter_server":
            self.without += ["jupyterlab", "jupyter_lsp", "notebook_shim"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "server.log").read_text()

    @property
    def held(self) -> list[held.Held]:
        """The terminals that lie in its home."""
        return list(held.held_terminals(held.terminals_folder(self.environ)))

    def start(self) -> Server:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", self.module, "--allow-root", "--no-browser", f"--port={self.port}",
            "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.home}",
            *terminal_settings(),
            *itertools.chain.from_iterable(
                ("--ServerApp.jpserver_extensions", f"{name}=False") for name in self.without
            ),
            *self.more,
        ]  # fmt: skip
        with (self.folder / "server.log").open("a") as output:
            self.process = subprocess.Popen(
                command, env=self.environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        until(self._answers, 240)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"{self.url}api/status", params={"token": self.token}).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask its REST interface."""
        answer = httpx.request(
            method, self.url + path, headers={"Authorization": f"token {self.token}"}, timeout=60, **options
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def names(self) -> list[str]:
        """Return the names of its terminals."""
        return [one["name"] for one in self.ask("GET", "api/terminals")]

    def screen(self, name: str) -> Screen:
        """Look at a terminal."""
        return Screen(f"ws://127.0.0.1:{self.port}/terminals/websocket/{name}?token={self.token}")

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the server, and nothing else."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)

    def clean(self) -> None:
        """End the server with its kernels, and the terminals that it left."""
        if self.process is not None and self.process.poll() is None:
            for kernel in self.ask("GET", "api/kernels"):
                self.ask("DELETE", f"api/kernels/{kernel['id']}")
        self.end()
        folder = held.terminals_folder(self.environ)
        held.end_all(folder)
        until(lambda: not any(one.alive for one in held.held_terminals(folder)))
        held.end_all(folder)


class Screen:
    """A page with a terminal: what it was told, and what is typed there."""

    def __init__(self, address: str) -> None:
        self._open = contextlib.ExitStack()
        self.socket = self._open.enter_context(
            connect(address, max_size=None, open_timeout=PATIENCE_S, ping_interval=None)
        )
        self.text = ""
        self.over = False

    def type(self, text: str) -> None:
        """Type something."""
        self.socket.send(json.dumps(["stdin", text]))

    def size(self, rows: int, columns: int) -> None:
        """Say how large the page is."""
        self.socket.send(json.dumps(["set_size", rows, columns, 400, 800]))

    def listen(self, seconds: float = 0.1) -> bool:
        """Take what comes within a while."""
        try:
            kind, *content = json.loads(self.socket.recv(timeout=seconds))
        except TimeoutError:
            return False
        except ConnectionClosed:
            self.over = True
            return False
        self.over = self.over or kind == "disconnect"
        if kind == "stdout":
            self.text += content[0]
        return True

    def until(self, pattern: str, seconds: float = PATIENCE_S) -> re.Match[str]:
        """Wait until the terminal has said something, and return it."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            if self.over or time.monotonic() > end:
                raise TimeoutError(f"{pattern!r} was not said: {self.text[-2000:]!r}")
            self.listen()
        return found

    def until_over(self) -> None:
        """Wait until the terminal has ended."""
        until(lambda: (self.listen() and False) or self.over)

    def rest(self) -> Iterator[Any]:
        """Yield what still comes, until the connection is closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield json.loads(self.socket.recv(timeout=PATIENCE_S))

    def close(self) -> None:
        """Close the page."""
        self._open.close()
