"""``python -m cupola.lab.zygote SOCKET``: a fork server with the libraries of a Jupyter server loaded.

It takes one JSON line per connection (``module``, ``args``, ``env``, ``cwd``, ``log`` and, if wanted, ``exit``) and answers one
line with the pid of a new process, which runs ``module.main(args)``. Where ``exit`` names a file, it gets the wait status when
the process has ended: nobody else can learn it, since the process is no child of the one that asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from cupola.lab.forked import work_and_end
from cupola.lab.unused import leave_out

__all__ = ["Zygote", "main"]

PRELOAD = (
    "jupyter_core.migrate",
    "tornado.platform.asyncio",
    "jinja2.ext",
    "IPython",
    "nbconvert.exporters",
    "ipykernel.kernelspec",
    "jupyter_server.serverapp",
    "jupyter_server.services.api.handlers",
    "jupyter_server.services.config.handlers",
    "jupyter_server.services.contents.handlers",
    "jupyter_server.services.contents.largefilemanager",
    "jupyter_server.services.events.handlers",
    "jupyter_server.services.kernels.handlers",
    "jupyter_server.services.kernelspecs.handlers",
    "jupyter_server.services.nbconvert.handlers",
    "jupyter_server.services.security.handlers",
    "jupyter_server.services.sessions.handlers",
    "jupyter_server.services.shutdown",
    "jupyter_server.kernelspecs.handlers",
    "jupyter_server.nbconvert.handlers",
    "jupyter_server.view.handlers",
    "jupyter_server_terminals",
    "jupyter_lsp",
    "jupyter_lsp.virtual_documents_shadow",
    "notebook_shim.nbserver",
    "jupyterlab.labapp",
    "jupyterhub.singleuser.extension",
    "numpy",
    "cupola.exceptions",
    "cupola.lab.session",
    "cupola.lab.extension",
    "cupola.lab.tiles.handlers",
    "cupola.lab.jobs.relay",
    "cupola.lab.guardian.settings",
    "cupola.lab.guardian.kernels.manager",
    "cupola.lab.guardian.pages.channel",
    "cupola.lab.guardian.documents.contents",
    "cupola.lab.guardian.pages.handlers",
)
"""What a session's server imports. Not ``jupyterhub.singleuser.app``: it changes the server's handlers as it is loaded."""
LONGEST_REQUEST = 2**20
"""In bytes."""
LOOK_SECONDS = 30


class Zygote:
    """The fork server.

    Parameters
    ----------
    path
        The socket's place; its folder must be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.exits: dict[int, Path] = {}
        self.stopping = False
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def serve(self) -> None:
        """Load the libraries, then fork on demand until told to end or until the socket is taken away."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one serves this socket
        # Noted before the long part, so that it can be ended during it too.
        note = {"pid": os.getpid(), "created": _creation_time()}
        self.path.with_suffix(".json").write_text(json.dumps(note), encoding="utf-8")
        preload()
        gc.collect()
        gc.freeze()  # the collector would write to pages that all children share
        # After the imports: until then an interrupt must end this process at once.
        wake_in, wake_out = socket.socketpair()
        for end in (wake_in, wake_out):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_out.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        listener = self._listen()
        mine = self.path.stat().st_ino
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake_in, selectors.EVENT_READ)
            while not self.stopping and self._still_at(mine):
                ready = {key.fileobj for key, _ in selector.select(LOOK_SECONDS)}
                with contextlib.suppress(BlockingIOError):
                    wake_in.recv(4096)
                self._reap()
                if listener in ready:
                    self._answer(listener, (wake_in, wake_out))
        if self._still_at(mine):
            self.path.unlink()

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _still_at(self, inode: int) -> bool:
        try:
            return self.path.stat().st_ino == inode
        except OSError:
            return False

    def _listen(self) -> socket.socket:
        """Open the socket: whoever sees the file can connect, for it appears under its name only then."""
        aside = f".{self.path.name}"
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.path.with_name(aside).unlink(missing_ok=True)
            # The system takes at most 108 characters, and the folder may lie deep.
            listener.bind(f"/proc/self/fd/{folder}/{aside}")
        finally:
            os.close(folder)
        self.path.with_name(aside).chmod(0o600)
        listener.listen(64)
        self.path.with_name(aside).replace(self.path)
        return listener

    def _answer(self, listener: socket.socket, wake: tuple[socket.socket, socket.socket]) -> None:
        """Serve one connection; whatever a peer sends, this process lives on."""
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            try:
                with connection.makefile("rb") as reader:
                    line = reader.readline(LONGEST_REQUEST)
                if not line:
                    return  # somebody only looked whether we are there
                request = json.loads(line)
                pid = self._fork(request, [listener, connection, *wake])
                connection.sendall(f"{pid}\n".encode())
            except (OSError, ValueError, KeyError, TypeError):
                traceback.print_exc()

    def _fork(self, request: dict[str, Any], close: list[socket.socket]) -> int:
        for needed in ("module", "cwd", "log", "env"):
            request[needed]  # a wrong request fails here, before the fork
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for end in close:
                os.close(end.detach())
            os.close(self._lock)  # else the child would hold the lock when this process is gone
            _become(request)
        if request.get("exit"):
            self.exits[pid] = Path(request["exit"])
        return pid

    def _reap(self) -> None:
        """Note how children ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            file = self.exits.pop(pid, None)
            if file is not None:
                with contextlib.suppress(OSError):
                    file.write_text(str(status), encoding="ascii")


def _creation_time() -> float:
    import psutil

    return float(psutil.Process().create_time())


def preload() -> None:
    """Import what a session will need; a module that is missing or broken costs only its speed."""
    os.environ.setdefault("JUPYTERHUB_SINGLEUSER_EXTENSION", "1")
    # numpy would start a thread per core here, which no fork takes along; kernels have an environment of their own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    leave_out()
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - whatever a library raises, the session itself will say it better
            sys.stderr.write(f"not loaded in advance: {name}: {traceback.format_exc(limit=0)}")


def _become(request: dict[str, Any]) -> NoReturn:
    """Turn the forked process into the one that was asked for."""

    def work() -> None:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # A shell that starts us with "&" leaves interrupts ignored, and then a session would not end on one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        sys.argv = [request["module"], *request.get("args", [])]
        gc.unfreeze()
        importlib.import_module(request["module"]).main(request.get("args", []))

    work_and_end(work)


def main(args: list[str]) -> None:
    """Serve on the socket named in `args`."""
    Zygote(Path(args[0])).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
