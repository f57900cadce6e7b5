"""How a variable of a kernel becomes bytes: a pickle that knows the other variables by name.

Part of what a kernel loads (`kernel_side`), so it stands alone: the standard library only, and cloudpickle's class is
handed in. A variable that another one refers to is written as its name, so that both have the same object again, and
a function of the notebook is written without the variables it uses: it finds them in the namespace, as before.
"""

from __future__ import annotations

import functools
import io
import linecache
import marshal
import pickle
import re
import sys
import types
from typing import Any

__all__ = ["CannotError", "Known", "constructor", "pickler", "reason"]

MOST_TRACKED = 200_000
"""Objects that are remembered to find what two variables share: what is beyond is not looked at."""

_ATOMS = frozenset(
    [int, float, complex, bool, str, bytes, range, pickle.PickleBuffer, types.ModuleType]
    + [type(one) for one in (None, ..., NotImplemented)]
)
"""Nobody can tell whether two of them are the same object, or they are written as a name anyway."""
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
_SHARED = {
    "builtins": {"list", "dict", "set", "bytearray", "cell"},
    "collections": {"deque", "defaultdict", "OrderedDict", "Counter"},
    "numpy": {"ndarray"},
    "pandas": {"DataFrame", "Series"},
    "xarray": {"DataArray", "Dataset"},
}
"""Types of which it counts that there is one; those of libraries are full of objects that all share."""
_FILES = (
    io.TextIOWrapper,
    io.BufferedReader,
    io.BufferedWriter,
    io.BufferedRandom,
    io.BufferedRWPair,
    io.FileIO,
)

_WORDS = {
    "generator": "a generator",
    "async_generator": "a generator",
    "coroutine": "a coroutine",
    "frame": "a running call",
    "traceback": "a traceback",
    "socket": "an open network connection",
    "socket.socket": "an open network connection",
    "ssl.SSLContext": "an open network connection",
    "sqlite3.Connection": "an open sqlite connection",
    "sqlite3.Cursor": "an open sqlite connection",
    "duckdb.DuckDBPyConnection": "an open database connection",
    "_duckdb.DuckDBPyConnection": "an open database connection",
    "sqlalchemy.engine.base.Connection": "an open database connection",
    "threading.Thread": "a thread",
    "_thread.lock": "a lock",
    "_thread.RLock": "a lock",
    "_thread._local": "data of a thread",
    "concurrent.futures.thread.ThreadPoolExecutor": "a pool of threads",
    "concurrent.futures.process.ProcessPoolExecutor": "a pool of processes",
    "multiprocessing.pool.Pool": "a pool of processes",
    "subprocess.Popen": "a running program",
    "distributed.client.Client": "a connection to a cluster",
    "_asyncio.Task": "a running task",
    "_asyncio.Future": "a running task",
    "h5py._hl.files.File": "an open HDF5 file",
    "h5py._hl.group.Group": "part of an open HDF5 file",
    "h5py._hl.dataset.Dataset": "part of an open HDF5 file",
    "netCDF4.Dataset": "an open netCDF file",
    "rasterio.io.DatasetReader": "an open dataset",
    "rasterio.io.DatasetWriter": "an open dataset",
    "mmap.mmap": "a file in memory",
    "weakref": "a weak reference",
    "weakref.ReferenceType": "a weak reference",
    "ipywidgets.widgets.widget.Widget": "a widget",
}
_WHAT = re.compile(r"[Cc]annot pickle '([\w.]+)' object")
_LONGEST = 200


class CannotError(Exception):
    """Something that must not be pickled; its text says what it is, such as ``an open file``."""


class OtherPythonError(Exception):
    """Code of another version of Python, which this one cannot run."""


def version() -> str:
    """Return the version of Python as far as code depends on it."""
    return ".".join(map(str, sys.version_info[:2]))


# What follows is called when a pickle is loaded. Pickles know it by these names (`constructor`), not by a module.


def _code(python: str, data: bytes, filename: str, text: str) -> types.CodeType:
    if python != version():
        raise OtherPythonError(
            f"Python {python} defined it, and this kernel runs Python {version()}: run its cell again"
        )
    if text:  # so that tracebacks show it, and its source can be asked for
        linecache.cache.setdefault(filename, (len(text), None, text.splitlines(keepends=True), filename))
    code: types.CodeType = marshal.loads(data)  # noqa: S302 - the person's own, as all that is restored
    return code


def _function(
    code: types.CodeType, namespace: dict[str, Any], name: str, cells: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    return types.FunctionType(code, namespace, name, None, cells)


def _set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    function.__dict__.update(state.pop("__dict__"))
    for name, value in state.items():
        setattr(function, name, value)


def _cell() -> types.CellType:
    return types.CellType()


def _set_cell(cell: types.CellType, state: tuple[Any]) -> None:
    cell.cell_contents = state[0]


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


_CONSTRUCTORS: dict[str, Any] = {
    "code": _code,
    "function": _function,
    "set_function": _set_function,
    "cell": _cell,
    "set_cell": _set_cell,
    "cached": _cached,
}


def constructor(name: str) -> Any:
    """Return what a pickle calls by `name`."""
    return _CONSTRUCTORS[name]


class Known:
    """What pickles write as a name: the variables, their namespace, and what every kernel has of its own.

    Parameters
    ----------
    namespace
        The living one: functions of the notebook are known by it.
    variables
        Those that are to be stored.
    own
        Objects of the kernel itself by a name, such as its shell.
    """

    def __init__(self, namespace: dict[str, Any], variables: dict[str, Any], own: dict[str, Any]) -> None:
        self.namespace = namespace
        self.variables = variables
        self.same: dict[str, str] = {}
        """Second names of an object that has a name already."""
        self.ids: dict[int, tuple[str, str]] = {}
        self.seen: dict[int, tuple[Any, str]] = {}
        """Which variable an object was found in; the object itself, so that its number is not given again."""
        for name, value in [*own.items(), ("namespace", namespace)]:
            self.ids[id(value)] = ("own", name)
        for name, value in _CONSTRUCTORS.items():
            self.ids[id(value)] = ("constructor", name)
        for name, value in variables.items():
            if _has_identity(value):
                kind, first = self.ids.setdefault(id(value), ("variable", name))
                if kind == "variable" and first != name:
                    self.same[name] = first


def _has_identity(value: Any) -> bool:
    """Whether it counts that two names have the same object."""
    kind = type(value)
    if kind in _ATOMS or (kind in {tuple, frozenset} and not value):
        return False
    # What is imported is written as a name of its module, wherever it turns up.
    return not (issubclass(kind, _NAMED) and getattr(value, "__module__", None) != "__main__")


class Naming:
    """The part of our picklers that is not cloudpickle's: it stands before that class.

    Parameters
    ----------
    file
        Takes the bytes.
    known
        What is written as a name.
    names
        The variables that go into this pickle.
    """

    def __init__(self, file: Any, known: Known, names: tuple[str, ...]) -> None:
        super().__init__(file, protocol=5)  # type: ignore[call-arg]
        self._known = known
        self._names = frozenset(names)
        self._kinds: dict[type, bool] = {}
        self._parts: set[int] = set()
        self.refers: set[str] = set()
        """Other variables that are written as a name."""
        self.shares: set[str] = set()
        """Other variables that hold an object that this one holds too."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """Return what is written instead of an object; nothing to write the object itself."""
        kind = type(obj)
        if kind in _ATOMS:
            return None
        found = self._known.ids.get(id(obj))
        if found is None:
            self._track(obj, kind)
        elif found[0] == "variable":
            if found[1] in self._names:
                return None
            self.refers.add(found[1])
        return found

    def _track(self, obj: Any, kind: type) -> None:
        counts = self._kinds.get(kind)
        if counts is None:
            counts = self._kinds[kind] = _is_shared(kind)
        if kind is not dict and kind is not list:
            # The attributes of an object are its own: they say nothing that the object does not say.
            self._parts.add(id(getattr(obj, "__dict__", None)))
        seen = self._known.seen
        if not counts or id(obj) in self._parts or len(seen) > MOST_TRACKED:
            return
        name = seen.setdefault(id(obj), (obj, next(iter(self._names))))[1]
        if name not in self._names:
            self.shares.add(name)

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is written; what is not ours to say is cloudpickle's."""
        kind = type(obj)
        if kind in _REDUCERS and (kind is not types.FunctionType or self._is_of_the_notebook(obj)):
            return _REDUCERS[kind](obj)
        # cloudpickle would read a file to its end, and move the place where the notebook reads on.
        if issubclass(kind, _FILES):
            raise CannotError("an open file")
        if _is_widget(kind):
            raise CannotError("a widget")
        return super().reducer_override(obj)  # type: ignore[misc]

    def _is_of_the_notebook(self, function: types.FunctionType) -> bool:
        return function.__globals__ is self._known.namespace


@functools.lru_cache(maxsize=4)
def pickler(base: Any) -> Any:
    """Return the class of picklers.

    Parameters
    ----------
    base
        cloudpickle's.
    """
    return type("Pickler", (Naming, base), {})


def _is_shared(kind: type) -> bool:
    module = str(getattr(kind, "__module__", ""))
    return module == "__main__" or kind.__qualname__ in _SHARED.get(module.partition(".")[0], ())


def _is_widget(kind: type) -> bool:
    widgets = sys.modules.get("ipywidgets")
    return widgets is not None and issubclass(kind, getattr(widgets, "Widget", ()))


def _reduce_function(obj: types.FunctionType) -> tuple[Any, ...]:
    state: dict[str, Any] = {"__dict__": dict(obj.__dict__)}
    for name in ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__"):
        state[name] = getattr(obj, name)
    for name in ("__annotations__", "__type_params__"):
        try:
            if value := getattr(obj, name, None):
                state[name] = value
        except Exception:  # noqa: BLE001, S112 - newer Pythons compute them when they are asked for
            continue
    # Cells are objects of their own here: two functions that share one still do.
    made = (obj.__code__, obj.__globals__, obj.__name__, obj.__closure__)
    return _function, made, state, None, None, _set_function


def _reduce_code(obj: types.CodeType) -> tuple[Any, ...]:
    try:
        data = marshal.dumps(obj, 2)  # this format is the same for the same code, each time
    except ValueError:
        data = marshal.dumps(obj)
    entry: Any = linecache.cache.get(obj.co_filename, ())
    # An entry without a time is a cell, not a file.
    text = "".join(entry[2]) if len(entry) == 4 and entry[1] is None else ""  # noqa: PLR2004
    return _code, (version(), data, obj.co_filename, text)


def _reduce_cell(obj: types.CellType) -> tuple[Any, ...]:
    try:
        state = (obj.cell_contents,)
    except ValueError:  # empty
        return _cell, ()
    return _cell, (), state, None, None, _set_cell


def _reduce_cached(obj: Any) -> Any:
    if obj.__module__ != "__main__":
        return NotImplemented
    # It would be written as a name of a module that the new kernel does not have yet.
    return _cached, (obj.__wrapped__, obj.cache_parameters())


_REDUCERS: dict[type, Any] = {
    types.FunctionType: _reduce_function,
    types.CodeType: _reduce_code,
    types.CellType: _reduce_cell,
    functools._lru_cache_wrapper: _reduce_cached,  # noqa: SLF001 - it has no other name
}


def reason(error: BaseException, value: Any) -> str:
    """Say in words why `value` could not be stored.

    Parameters
    ----------
    error
        What was raised.
    value
        The variable's, or nothing for several at once.
    """
    text = words(error)
    names = _names_of(type(value))
    whole = next((_WORDS[name] for name in names if name in _WORDS), "")
    part = str(error) if isinstance(error, CannotError) else ""
    if found := _WHAT.search(text):
        part = _WORDS.get(found[1], f"a {found[1]}")
        whole = whole or (part if found[1] in names else "")
    elif part and issubclass(type(value), _FILES):
        whole = part
    if whole or part:
        return f"{whole} cannot be stored" if whole else f"it holds {part}, which cannot be stored"
    if isinstance(error, RecursionError) or "deep recursion" in text:
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "there was not enough memory"
    if "CUDA" in text or "forked subprocess" in text:
        return "it lies on a GPU: a copy on the CPU can be stored"
    return text


def words(error: BaseException) -> str:
    """Return an error's kind and text; its own code may fail, too."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - whatever the user's class does
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:_LONGEST]}" if text else name


def _names_of(kind: type) -> list[str]:
    names = []
    for one in kind.__mro__[:-1]:
        module = getattr(one, "__module__", "")
        names += [f"{module}.{one.__qualname__}"] + [one.__qualname__] * (module == "builtins")
    return names
