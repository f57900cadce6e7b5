"""Real IPython kernels that store their variables, without a guardian or a server around them."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any

from jupyter_client import KernelManager

from cupola.lab.guardian.variables.snapshots import kernel_arguments

if TYPE_CHECKING:
    from pathlib import Path


class StoredKernel:
    """One kernel, started as the guardian does."""

    def __init__(
        self,
        folder: Path,
        restore: Path | None = None,
        arguments: list[str] | None = None,
        **environment: str,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.variables = folder / "variables"
        self._manager = KernelManager()
        ours = {"CUPOLA_KERNEL_FOLDER": str(folder), **({"CUPOLA_RESTORE": str(restore)} if restore else {})}
        arguments = kernel_arguments() if arguments is None else arguments
        self._manager.start_kernel(env={**os.environ, **ours, **environment}, extra_arguments=arguments)
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)
        self.stray: list[dict[str, Any]] = []
        """What the kernel published that no cell had asked for."""

    @property
    def pid(self) -> int:
        return self._manager.provisioner.pid

    def run(self, code: str) -> str:
        """Run a cell; return what it printed and its value, or its error."""
        return self.wait(self.begin(code))

    def begin(self, code: str) -> str:
        """Begin to run a cell; return the id to wait for."""
        return self._client.execute(code)

    def wait(self, request: str) -> str:
        """Return what a cell printed, when it has ended."""
        text = ""
        while True:
            seen = self._client.get_iopub_msg(timeout=120)
            kind, content = seen["msg_type"], seen["content"]
            if seen["parent_header"].get("msg_id") != request:
                self.stray += [seen] if kind != "status" else []
            elif kind == "stream":
                text += content["text"]
            elif kind == "execute_result":
                text += content["data"]["text/plain"]
            elif kind == "error":
                text += f"{content['ename']}: {content['evalue']}"
            elif kind == "status" and content["execution_state"] == "idle":
                reply = self._client.get_shell_msg(timeout=120)
                while reply["parent_header"].get("msg_id") != request:
                    reply = self._client.get_shell_msg(timeout=120)
                self.count = reply["content"]["execution_count"]
                return text

    def index(self) -> dict[str, Any]:
        """Return the newest snapshot's index; nothing where there is none."""
        try:
            return json.loads((self.variables / "index.json").read_text())
        except FileNotFoundError:
            return {}

    def store(self) -> dict[str, Any]:
        """Ask for a snapshot; return its index, or what went wrong."""
        token = uuid.uuid4().hex
        (self.variables / "wanted").write_text(token)
        return until(lambda: self.answer(token))

    def answer(self, token: str) -> dict[str, Any] | None:
        for name in ("index.json", "problem.json"):
            try:
                said = json.loads((self.variables / name).read_text())
            except FileNotFoundError:
                continue
            if token in said.get("tokens", []):
                return said
        return None

    def restored(self) -> dict[str, Any]:
        return json.loads((self.variables / "restored.json").read_text())

    def kill(self) -> None:
        """As if the machine was gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def until(question: Any, seconds: float = 120) -> Any:
    """Wait until there is an answer."""
    end = time.monotonic() + seconds
    while not (said := question()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return said


def left(said: dict[str, Any]) -> dict[str, str]:
    """Return why what was not kept."""
    return {one["name"]: one["why"] for one in said["left"]}


def kept(said: dict[str, Any]) -> list[str]:
    return [one["name"] for one in said["variables"]]
