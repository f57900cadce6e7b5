"""What the forked child of a kernel does: it stores the variables that it was born with.

Part of what a kernel loads (`kernel_side`), so it stands alone. Two processes do it: one stores a variable after the
other, and one watches that no variable takes too long. What hangs, or crashes, is ended and left out, and the next
worker goes on with the rest: it is forked from the same memory, so all variables are those of one moment.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import graphlib
import json
import os
import re
import resource
import select
import signal
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from .kernel_fork import LIBC, fork
from .kernel_pickle import Known, version
from .kernel_worker import NO_SPACE, FullError, Limits, Worker, replace

__all__ = ["FORMAT", "Moment", "Store", "become_child", "user_modules", "user_variables"]

FORMAT = 1
_MOST = 5000
"""Variables; each is a file."""


class Moment(NamedTuple):
    """What the kernel was like when it was forked."""

    namespace: dict[str, Any]
    variables: dict[str, Any]
    own: dict[str, Any]
    inputs: list[str]
    """The cells that ran: they say which parts of packages were imported."""
    after: int
    midcell: bool
    tokens: list[str]
    parent: int
    sign: Any
    """Memory that the kernel sees: set as soon as the child works."""


class Store:
    """Makes the snapshot of one moment.

    Parameters
    ----------
    folder
        ``variables/``.
    moment
        What is to be stored.
    limits
        How much it may take.
    base
        cloudpickle's class of picklers.
    """

    def __init__(self, folder: Path, moment: Moment, limits: Limits, base: Any) -> None:
        self._folder = folder
        self._moment = moment
        self._limits = limits
        self._base = base
        self._began = time.time()
        self._deadline = time.monotonic() + limits.all_seconds
        moment.sign[0] = 1
        names = list(moment.variables)
        self._left: dict[str, str] = dict.fromkeys(names[_MOST:], f"there are more than {_MOST} variables")
        self._known = Known(moment.namespace, {n: moment.variables[n] for n in names[:_MOST]}, moment.own)
        self._stored: dict[str, dict[str, Any]] = {}
        self._slow: set[str] = set()
        self._cut = False

    def make(self) -> None:
        """Store the variables, then the index; files that nothing needs any longer are removed."""
        slow = {one["name"] for one in self._before()["left"] if one.get("slow")}
        single: list[tuple[str, ...]] = [
            (name,) for name in self._known.variables if name not in self._known.same
        ]
        # What took too long before comes last, or it would take the time of the others.
        single.sort(key=lambda names: names[0] in slow)
        try:
            self._run(single)
            self._run(self._groups())
            self._keep_what_there_is_no_room_for()
            self._leave_those_that_need_others()
            replace(self._folder / "index.json", self._index())
        except FullError:
            self._give_up("there is too little free space in your home: delete something")
            return
        self._sync()
        # It is another snapshot now, which nobody has been given yet.
        for file in (self._folder / "problem.json", *self._folder.glob("taken*")):
            file.unlink(missing_ok=True)
        self._clean({said["file"] for said in self._stored.values()})

    def _before(self) -> dict[str, Any]:
        """Return the index of the snapshot that there is."""
        with contextlib.suppress(OSError, ValueError):
            index = json.loads((self._folder / "index.json").read_bytes())
            if isinstance(index, dict) and index.get("format") == FORMAT:
                return index
        return {"variables": [], "left": []}

    def _room(self) -> tuple[int, int]:
        """Return how many bytes the snapshot may have, by its limit and for the sake of the disk."""
        stat = os.statvfs(self._folder)
        ours = sum(file.stat().st_size for file in self._folder.glob("*.pkl"))
        return self._limits.all, (stat.f_bavail * stat.f_frsize + ours) // 10

    def _keep_what_there_is_no_room_for(self) -> None:
        """Rather have an older value of a variable than none, where only the disk is in the way."""
        lost = {name for name, why in self._left.items() if why == NO_SPACE}
        if lost & {one["name"] for one in self._before()["variables"]}:
            raise FullError

    def _run(self, tasks: list[tuple[str, ...]]) -> None:
        """Let workers store what `tasks` name, until all is done or time is over."""
        tasks = list(tasks)
        while tasks:
            if self._deadline <= time.monotonic():
                self._out_of_time(tasks)
                return
            done = len(tasks)
            pid, pipe = self._fork(tasks)
            try:
                self._follow(tasks, pipe)
            finally:
                os.close(pipe)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if len(tasks) == done:  # it did not even begin
                self._leave(tasks.pop(0), "there was not enough memory to store it")

    def _fork(self, tasks: list[tuple[str, ...]]) -> tuple[int, int]:
        used = {said["file"]: said["bytes"] for said in self._stored.values()}
        limit, disk = (room - sum(used.values()) for room in self._room())
        ours, theirs = os.pipe()
        parent = os.getpid()
        pid = fork()
        if pid:
            os.close(theirs)
            return pid, ours
        try:
            end_with(parent)
            Worker(self._folder, self._known, self._limits, self._base, (limit, disk)).work(tasks, theirs)
        finally:
            os._exit(0)

    def _follow(self, tasks: list[tuple[str, ...]], pipe: int) -> None:
        """Take what a worker tells; return when it has ended, or has to be ended."""
        waiting = b""
        begun: tuple[str, ...] | None = None
        until = self._deadline
        while True:
            left = min(until, self._deadline) - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                if begun:
                    self._hang(begun)
                return
            data = os.read(pipe, 1 << 16)
            if not data:
                if begun:
                    self._leave(begun, "storing it crashed")
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for said in map(json.loads, lines):
                if "begin" in said:
                    begun = tasks.pop(0)
                elif begun and "more" not in said:
                    self._note(begun, said)
                    begun = None
                if begun:
                    until = time.monotonic() + self._limits.seconds * len(begun)

    def _hang(self, names: tuple[str, ...]) -> None:
        self._slow.update(names)
        if time.monotonic() >= self._deadline:
            self._out_of_time([names])
        else:
            self._leave(names, f"storing it took longer than {self._limits.seconds * len(names):g} s")

    def _out_of_time(self, tasks: list[tuple[str, ...]]) -> None:
        self._cut = True
        for names in tasks:
            self._leave(names, f"there was no time left for it ({self._limits.all_seconds:g} s for all)")

    def _note(self, names: tuple[str, ...], said: dict[str, Any]) -> None:
        if "full" in said:
            raise FullError
        if "why" in said:
            self._leave(names, said["why"])
            return
        for name in names:
            self._stored[name] = said

    def _leave(self, names: tuple[str, ...], why: str) -> None:
        """Leave variables out; several that only share objects stay stored each by itself."""
        if len(names) > 1 and not self._in_circle(names):
            return
        for name in names:
            self._stored.pop(name, None)
            self._left[name] = why

    def _in_circle(self, names: tuple[str, ...]) -> bool:
        graph = {name: set(self._stored.get(name, {}).get("refers", ())) & set(names) for name in names}
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError:
            return True
        return False

    def _groups(self) -> list[tuple[str, ...]]:
        """Return variables that only come back right together: they refer to each other, or share objects."""
        group = {name: {name} for name in self._stored}

        def join(names: list[str]) -> None:
            together = set().union(*(group[name] for name in names))
            for name in together:
                group[name] = together

        for name, said in self._stored.items():
            join([name, *(other for other in said["shares"] if other in group)])
        while True:
            graph: dict[str, set[str]] = {min(together): set() for together in group.values()}
            for name, said in self._stored.items():
                mine = min(group[name])
                graph[mine] |= {min(group[other]) for other in said["refers"] if other in group} - {mine}
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                join(error.args[1])
            else:
                break
        together = {tuple(n for n in self._stored if n in names) for names in map(frozenset, group.values())}
        return sorted(names for names in together if len(names) > 1)

    def _leave_those_that_need_others(self) -> None:
        while True:
            lost = [
                (name, other)
                for name, said in self._stored.items()
                for other in said["refers"]
                if other not in self._stored
            ]
            if not lost:
                return
            for name, other in lost:
                self._stored.pop(name, None)
                self._left.setdefault(name, f"it refers to {other}, which could not be kept")

    def _index(self) -> dict[str, Any]:
        moment = self._moment
        variables, left = [], []
        for name, value in moment.variables.items():
            first = self._known.same.get(name, name)
            entry: dict[str, Any] = {"name": name, "type": type(value).__name__}
            if first in self._stored:
                said = self._stored[first]
                entry |= {key: said[key] for key in ("bytes", "file", "seconds")}
                variables.append(entry | ({"same": first} if first != name else {}))
            elif isinstance(value, types.ModuleType):
                left.append({**entry, "why": "a module that no file is of cannot be stored"})
            else:
                why = {"why": self._left.get(first, "storing it failed")}
                left.append(entry | why | ({"slow": True} if first in self._slow else {}))
        modules = {
            name: value.__name__
            for name, value in user_modules(moment.namespace).items()
            if sys.modules.get(value.__name__) is value
        }
        return {
            "format": FORMAT,
            "time": self._began,
            "after": moment.after,
            "whole": not moment.midcell and not self._cut,
            "midcell": moment.midcell,
            "python": version(),
            "variables": variables,
            "modules": modules,
            "imports": imports(moment.inputs, set(modules.values())),
            "left": left,
            **({"token": moment.tokens[-1], "tokens": moment.tokens} if moment.tokens else {}),
        }

    def _sync(self) -> None:
        with contextlib.suppress(OSError):
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def _give_up(self, why: str) -> None:
        """Keep the snapshot that there is, and say so where that can still be written."""
        self._clean({one["file"] for one in self._before()["variables"]})
        with contextlib.suppress(OSError, FullError):
            problem = {"time": self._began, "why": why, "tokens": self._moment.tokens}
            replace(self._folder / "problem.json", problem)

    def _clean(self, kept: set[str]) -> None:
        for file in self._folder.iterdir():
            if (file.suffix == ".pkl" and file.name not in kept) or file.suffix == ".part":
                with contextlib.suppress(OSError):
                    file.unlink()


_OURS = re.compile(r"_(i{0,3}|_{1,2}|dh|ih|oh|i?\d+|exit_code)|__\w+__|In|Out|get_ipython|exit|quit")


def user_variables(namespace: dict[Any, Any], hidden: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a namespace that a person made.

    Parameters
    ----------
    namespace
        The kernel's.
    hidden
        What IPython itself, and its startup files, put there.
    """
    nothing = object()
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(name, str)
        and not _OURS.fullmatch(name)
        and hidden.get(name, nothing) is not value
        and not _is_module(value)
    }


def user_modules(namespace: dict[Any, Any]) -> dict[str, types.ModuleType]:
    """Return the modules of a namespace by the names that they have there."""
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(name, str) and issubclass(type(value), types.ModuleType) and not _OURS.fullmatch(name)
    }


def _is_module(value: Any) -> bool:
    """Whether a name of a module is all that a value is: one that was made by hand is something else."""
    return issubclass(type(value), types.ModuleType) and sys.modules.get(value.__name__) is value


def imports(cells: list[str], modules: set[str]) -> list[str]:
    """Return what was imported as ``import a.b`` of packages that are still there: no name of the notebook says it."""
    found: dict[str, None] = {}
    for cell in cells:
        if "import" not in cell:
            continue
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            for node in ast.walk(ast.parse(cell)):
                if isinstance(node, ast.Import):
                    found |= dict.fromkeys(one.name for one in node.names if "." in one.name)
    return [name for name in found if name in sys.modules and name.split(".")[0] in modules]


def end_with(parent: int) -> None:
    """See to it that this process does not outlive its parent, whose ports a new kernel may need."""
    if LIBC is not None:
        LIBC.prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_child(parent: int, *, urgent: bool) -> None:
    """Make a forked kernel one that disturbs nobody: no sockets, no files, no output; the last turn unless `urgent`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is meant for the cell
    for name in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    end_with(parent)
    sys.settrace(None)
    gc.disable()  # it would write to each object, and so copy all memory
    warnings.simplefilter("ignore")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    # What a variable prints or sends while it is stored must not reach the notebook, a server or a file.
    os.closerange(3, max(map(int, os.listdir("/dev/fd"))) + 1)  # noqa: PTH208
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
    os.nice(0 if urgent else 19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory ends, this is to go, and not the kernel
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
