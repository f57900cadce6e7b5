"""A kernel manager that takes those kernels up again that outlived its predecessor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpec, NoSuchKernel
from jupyter_server._tz import utcnow
from jupyter_server.prometheus.metrics import KERNEL_CURRENTLY_RUNNING_TOTAL
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado.ioloop import IOLoop
from traitlets import Bool, default
from typing_extensions import override

from cupola.lab.guardian.folder import KernelFolder, kernel_folders
from cupola.lab.guardian.journal.ledger import Ledger
from cupola.lab.guardian.kernels.provisioner import AdoptedProcess, GuardedProvisioner, write
from cupola.lab.guardian.kernels.tidying import TIDY_S, tidy
from cupola.lab.guardian.kernels.wire import Wire
from cupola.lab.keeper import serving

__all__ = ["AdoptingKernelManager", "GuardedProvisioner", "SurvivingKernel"]

LOOK_OFTEN_S = 5.0
RECONNECT_MS = 10
"""Between two tries to reach a kernel that is about to start; by itself ZeroMQ waits ten times as long."""
SLOW_S = 5.0
"""How often journals of kernels are read that are not this server's."""
_ends_by: ContextVar[str] = ContextVar("_ends_by", default="asked")
"""Who ends a kernel just now: its owner, or Jupyter since nobody used it."""


class SurvivingKernel(ServerKernelManager):
    """What the server knows of one kernel, which may outlive it."""

    parent: Any

    @override
    def __del__(self) -> None:
        """Leave the connection file, unlike Jupyter: the next server needs it."""
        self._close_control_socket()

    @override
    async def _async_pre_start_kernel(self, **kw: Any) -> Any:
        # Here, and not as Jupyter finds provisioners: by what packages say of themselves when they are installed.
        named = (self.kernel_spec.metadata or {}).get("kernel_provisioner") if self.kernel_spec else None
        if self.provisioner is None and not named:
            kernel_id = self.kernel_id or kw.setdefault("kernel_id", str(uuid.uuid4()))
            self.provisioner = GuardedProvisioner(
                kernel_id=kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kw)

    pre_start_kernel = _async_pre_start_kernel  # type: ignore[assignment]

    @override
    async def _async_restart_kernel(self, now: bool = False, newports: bool = False, **kw: Any) -> None:
        before = self._make_url("iopub")
        # Ports where it was heard once are good: what pages send meanwhile waits for the new kernel there.
        newports = newports and not (KernelFolder.of(str(self.kernel_id)).path / "info.json").exists()
        # What the one before did is over, though it never said so: pages that come back ask this one.
        self.execution_state = "starting"
        await super()._async_restart_kernel(now=now, newports=newports, **kw)
        if self._make_url("iopub") != before:
            self.parent.rewire(self.kernel_id, before)

    restart_kernel = _async_restart_kernel


class AdoptingKernelManager(AsyncMappingKernelManager):
    """Kernels of a session: they outlive this manager, and the next one takes them up under their own ids."""

    parent: Any
    kernel_spec_manager: Any

    adopts = Bool(
        True, config=True, help="Take up kernels that run. Not where another server of this session does."
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # A kernel that was restarted speaks at once, and what it says before a page's line is there again is lost.
        self.context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._ledgers: dict[str, Ledger] = {}
        self._wires: dict[str, Wire] = {}
        self._often = 0.0
        self._tasks: set[asyncio.Future[Any]] = set()
        # Once the server answers; until then it does nothing that is queued here.
        IOLoop.current().add_callback(serving)

    @default("kernel_manager_class")
    @override
    def _default_kernel_manager_class(self) -> str:
        return f"{__name__}.{SurvivingKernel.__name__}"

    # -- what is known of kernels -----------------------------------------------------------------------------

    def ledger(self, kernel_id: str) -> Ledger:
        """Return what a kernel's journal says."""
        if kernel_id not in self._ledgers:
            self._ledgers[kernel_id] = Ledger(
                KernelFolder.of(kernel_id), str(getattr(self.parent, "base_url", ""))
            )
            self._ledgers[kernel_id].poll()
        return self._ledgers[kernel_id]

    def ledgers(self) -> list[Ledger]:
        """Return those of all kernels of this home, dead ones too."""
        return [self.ledger(folder.kernel_id) for folder in kernel_folders()]

    def wire(self, kernel_id: str) -> Wire:
        """Return the wire to a kernel, as it is connected now."""
        manager = self.get_kernel(kernel_id)
        wire = self._wires.get(kernel_id)
        if wire is None:
            guarded = getattr(manager.provisioner, "guarded", False)
            wire = self._wires[kernel_id] = Wire(manager, guarded=guarded)
        else:
            wire.connect(manager)
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
                write(place, info)

    def look_often(self) -> None:
        """Follow the journals closely for a while: a page waits for them."""
        self._often = time.monotonic() + LOOK_OFTEN_S

    async def watch(self) -> None:
        """Follow the journals until the server ends."""
        slow = tidied = 0.0
        while True:
            often = any(
                one.listeners for ledger in self._ledgers.values() for one in ledger.executions.values()
            )
            await asyncio.sleep(0.05 if often or time.monotonic() < self._often else 0.5)
            now = time.monotonic()
            all_of_them, slow = (True, now) if now - slow > SLOW_S else (False, slow)
            for kernel_id, ledger in tuple(self._ledgers.items()):
                if all_of_them or kernel_id in self._kernels:
                    with self._telling(f"the journal of kernel {kernel_id}"):
                        ledger.poll()
            if now - tidied > TIDY_S:
                tidied = now
                with self._telling("folders of kernels that have ended"):
                    for kernel_id in tidy(self):
                        self._ledgers.pop(kernel_id, None)

    @contextlib.contextmanager
    def _telling(self, what: str) -> Any:
        """Go on whatever happens, and say it."""
        try:
            yield
        except Exception:
            self.log.exception("cupola: %s", what)

    # -- adoption ---------------------------------------------------------------------------------------------

    def adopt(self) -> list[str]:
        """Take up the kernels of this session that still run; return their ids."""
        found: list[str] = []
        if not self.adopts:
            return found
        for folder in kernel_folders():
            record = folder.record()
            mine = record.get("session") == os.environ.get("CUPOLA_SESSION", "")
            if folder.kernel_id in self._kernels or not mine or not folder.alive:
                continue
            if folder.guardian is None:
                self.log.warning("cupola: kernel %s runs elsewhere: it is left alone", folder.kernel_id)
                continue
            # One that cannot be taken up must not keep the others, nor the server, from working.
            with self._telling(f"kernel {folder.kernel_id} runs on, but cannot be taken up"):
                self._adopt(folder, record)
                found.append(folder.kernel_id)
        if found and not self._initialized_culler:
            self.initialize_culler()
        return found

    def _adopt(self, folder: KernelFolder, record: dict[str, Any]) -> None:
        kernel_id = folder.kernel_id
        note = _json(folder.path / "launch.json")
        manager: Any = self.kernel_manager_factory(
            parent=self,
            log=self.log,
            connection_file=str(folder.connection),
            kernel_name=record["kernel_name"],
        )
        manager.load_connection_info(_connection(folder, note))
        manager._connection_file_written = True
        manager.kernel_id = kernel_id
        manager._kernel_spec = self._spec(record)
        provisioner = GuardedProvisioner(
            kernel_id=kernel_id, kernel_spec=manager.kernel_spec, parent=manager, config=self.config
        )
        provisioner.adopt(AdoptedProcess(folder, int(record["guardian"])), manager.get_connection_info())
        manager.provisioner = provisioner
        manager._attempted_start = True
        manager._launch_args = _launch_arguments(note)
        if not manager.ready.done():
            manager.ready.set_result(None)
        state = "busy" if self.ledger(kernel_id).busy else "idle"
        manager.execution_state, manager.reason, manager.last_activity = state, "", utcnow()
        self._know(manager, folder)
        self._kernels[kernel_id], self._kernel_connections[kernel_id] = manager, 0
        KERNEL_CURRENTLY_RUNNING_TOTAL.labels(type=manager.kernel_name).inc()
        manager.start_restarter()
        task = asyncio.ensure_future(self._finish_kernel_start(kernel_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.log.info("cupola: kernel %s goes on", kernel_id)

    def _spec(self, record: dict[str, Any]) -> KernelSpec:
        """Return the kernel's specification; one that was removed meanwhile must not end the kernel's life too."""
        name = str(record["kernel_name"])
        try:
            spec: KernelSpec = self.kernel_spec_manager.get_kernel_spec(name)
        except NoSuchKernel:
            return KernelSpec(argv=[], display_name=name, language=str(record.get("language", "")))
        return spec

    def _know(self, manager: Any, folder: KernelFolder) -> None:
        """Let nobody wait for a busy kernel to tell what it told before."""
        if info := _json(folder.path / "info.json"):
            manager._kernel_info_future = Future()
            manager._kernel_info_future.set_result(info)

    # -- restart and end --------------------------------------------------------------------------------------

    def rewire(self, kernel_id: str, before: str) -> None:
        """Bring everything that is connected to a kernel to the ports that it got by a restart.

        Parameters
        ----------
        kernel_id
            The kernel's.
        before
            Where its iopub was.
        """
        manager: Any = self.get_kernel(kernel_id)
        if kernel_id in self._wires:
            self._wires[kernel_id].connect(manager)
        for page in tuple(ZMQChannelsWebsocketConnection._open_sockets):
            iopub = page.channels.get("iopub") if page.kernel_id == kernel_id else None
            if iopub is not None and not iopub.closed():
                with contextlib.suppress(OSError):
                    iopub.socket.disconnect(before)
                iopub.socket.connect(manager._make_url("iopub"))
        self._kernel_ports[kernel_id] = manager.ports
        self.stop_watching_activity(kernel_id)
        self.start_watching_activity(kernel_id)

    @override
    async def _async_shutdown_kernel(self, kernel_id: str, now: Any = False, restart: Any = False) -> None:
        self._note_end(kernel_id)
        await super()._async_shutdown_kernel(kernel_id, now=now, restart=restart)
        if wire := self._wires.pop(kernel_id, None):
            wire.close()

    shutdown_kernel = _async_shutdown_kernel  # type: ignore[assignment]

    @override
    async def _async_restart_kernel(self, kernel_id: str, now: bool = False) -> Any:
        self._note_end(kernel_id)
        return await super()._async_restart_kernel(kernel_id, now=now)

    restart_kernel = _async_restart_kernel  # type: ignore[assignment]

    @override
    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that nobody uses, where an administrator has set that; its variables are to come back."""
        before = _ends_by.set("culled")
        try:
            await super().cull_kernel_if_idle(kernel_id)
        finally:
            _ends_by.reset(before)

    def _note_end(self, kernel_id: str) -> None:
        """Write down that the kernel is ended and by whom: where its owner does it, its variables are not to come back."""
        folder = KernelFolder.of(kernel_id)
        with self._telling(f"that kernel {kernel_id} was ended cannot be written down"):
            if record := folder.record():
                write(folder.record_file, {**record, "ended": _ends_by.get()})

    @override
    async def shutdown_all(self, now: bool = False) -> None:  # type: ignore[override]
        """Leave all kernels running: whoever ends the session ends them."""
        manager: Any
        for kernel_id, manager in tuple(self._kernels.items()):
            if not getattr(manager.provisioner, "guarded", False):
                with self._telling(f"kernel {kernel_id} does not end"):
                    await manager.shutdown_kernel(now=now)


def _json(place: Any) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _connection(folder: KernelFolder, note: dict[str, Any]) -> Any:
    """Return how the kernel is reached; its own file may be damaged.

    Raises
    ------
    ValueError
        If nothing that can be read says it.
    """
    for found in (_json(folder.connection), note.get("connection")):
        if isinstance(found, dict) and {"key", "shell_port", "iopub_port", "control_port"} <= found.keys():
            return found
    raise ValueError(f"{folder.connection} cannot be read")


def _launch_arguments(note: dict[str, Any]) -> dict[str, Any]:
    """Return what a restart of a kernel needs that somebody else started."""
    cwd, env = str(note.get("cwd") or ""), note.get("env")
    arguments: dict[str, Any] = {"env": {**os.environ, **(env if isinstance(env, dict) else {})}}
    return arguments | ({"cwd": cwd} if cwd and os.path.isdir(cwd) else {})  # noqa: PTH112 - a text of the file
