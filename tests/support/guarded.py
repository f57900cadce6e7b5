"""A Jupyter server whose kernels have guardians, as in a session; a test may kill it and start it again."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from websockets.sync.client import connect

from cupola.hub.processes import end
from cupola.processes import marked_with
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["PATIENCE", "GuardedServer", "Page"]

PATIENCE = 120
"""Seconds: a loaded machine takes several times as long as a quiet one."""
SETTINGS = """
import sys
from cupola.lab.guardian.settings import server_settings
print(*server_settings(), sep="\\n")
"""


@dataclass
class GuardedServer:
    """Of one session."""

    folder: Path
    jupyter_path: str = ""
    """Where other kernelspecs lie."""
    session: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    token: str = field(default_factory=secrets.token_hex)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/user/ada/"

    @property
    def runtime(self) -> Path:
        """``CUPOLA_RUNTIME`` of the session."""
        return self.folder / ".cupola"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the session."""
        mine = ("JUPYTER", "CUPOLA", "IPYTHON")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(mine)},
            "HOME": str(self.folder),
            "CUPOLA_RUNTIME": str(self.runtime),
            "CUPOLA_SESSION": self.session,
            "JUPYTER_TOKEN": self.token,
            "JUPYTER_PATH": self.jupyter_path,
            "IPYTHONDIR": str(self.folder / "ipython"),
        }

    def start(self) -> None:
        """Start it, the first time or again, and wait until it answers."""
        self.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = subprocess.run(
            [sys.executable, "-c", SETTINGS], env=self.environment, capture_output=True, text=True, check=True
        ).stdout.split("\n")
        command = [
            sys.executable, "-m", "jupyter", "server", "--allow-root", "--no-browser", f"--port={self.port}",
            "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/ada/",
            f"--ServerApp.root_dir={self.folder}",
            "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
            "--ServerApp.jpserver_extensions", "voila.server_extension=False",
            *filter(None, settings),
        ]  # fmt: skip
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.until(self._answers, "it does not answer")

    @property
    def log(self) -> Path:
        """What it and its kernels print."""
        return self.folder / "server.log"

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("api/status").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End the server as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def clean(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        # A server that ends may have started a guardian that had no time to sign.
        while left := marked_with("CUPOLA_SESSION", self.session):
            end(left, seconds=0)

    def kernels(self) -> list[Path]:
        """Return the folders of kernels."""
        return sorted((self.runtime / "kernels").glob("*"))

    def record(self, kernel: str) -> dict[str, Any]:
        """Return what a guardian wrote of itself."""
        try:
            return dict(json.loads((self.runtime / "kernels" / kernel / "kernel.json").read_text()))
        except (OSError, ValueError):
            return {}

    def journal(self, kernel: str) -> list[dict[str, Any]]:
        """Return the records of a kernel's journal."""
        found = []
        for file in sorted((self.runtime / "kernels" / kernel / "journal").glob("*.jsonl")):
            found += [
                json.loads(line)
                for line in file.read_bytes().splitlines(keepends=True)
                if line.endswith(b"\n")
            ]
        return found

    def printed(self, kernel: str) -> str:
        """Return all that a kernel printed, as the journal has it."""
        return "".join(one["content"]["text"] for one in self.journal(kernel) if one["type"] == "stream")

    def until(self, true: Callable[[], Any], otherwise: str) -> Any:
        """Wait until something is so, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < end, otherwise
            time.sleep(0.05)
        return found

    def get(self, path: str) -> httpx.Response:
        """Ask the server."""
        return httpx.get(self.url + path, headers={"Authorization": f"token {self.token}"})

    def post(self, path: str, content: Any = None) -> httpx.Response:
        """Tell the server."""
        return httpx.post(self.url + path, json=content, headers={"Authorization": f"token {self.token}"})

    def delete(self, path: str) -> httpx.Response:
        """Tell the server to remove something."""
        return httpx.delete(self.url + path, headers={"Authorization": f"token {self.token}"})

    def websocket(self, kernel: str, session: str = "") -> str:
        """Return the address of a kernel's channels."""
        address = f"{self.url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels"
        return f"{address}?token={self.token}&session_id={session or uuid.uuid4().hex}"

    def open_notebook(self, kernel_name: str, path: str = "a.ipynb") -> str:
        """Start a kernel for a notebook and return its id."""
        asked = {"path": path, "type": "notebook", "name": path, "kernel": {"name": kernel_name}}
        answer = self.post("api/sessions", asked)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["kernel"]["id"])


class Page:
    """A page of JupyterLab with one notebook: what it sends and hears."""

    def __init__(self, server: GuardedServer, kernel: str, session: str = "") -> None:
        self.session = Session(session=session or uuid.uuid4().hex)
        self._open = contextlib.ExitStack()
        self.socket = self._open.enter_context(
            connect(
                server.websocket(kernel, self.session.session),
                subprotocols=["v1.kernel.websocket.jupyter.org"],  # type: ignore[list-item]
                open_timeout=PATIENCE,
                max_size=None,
            )
        )

        # As JupyterLab does before it sends anything else.
        self.until_idle(self.ask("kernel_info_request", {}))

    def close(self) -> None:
        """Close the page."""
        self._open.close()

    def ask(
        self,
        kind: str,
        content: dict[str, Any],
        channel: str = "shell",
        message_id: str = "",
        **metadata: str,
    ) -> str:
        """Send a request and return its id."""
        message = self.session.msg(kind, content, metadata=metadata)
        # The library counts from 1 in each page, also in one that was opened again under its old name.
        message["header"]["msg_id"] = message_id or uuid.uuid4().hex
        self.socket.send(serialize_msg_to_ws_v1(message, channel, self.session.pack))
        return str(message["header"]["msg_id"])

    def execute(self, code: str, cell: str, message_id: str = "") -> str:
        """Run a cell, or ask for one that was run already; return its id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "allow_stdin": True,
            "stop_on_error": True,
        }
        return self.ask("execute_request", content, message_id=message_id, cellId=cell)

    def execute_in_console(self, code: str) -> str:
        """Run something that is in no notebook; return its id."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        return self.ask("execute_request", content)

    def hear(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield channel and message."""
        while True:
            channel, parts = deserialize_msg_from_ws_v1(self.socket.recv(timeout=PATIENCE))
            header, parent, metadata, content = (json.loads(bytes(part)) for part in parts[:4])
            yield (
                channel,
                {"header": header, "parent_header": parent, "metadata": metadata, "content": content},
            )

    def until_idle(self, message_id: str, *, again: bool = False) -> list[dict[str, Any]]:
        """Return what is said about a request until it is answered and done.

        Where it is told `again`, that begins with its ``execute_input``: what came before was on its way when we asked.
        """
        found, answered, idle, begun = [], False, False, not again
        for channel, message in self.hear():
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if again and message["header"]["msg_type"] == "execute_input":
                found, answered, idle, begun = [], False, False, True
            found.append(message)
            answered |= channel in {"shell", "control"}
            idle |= message["content"].get("execution_state") == "idle"
            if begun and answered and idle:
                return found
        raise AssertionError

    def run(self, code: str, cell: str) -> str:
        """Run a cell; return what it printed, shown values and errors with it."""
        return text_of(self.until_idle(self.execute(code, cell)))


def text_of(messages: list[dict[str, Any]]) -> str:
    """Return the text in what a kernel said."""
    text = ""
    for message in messages:
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            # What is told again takes the place of what came before, as in the page.
            text = ""
        elif kind == "stream":
            text += content["text"]
        elif kind in {"execute_result", "display_data"}:
            text += str(content["data"].get("text/plain", ""))
        elif kind == "error":
            text += f"{content['ename']}: {content['evalue']}"
    return text
