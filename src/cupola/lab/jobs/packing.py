"""Pack a function of a notebook and its inputs, so that a task elsewhere runs them as the notebook would."""

from __future__ import annotations

import inspect
import io
import linecache
import os
import pickle
import reprlib
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from cupola.exceptions import InputError
from cupola.lab.jobs.needs import is_installed, reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LARGEST_PAYLOAD", "label", "pack", "source_of"]

LARGEST_PAYLOAD = 64 * 2**20
"""Bytes. Larger data belong in files: what is sent is kept in memory by the portal for a moment."""

LONGEST_LABEL = 80


def pack(function: Callable[[Any], Any], inputs: Sequence[Any]) -> bytes:
    """Return the payload of a job.

    It holds two pickles: a plain dict that says where the function comes from (``python``, ``cwd``, ``path``,
    ``sources``), and cloudpickle's of ``(function, inputs)``. Functions of the notebook and of the user's own
    files travel by value, so that a later edit does not change a job that runs.

    Raises
    ------
    InputError
        `function` is no function, or it or an input holds something that cannot be sent.
    """
    if not callable(function):
        raise InputError(
            f"A job needs a function, and this is a {type(function).__name__}: "
            "write cupola.map(function, inputs)."
        )
    place = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "cwd": os.getcwd(),  # noqa: PTH109 - a plain text is wanted
        "path": [entry for entry in sys.path if entry and not is_installed(entry)],
        "sources": _cell_sources(function),
    }
    packed = io.BytesIO()
    pickle.dump(place, packed, protocol=4)
    try:
        with _own_modules_by_value():
            cloudpickle.dump((function, inputs), packed, protocol=5)
    except Exception as error:
        raise InputError(
            f"The function or its inputs cannot be sent to the tasks ({type(error).__name__}: {error}): "
            "open files, connections and the like inside the function instead."
        ) from error
    if packed.tell() > LARGEST_PAYLOAD:
        raise InputError(
            f"The function and its inputs are {packed.tell() / 2**20:.0f} MiB and the largest is "
            f"{LARGEST_PAYLOAD >> 20} MiB: give names of files instead of the data themselves."
        )
    return packed.getvalue()


def source_of(function: Callable[..., Any]) -> str:
    """Return the text of a function, or nothing where Python does not know it."""
    function = inspect.unwrap(function)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    for thing in (function, type(function)):
        try:
            return inspect.getsource(thing)
        except (OSError, TypeError):
            continue
    return ""


def label(value: object) -> str:
    """Return a short text for an input; of a long path the end is kept, which tells files apart."""
    if isinstance(value, str | os.PathLike):
        text = str(value)
        return text if len(text) <= LONGEST_LABEL else f"…{text[-LONGEST_LABEL + 1 :]}"
    try:
        text = reprlib.repr(value)
    except Exception:  # noqa: BLE001 - somebody else's __repr__
        text = type(value).__name__
    return " ".join(text.split())[:LONGEST_LABEL]


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    """Let cloudpickle pack what lies in the user's own files, as it does with the notebook's own functions."""
    known = cloudpickle.list_registry_pickle_by_value()
    loaded: dict[str, object] = {**sys.modules}
    own = [
        module
        for name, module in loaded.items()
        if name != "__main__"
        and name not in known
        and isinstance(module, types.ModuleType)
        and _is_own(module)
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(module: types.ModuleType) -> bool:
    """Say whether a module is a file of the user's that nobody installed."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and module.__name__.partition(".")[0] != "cupola" and not is_installed(file)


def _cell_sources(function: Callable[..., Any]) -> dict[str, str]:
    """Return the text of the notebook cells that `function` and what it calls were written in."""
    found: dict[str, str] = {}
    for code, _ in reached(function):
        if not Path(code.co_filename).exists() and (lines := linecache.getlines(code.co_filename)):
            found[code.co_filename] = "".join(lines)
    return found
