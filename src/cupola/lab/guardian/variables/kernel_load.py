"""How a kernel gets the variables of another one back.

Part of what a kernel loads (`kernel_side`), so it stands alone. To load a pickle is to run code: only files that belong to
the person themselves are read.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import re
import signal
import stat
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from .kernel_pickle import OtherPythonError, constructor, words
from .kernel_worker import FullError, replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["come_back", "restore"]

FORMAT = 1
SECONDS = 30.0
"""To load one variable, with what it needs."""
_FILE = re.compile(r"[0-9a-f]{40}\.pkl")


class MissingError(Exception):
    """A variable that another one needs is not back; its text says why."""


class TooLongError(Exception):
    """Loading took too long."""


class ForeignError(Exception):
    """A file is not the person's own."""


def come_back(source: Path, target: Path, shell: Any) -> None:
    """Bring the variables of a dead kernel back into this one, and write down what came of it.

    Parameters
    ----------
    source
        The dead kernel's folder.
    target
        ``variables/`` of this one, for ``restored.json``.
    shell
        This one's.
    """
    begun = time.time()
    said = restore(source, shell.user_ns, {"shell": shell, "stdout": sys.stdout, "stderr": sys.stderr})
    if not said.get("refused"):
        _go_on_counting(shell, said["after"])
    said |= {"from": source.name, "seconds": round(time.time() - begun, 3)}
    with contextlib.suppress(OSError, FullError):
        replace(target / "restored.json", said)


def _go_on_counting(shell: Any, after: int) -> None:
    """Let the next cell have the number that it would have had."""
    if after < shell.execution_count:
        return
    with contextlib.suppress(AttributeError):
        manager = shell.history_manager
        for inputs in (manager.input_hist_parsed, manager.input_hist_raw):
            inputs.extend([""] * (after + 1 - len(inputs)))
    shell.execution_count = after + 1


def restore(folder: Path, namespace: dict[str, Any], own: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load a snapshot into a namespace, variable by variable; one that cannot be loaded spoils no other.

    Parameters
    ----------
    folder
        Of the kernel that stored it.
    namespace
        Gets the variables and modules.
    own
        What the old kernel had of its own, as this one has it.

    Returns
    -------
    :
        ``restored`` (names), ``modules`` (aliases), ``left`` (``{"name", "type", "why"}``), ``time`` and ``after`` of the
        snapshot; ``refused`` with a sentence where nothing is loaded.
    """
    said: dict[str, Any] = {"restored": [], "modules": [], "left": [], "time": 0.0, "after": 0}
    try:
        index = json.loads(_read(folder / "variables", "index.json"))
        if index.get("format", FORMAT) > FORMAT:
            return {**said, "refused": "a newer version of Cupola has stored these variables"}
        said |= {key: index[key] for key in ("time", "after", "midcell", "unable") if key in index}
        loader = Loader(folder / "variables", index, namespace, own or {})
        with _quiet():
            said |= loader.load()
    except ForeignError as error:
        return {**said, "refused": str(error)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {**said, "refused": f"the stored variables cannot be read ({words(error)})"}
    said["left"] = [*index["left"], *said["left"]]
    return said


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what loading prints, or warns of, out of the notebook."""
    nothing = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        warnings.simplefilter("ignore")
        yield


def _read(folder: Path, name: str) -> bytes:
    """Return the content of a file that is surely the person's own."""
    for place in (folder.parent, folder):
        _check(place.stat(), str(place))
    file = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        _check(os.fstat(file), str(folder / name))
        return opened.read()


def _check(found: os.stat_result, name: str) -> None:
    if found.st_uid != os.geteuid():
        raise ForeignError(f"{name} belongs to somebody else: nothing is loaded from there")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ForeignError(f"others can write to {name}: nothing is loaded from there")


class Loader:
    """Loads what an index names.

    Parameters
    ----------
    folder
        ``variables/``.
    index
        What lies there.
    namespace
        Gets the variables.
    own
        What the old kernel had of its own, as this one has it.
    """

    def __init__(
        self, folder: Path, index: dict[str, Any], namespace: dict[str, Any], own: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._namespace = namespace
        self._own = {**own, "namespace": namespace}
        self._modules: dict[str, str] = dict(index["modules"])
        self._imports: list[str] = list(index.get("imports", ()))
        self._entries: dict[str, dict[str, Any]] = {str(one["name"]): one for one in index["variables"]}
        self._why = {str(one["name"]): str(one["why"]) for one in index["left"]}
        self._values: dict[str, Any] = {}
        self._files: dict[str, str] = {}
        """Files that could not be loaded, and why."""

    def load(self) -> dict[str, Any]:
        """Load all; return what is back, and what is not."""
        left = []
        modules = []
        for alias, name in self._modules.items():
            try:
                with _limit():
                    self._namespace[alias] = importlib.import_module(name)
                modules.append(alias)
            except BaseException as error:  # noqa: BLE001 - importing runs anybody's code
                left.append({"name": alias, "type": "module", "why": _in_words(error)})
        for name in self._imports:
            with contextlib.suppress(BaseException), _limit():
                importlib.import_module(name)
        restored = []
        for name, entry in self._entries.items():
            try:
                with _limit():
                    self._namespace[name] = self.value(name)
                restored.append(name)
            except BaseException as error:  # noqa: BLE001 - loading a variable runs anybody's code
                left.append({"name": name, "type": entry.get("type", ""), "why": _in_words(error)})
        return {"restored": restored, "modules": modules, "left": left}

    def value(self, name: str) -> Any:
        """Return a variable's value, loaded once."""
        entry = self._entries.get(name)
        if entry is None:
            raise MissingError(f"it needs {name}, which could not be kept ({self._why.get(name, 'unknown')})")
        name = entry.get("same", name)
        if name not in self._values:
            self._load_file(str(entry["file"]), int(entry["bytes"]), name)
        return self._values[name]

    def _load_file(self, file: str, size: int, name: str) -> None:
        if file in self._files:
            raise MissingError(self._files[file])
        self._files[file] = f"it needs {name}, which refers to itself in a way that cannot be loaded"
        try:
            content = Unpickler(io.BytesIO(self._data(file, size)), self).load()
            self._values[name] = content[name]
            self._values.update(content)
        except BaseException as error:
            self._files[file] = f"it needs {name}, which could not be loaded ({_in_words(error)})"
            raise
        del self._files[file]

    def _data(self, file: str, size: int) -> bytes:
        if not _FILE.fullmatch(file):
            raise ForeignError(f"{file} is no file of a snapshot")
        data = _read(self._folder, file)
        if len(data) != size:
            raise EOFError("its file is not whole")
        return data

    def known(self, kind: str, name: str) -> Any:
        """Return what a pickle knows by a name."""
        if kind == "variable":
            return self.value(name)
        return constructor(name) if kind == "constructor" else self._own[name]


class Unpickler(pickle.Unpickler):
    """Loads pickles that know things by their names."""

    def __init__(self, file: io.BytesIO, loader: Loader) -> None:
        super().__init__(file)
        self._loader = loader

    # No "override": kernels of older Pythons load this file, too.
    def persistent_load(self, pid: Any) -> Any:  # type: ignore[explicit-override]
        """Return what is meant."""
        return self._loader.known(*pid)


def _in_words(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error}: install it, then run its cell again"
    if isinstance(error, TooLongError):
        return f"loading it took longer than {SECONDS:g} s"
    if isinstance(error, FileNotFoundError):
        return "its file is missing"
    if isinstance(error, (MissingError, OtherPythonError, ForeignError, EOFError)):
        return str(error)
    return words(error)


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    """Interrupt what takes too long; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
