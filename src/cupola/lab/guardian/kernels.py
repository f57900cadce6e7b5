"""Kernels below a guardian, and a kernel manager that takes those up again that outlived its predecessor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from typing_extensions import override

from cupola.lab.guardian.folder import KernelFolder, kernel_folders
from cupola.lab.guardian.ledger import Ledger
from cupola.lab.guardian.wire import Wire

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

__all__ = ["AdoptingKernelManager", "GuardedProvisioner"]

WATCH = Path(__file__).with_name("watch.py")
LOOK_OFTEN_S = 5.0
FOLDER_VARIABLE = "CUPOLA_KERNEL_FOLDER"


class AdoptedProcess:
    """A guardian that is not our child, with the face of ``Popen``.

    Parameters
    ----------
    folder
        Of its kernel.
    pid
        The guardian's.
    """

    stdin = stdout = stderr = None

    def __init__(self, folder: KernelFolder, pid: int) -> None:
        self._folder = folder
        self.pid = pid

    def poll(self) -> int | None:
        """Return nothing while it lives."""
        return None if self._folder.alive else 0

    def wait(self) -> int:
        """Return the exit code, which nobody can tell."""
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the pid may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class GuardedProvisioner(LocalProvisioner):
    """Starts a kernel as the child of a guardian."""

    @property
    def folder(self) -> KernelFolder:
        """Where the kernel's journal lies."""
        return KernelFolder.of(self.kernel_id)

    @override
    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        folder = self.folder
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.parent.connection_file = str(folder.connection)
        kwargs = await super().pre_launch(**kwargs)
        # Without this the kernel would end with the server that asked for it.
        kwargs["independent"] = True
        language = getattr(self.kernel_spec, "language", "") or "unknown"
        kwargs["cmd"] = [
            *_python(),
            str(WATCH),
            str(folder.path),
            self.parent.kernel_name,
            language,
            "--",
            *kwargs["cmd"],
        ]
        kwargs["env"] = {**kwargs["env"], FOLDER_VARIABLE: str(folder.path)}
        _write(folder.path / "launch.json", {"cwd": str(kwargs.get("cwd") or "")})
        return kwargs

    def adopt(self, process: AdoptedProcess, connection: KernelConnectionInfo) -> None:
        """Take up a kernel that runs."""
        self.process = process
        self.pid = process.pid
        try:
            self.pgid = os.getpgid(process.pid)
        except OSError:
            self.pgid = None
        self.connection_info = connection


class AdoptingKernelManager(AsyncMappingKernelManager):
    """Kernels of a session: they outlive this manager, and the next one takes them up under their own ids."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ledgers: dict[str, Ledger] = {}
        self._wires: dict[str, Wire] = {}
        self._often = 0.0

    def ledger(self, kernel_id: str) -> Ledger:
        """Return what a kernel's journal says."""
        if kernel_id not in self._ledgers:
            self._ledgers[kernel_id] = Ledger(KernelFolder.of(kernel_id))
            self._ledgers[kernel_id].poll()
        return self._ledgers[kernel_id]

    def ledgers(self) -> list[Ledger]:
        """Return those of all kernels of this home, dead ones too."""
        return [self.ledger(folder.kernel_id) for folder in kernel_folders()]

    def wire(self, kernel_id: str) -> Wire:
        """Return the wire to a kernel, as it is connected now."""
        manager = self.get_kernel(kernel_id)
        wire = self._wires.get(kernel_id)
        if wire is None or wire.ports != list(manager.ports):
            if wire is not None:
                wire.close()
            wire = self._wires[kernel_id] = Wire(manager)
        return wire

    def path_of(self, kernel_id: str) -> str:
        """Return the notebook that a kernel belongs to."""
        row = self.parent.session_manager.cursor.execute(
            "SELECT path FROM session WHERE kernel_id=?", (kernel_id,)
        ).fetchone()
        return str(row["path"]) if row else ""

    def info_of(self, kernel_id: str) -> dict[str, Any] | None:
        """Return what a kernel told of itself."""
        future = getattr(self.get_kernel(kernel_id), "_kernel_info_future", None)
        return future.result() if future is not None and future.done() else None

    def keep_info(self, kernel_id: str, info: dict[str, Any]) -> None:
        """Keep what a kernel told of itself for the server that comes after this one."""
        place = KernelFolder.of(kernel_id).path / "info.json"
        if not place.exists():
            with contextlib.suppress(OSError):
                _write(place, info)

    def look_often(self) -> None:
        """Follow the journals closely for a while: a page waits for them."""
        self._often = time.monotonic() + LOOK_OFTEN_S

    async def watch(self) -> None:
        """Follow the journals until the server ends."""
        while True:
            # Somebody waits for a question of a busy kernel, or for the rest of an execution.
            often = any(
                (ledger.askers and ledger.busy) or any(one.listeners for one in ledger.executions.values())
                for ledger in self._ledgers.values()
            )
            await asyncio.sleep(0.05 if often else 0.5)
            for ledger in tuple(self._ledgers.values()):
                ledger.poll()

    def adopt(self) -> list[str]:
        """Take up the kernels of this session that still run; return their ids."""
        found = []
        for folder in kernel_folders():
            record = folder.record()
            if (
                folder.kernel_id in self._kernels
                or record.get("session") != os.environ.get("CUPOLA_SESSION", "")
                or not folder.alive
            ):
                continue
            try:
                self._adopt(folder, record)
            except Exception:
                # One that cannot be taken up must not keep the others, nor the server, from working.
                self.log.exception("cupola: kernel %s cannot be taken up", folder.kernel_id)
            else:
                found.append(folder.kernel_id)
        return found

    def _adopt(self, folder: KernelFolder, record: dict[str, Any]) -> None:
        kernel_id = folder.kernel_id
        manager = self.kernel_manager_factory(
            parent=self,
            log=self.log,
            connection_file=str(folder.connection),
            kernel_name=record["kernel_name"],
        )
        manager.load_connection_file()
        manager.kernel_id = kernel_id
        provisioner = GuardedProvisioner(
            kernel_id=kernel_id, kernel_spec=manager.kernel_spec, parent=manager, config=self.config
        )
        provisioner.adopt(AdoptedProcess(folder, int(record["guardian"])), manager.get_connection_info())
        manager.provisioner = provisioner
        manager._attempted_start = True
        manager._launch_args = _launch_arguments(folder)
        if not manager.ready.done():
            manager.ready.set_result(None)
        state = "busy" if self.ledger(kernel_id).busy else "idle"
        manager.execution_state, manager.reason, manager.last_activity = state, "", utcnow()
        self._know(manager, folder)
        self._kernels[kernel_id], self._kernel_connections[kernel_id] = manager, 0
        manager.start_restarter()
        self._adopting = asyncio.ensure_future(self._finish_kernel_start(kernel_id))
        self.log.info("cupola: kernel %s goes on", kernel_id)

    def _know(self, manager: Any, folder: KernelFolder) -> None:
        """Let nobody wait for a busy kernel to tell what it told before."""
        with contextlib.suppress(OSError, ValueError):
            info = json.loads((folder.path / "info.json").read_text(encoding="utf-8"))
            manager._kernel_info_future = Future()
            manager._kernel_info_future.set_result(info)

    async def _async_shutdown_kernel(self, kernel_id: str, now: bool = False, restart: bool = False) -> None:
        _note_end(KernelFolder.of(kernel_id))
        await super()._async_shutdown_kernel(kernel_id, now=now, restart=restart)

    shutdown_kernel = _async_shutdown_kernel

    async def _async_restart_kernel(self, kernel_id: str, now: bool = False) -> None:
        _note_end(KernelFolder.of(kernel_id))
        await super()._async_restart_kernel(kernel_id, now=now)

    restart_kernel = _async_restart_kernel

    @override
    async def shutdown_all(self, now: bool = False) -> None:
        """Leave all kernels running: whoever ends the session ends them."""


def _python() -> list[str]:
    """Return a command that starts Python with as little as possible."""
    return [sys.executable, "-I"]


def _write(place: Path, content: dict[str, Any]) -> None:
    part = place.with_name(place.name + ".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(place)


def _note_end(folder: KernelFolder) -> None:
    """Write down that the owner ends the kernel: its variables are not to come back."""
    record = folder.record()
    if record:
        _write(folder.record_file, {**record, "ended": "asked"})


def _launch_arguments(folder: KernelFolder) -> dict[str, Any]:
    """Return what a restart of a kernel needs that somebody else started."""
    try:
        cwd = json.loads((folder.path / "launch.json").read_text(encoding="utf-8"))["cwd"]
    except (OSError, ValueError, KeyError):
        cwd = ""
    return {"env": dict(os.environ), **({"cwd": cwd} if cwd and Path(cwd).is_dir() else {})}
