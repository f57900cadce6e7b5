"""What a Python kernel loads so that its variables survive it: snapshots between cells, and their return.

The kernel's command line loads it (`snapshots.kernel_arguments`), in whichever environment the kernel runs, so this file and
its neighbours ``kernel_*.py`` stand alone: the standard library and IPython, and cloudpickle where there is one. Whatever goes wrong
here, the kernel goes on.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernel_worker import Limits

__all__ = ["Hook", "start"]

LOOK_S = 0.5
GRACE_S = 15.0
"""Longer than its own limit no snapshot may take: then it is stuck."""
HELD_S = 3.0
HELD_QUIETLY_S = 20.0
"""A child that has not begun by then was forked while a thread held a lock: another one is forked."""
REST = 5
"""A kernel spends at most a sixth of its time on snapshots."""
NO_MEMORY_S = 60.0


def start(shell: Any) -> None:
    """Begin to keep the variables of a kernel, and bring back those of another where its environment says so.

    Parameters
    ----------
    shell
        IPython's. Nothing happens without ``CUPOLA_KERNEL_FOLDER``; variables are never stored where
        ``CUPOLA_SNAPSHOTS`` is ``0``, and it may hold other limits as JSON.
    """
    _run_lines_of_the_users_own(shell)
    folder, source, limits = (
        os.environ.pop(name, "") for name in ("CUPOLA_KERNEL_FOLDER", "CUPOLA_RESTORE", "CUPOLA_SNAPSHOTS")
    )
    if not folder or shell is None:
        return
    hook = Hook(shell, Path(folder), limits)
    hook.prepare(Path(source) if source else None)


def _run_lines_of_the_users_own(shell: Any) -> None:
    """Run the lines of the person's configuration, in whose place the command line has put ours."""
    app: Any = getattr(getattr(shell, "parent", None), "parent", None)
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        lines = app.config["InteractiveShellApp"]["exec_lines"]
        if lines is not app.exec_lines:
            app.exec_lines.extend(lines)  # the kernel is about to run the next one of this list


class Hook:
    """Watches when cells run, and makes snapshots when none does.

    Parameters
    ----------
    shell
        IPython's.
    folder
        The kernel's.
    limits
        Text of ``CUPOLA_SNAPSHOTS``.
    """

    def __init__(self, shell: Any, folder: Path, limits: str = "") -> None:
        self._shell = shell
        self._folder = folder / "variables"
        self._off = limits == "0"
        self._given = limits
        self._limits: Limits | None = None
        self._running: set[int] = set()
        self._due: float | None = None
        self._rest = 0.0
        self._empty = 0
        self._child: tuple[int, float] | None = None
        self._tokens: list[str] = []
        self._sign = mmap.mmap(-1, 1)
        self._source: Path | None = None

    def prepare(self, source: Path | None) -> None:
        """Begin; variables of `source`, the folder of another kernel, come back before the first cell."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._source = source
        # Those of the kernel that had this folder before. Where its owner restarted it, its variables do not come back.
        comes_back = source is not None and source.resolve() == self._folder.parent.resolve()
        for name in ("restored.json", "problem.json", *(() if comes_back else ("index.json",))):
            (self._folder / name).unlink(missing_ok=True)
        # A fork says so in newer Pythons, and there are always threads in a kernel.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        events = self._shell.events
        events.register("pre_run_cell", self._begin)
        events.register("post_run_cell", self._end)
        if source is not None:
            self._restore_on_the_loop()
        threading.Thread(target=self._watch, name="cupola-snapshots", daemon=True).start()

    def _begin(self, *_: Any) -> None:
        if self._source is not None:
            self._restore()
        self._due = None
        self._running.add(threading.get_ident())

    def _end(self, *_: Any) -> None:
        me = threading.get_ident()
        if me in self._running:
            self._running.discard(me)
            self._due = time.monotonic()

    def _restore_on_the_loop(self) -> None:
        """Restore as soon as the kernel is ready, before it hears of a cell; else with the first one."""
        with contextlib.suppress(Exception):
            from tornado.ioloop import IOLoop

            IOLoop.current().add_callback(self._restore)

    def _restore(self) -> None:
        source = self._source
        if source is None:
            return
        try:
            from .kernel_load import come_back

            come_back(source, self._folder, self._shell)
        except Exception as error:  # noqa: BLE001 - the kernel is of use without its variables, too
            with contextlib.suppress(Exception):
                self._tell_problem(f"the variables could not be brought back: {error}", [])
        finally:
            self._source = None
        # At once a snapshot of its own: the old one comes back only here.
        self._due = time.monotonic()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            try:
                self._look()
            except Exception:  # noqa: BLE001 - a kernel must never suffer from this
                self._rest = time.monotonic() + NO_MEMORY_S

    def _look(self) -> None:
        if self._source is not None:
            return  # what comes back is not there yet
        self._reap()
        tokens = self._asked()
        if tokens is not None:
            self._stop_child()
            if not self._running:
                self._due = None  # it is the one that was about to be made
            self._snapshot(tokens)
            return
        now = time.monotonic()
        if self._due is None or self._off or self._running or self._child or now < self._rest:
            return
        if now >= self._due + self._load_limits().wait:
            self._due = None
            self._snapshot([])

    def _load_limits(self) -> Limits:
        if self._limits is None:
            from .kernel_worker import Limits

            self._limits = Limits()
            with contextlib.suppress(ValueError, TypeError):
                self._limits = Limits(**json.loads(self._given))
        return self._limits

    def _asked(self) -> list[str] | None:
        """Return the tokens of those who want a snapshot now; nothing where nobody does."""
        wanted = self._folder / "wanted"
        try:
            content = wanted.stat().st_size
        except OSError:
            return None
        if not content and self._empty < 4:  # noqa: PLR2004 - two seconds: somebody may be about to write it
            self._empty += 1
            return None
        self._empty = 0
        # Moved first: what is written from now on is another wish.
        taken = wanted.replace(self._folder / "wanted.taken")
        tokens = taken.read_text(encoding="utf-8", errors="replace").split()
        taken.unlink()
        return tokens

    def _snapshot(self, tokens: list[str]) -> None:
        """Fork the child that stores the variables."""
        unable = self._unable()
        if unable:
            self._tell_unable(unable, tokens)
            return
        from cloudpickle import CloudPickler

        from . import kernel_store as store
        from .kernel_fork import fork

        limits = self._load_limits()
        self._sign[0] = 0
        moment = self._moment(tokens)
        try:
            pid = fork()
        except OSError:
            self._rest = time.monotonic() + NO_MEMORY_S
            self._tell_problem("there was not enough memory to store the variables", tokens)
            return
        if pid:
            self._child, self._tokens = (pid, time.monotonic()), tokens
            return
        try:
            store.become_child(moment.parent, urgent=bool(tokens))
            store.Store(self._folder, moment, limits, CloudPickler).make()
        finally:
            os._exit(0)

    def _unable(self) -> str:
        if self._off:
            return "storing variables is switched off"
        try:
            from cloudpickle import CloudPickler
        except ImportError:
            return "cloudpickle is not installed in this kernel's environment"
        if not hasattr(os, "fork") or not hasattr(CloudPickler, "reducer_override"):
            return "this kernel's version of Python or of cloudpickle is too old"
        return ""

    def _moment(self, tokens: list[str]) -> Any:
        from . import kernel_store as store

        shell = self._shell
        namespace = shell.user_ns
        manager = getattr(shell, "history_manager", None)
        return store.Moment(
            namespace=namespace,
            variables=store.user_variables(dict(namespace), getattr(shell, "user_ns_hidden", {})),
            own={"shell": shell, "stdout": sys.stdout, "stderr": sys.stderr},
            inputs=[str(cell) for cell in getattr(manager, "input_hist_parsed", ())],
            after=shell.execution_count - 1,
            midcell=bool(self._running),
            tokens=tokens,
            parent=os.getpid(),
            sign=self._sign,
        )

    def _tell_unable(self, unable: str, tokens: list[str]) -> None:
        from .kernel_worker import replace

        index: dict[str, Any] = {"time": time.time(), "after": self._shell.execution_count - 1}
        index |= {"whole": False, "variables": [], "modules": {}, "left": [], "unable": unable}
        index |= {"token": tokens[-1], "tokens": tokens} if tokens else {}
        replace(self._folder / "index.json", index)

    def _tell_problem(self, why: str, tokens: list[str]) -> None:
        from .kernel_worker import replace

        replace(self._folder / "problem.json", {"time": time.time(), "why": why, "tokens": tokens})

    def _reap(self) -> None:
        if self._child is None:
            return
        pid, began = self._child
        now = time.monotonic()
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # the user's code has waited for any child
            ended = True
        if ended:
            self._child = None
            self._rest = now + REST * (now - began - LOOK_S)
        elif not self._sign[0] and now - began > (HELD_S if self._tokens else HELD_QUIETLY_S):
            self._stop_child()
            self._snapshot(self._tokens)
        elif now - began > self._load_limits().all_seconds + GRACE_S:
            self._stop_child()
            self._rest = now + NO_MEMORY_S

    def _stop_child(self) -> None:
        if self._child is not None:
            with contextlib.suppress(OSError):
                os.kill(self._child[0], signal.SIGKILL)
                os.waitpid(self._child[0], 0)
            self._child = None
