"""Starts kernels below a guardian, and speaks with guardians that an earlier server has started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from typing_extensions import override

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.variables import restore
from cupola.lab.guardian.variables.snapshots import kernel_arguments

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

__all__ = ["AdoptedProcess", "GuardedProvisioner", "write"]

WATCH = Path(__file__).with_name("watch.py")
FOLDER_VARIABLE = "CUPOLA_KERNEL_FOLDER"
DASHBOARD_VARIABLE = "VOILA_BASE_URL"
"""Voilà gives it to its kernels. Nobody comes back to the kernel of a page that was closed: it ends with its server."""
SIGNS_S = 3.0
"""A guardian that has just been started says soon which process its kernel is."""
KILL_S = 2.0


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

    parent: Any
    process: Any
    deaf = False
    """The guardian may not hear yet what the kernel says: a kernel was started, and `hears` was not asked or said no."""
    guarded = True
    """Not where nobody would come back to the kernel, or its folder cannot be written."""

    @property
    def folder(self) -> KernelFolder:
        """Where the kernel's journal lies."""
        return KernelFolder.of(self.kernel_id)

    def hears(self) -> bool:
        """Return whether nothing is missed that the kernel says."""
        self.deaf = self.deaf and not (self.folder.path / "hears").exists()
        return not self.deaf

    # -- start ------------------------------------------------------------------------------------------------

    @override
    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        env = dict(kwargs.get("env") or os.environ)
        self.guarded = DASHBOARD_VARIABLE not in env
        if not self.guarded:
            return await super().pre_launch(**kwargs)
        plain = self.parent.connection_file
        try:
            return await self._pre_launch_guarded(env, kwargs)
        except FileNotFoundError:
            raise  # no such program
        except OSError as error:
            # A full home, mostly. A kernel without a journal is better than none: files can be deleted by it.
            self.log.warning("cupola: kernel %s ends with this server: %s", self.kernel_id, error)
            self.guarded = self.deaf = False
            if self.parent.connection_file != plain:
                self.parent.cleanup_connection_file()
                self.parent.connection_file = plain
                self._unlink()
            return await super().pre_launch(**kwargs)

    async def _pre_launch_guarded(self, env: dict[str, str], kwargs: dict[str, Any]) -> dict[str, Any]:
        folder = self.folder
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.parent.connection_file = str(folder.connection)
        given = dict(kwargs)
        if self._stores_variables():
            given["extra_arguments"] = [*(given.get("extra_arguments") or []), *kernel_arguments()]
            env |= self._variables_to_restore(env)
        given = await super().pre_launch(**given)
        command = given["cmd"]
        if shutil.which(command[0], path=env.get("PATH")) is None:
            # Said here, as without a guardian: whoever asked for the kernel is to hear of it.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        language = getattr(self.kernel_spec, "language", "") or "unknown"
        told = [str(folder.path), self.parent.kernel_name, language]
        given["cmd"] = [sys.executable, "-I", str(WATCH), *told, "--", *command]
        given["env"] = {**env, FOLDER_VARIABLE: str(folder.path)}
        # Without this the kernel would end with the server that asked for it.
        given["independent"] = True
        write(folder.path / "launch.json", self._launch_note(given))
        (folder.path / "hears").unlink(missing_ok=True)
        self.deaf = True
        self._link()
        return given

    @override
    async def post_launch(self, **kwargs: Any) -> None:
        await super().post_launch(**kwargs)
        # Who knows the kernel's id can rely on it that the next server finds the kernel.
        if self.guarded:
            await self._kernel()

    def _link(self) -> None:
        """Let programs find the connection file where Jupyter puts it, such as ``jupyter console --existing``."""
        self._unlink()
        with contextlib.suppress(OSError, AttributeError):
            self._usual.symlink_to(self.folder.connection)

    def _unlink(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            if self._usual.is_symlink():
                self._usual.unlink()

    @property
    def _usual(self) -> Path:
        return Path(self.parent.parent.connection_dir) / f"kernel-{self.kernel_id}.json"

    @override
    async def cleanup(self, restart: bool = False) -> None:
        if self.guarded and not restart:
            self._unlink()
        await super().cleanup(restart=restart)

    def _launch_note(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what the server that comes after this one needs to start the kernel again, or to find it."""
        name = given["env"].get("JPY_SESSION_NAME")
        return {
            "cwd": str(given.get("cwd") or ""),
            "env": {"JPY_SESSION_NAME": name} if name else {},
            "connection": json.loads(self.folder.connection.read_text(encoding="utf-8")),
        }

    def _stores_variables(self) -> bool:
        spec = self.kernel_spec
        language = str(getattr(spec, "language", "")).lower()
        return language == "python" and any("ipykernel" in word for word in spec.argv)

    def _variables_to_restore(self, env: dict[str, str]) -> dict[str, str]:
        """Return what tells a new kernel whose variables it gets."""
        name, root = env.get("JPY_SESSION_NAME", ""), getattr(self.parent.parent, "root_dir", "")
        if not name or not root:
            return {}
        try:
            path = Path(os.path.relpath(name, root)).as_posix()
            found = restore.claim(path, self.parent.kernel_name, self.kernel_id)
        except (OSError, ValueError) as error:
            self.log.warning("cupola: variables of %s are not brought back: %s", name, error)
            return {}
        return {restore.VARIABLE: str(found.path)} if found else {}

    def adopt(self, process: AdoptedProcess, connection: KernelConnectionInfo) -> None:
        """Take up a kernel that runs."""
        self.process = process
        self.pid = process.pid
        self.pgid = None
        self.connection_info = connection
        # It keeps them when it is restarted.
        self.ports_cached = True

    # -- signals ----------------------------------------------------------------------------------------------

    @override
    async def send_signal(self, signum: int) -> None:
        if not self.guarded:
            await super().send_signal(signum)
        elif signum == signal.SIGKILL:
            await self.kill()
        elif signum == signal.SIGTERM:
            self._tell_guardian(signum)
        elif (kernel := await self._kernel()) is not None:
            # The kernel and what it started, not its guardian.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(kernel, signum)

    @override
    async def terminate(self, restart: bool = False) -> None:
        if self.guarded:
            self._tell_guardian(signal.SIGTERM)
        else:
            await super().terminate(restart=restart)

    @override
    async def kill(self, restart: bool = False) -> None:
        if not self.guarded:
            await super().kill(restart=restart)
            return
        kernel = await self._kernel()
        # It kills its kernel and what that has started, and writes down the end.
        self._tell_guardian(signal.SIGUSR1)
        until = time.monotonic() + KILL_S
        while self._runs() and time.monotonic() < until:  # noqa: ASYNC110 - a guardian may be no child of ours
            await asyncio.sleep(0.05)
        if self._runs():
            for group in (kernel, self.pid):
                with contextlib.suppress(OSError, TypeError):
                    os.killpg(group, signal.SIGKILL)  # type: ignore[arg-type]

    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _tell_guardian(self, signum: int) -> None:
        if self._runs():
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signum)

    async def _kernel(self) -> int | None:
        """Return the kernel's pid, which is that of its group too."""
        until = time.monotonic() + SIGNS_S
        while self._runs():
            record = self.folder.record()
            if record.get("guardian") == self.pid:
                return int(record["kernel"])
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.05)
        return None


def write(place: Path, content: dict[str, Any]) -> None:
    """Write a file of the server's in a kernel's folder, whole or not at all."""
    part = place.with_name(place.name + ".part")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as text:
        json.dump(content, text)
    part.replace(place)
