"""A person's own function as a part of a chain: its text for provenance, its pickle to run it elsewhere."""

from __future__ import annotations

import base64
import hashlib
import inspect
import pickle
import platform
import sys
import sysconfig
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Function", "function_from"]


@dataclass(frozen=True)
class Function:
    """A function of one 2-D array per band; see `Chain.map`."""

    name: str
    source: str
    """Its own text; empty where Python does not know it."""
    pickled: str
    """cloudpickle in base64. Unpickling runs code: only sessions and tasks do it, never the platform."""
    python: str
    """``major.minor`` of the interpreter that pickled it: no other can unpickle it."""

    @property
    def sha256(self) -> str:
        """Hash of the function's text and pickle: another closure has another hash."""
        return hashlib.sha256(f"{self.source}\0{self.pickled}".encode()).hexdigest()

    def to_json(self) -> dict[str, str]:
        """Return the function as JSON can hold it."""
        return {"name": self.name, "source": self.source, "pickle": self.pickled, "python": self.python}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Function:
        """Return the function that `to_json` wrote; its code is not run yet."""
        return cls(
            name=str(document["name"]),
            source=str(document.get("source", "")),
            pickled=str(document["pickle"]),
            python=str(document.get("python", "")),
        )

    def __call__(self, bands: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Run the function and return its result as (bands, rows, columns) float32.

        Raises
        ------
        InputError
            When it returns something that is no image of the same size.
        """
        function = _loaded(self.pickled, self.python, self.name)
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0/0 is "no data here", which is what NaN says: no warning per tile.
            result = function(*bands)
        return self._checked(result, bands[0].shape)

    def _checked(self, result: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
        rows, columns = shape
        wanted = f"return one array of {rows} rows and {columns} columns, or a tuple of such arrays"
        if result is None:
            raise InputError(f"The function {self.name} returned nothing; it must {wanted}.")
        try:
            if isinstance(result, (tuple, list)):
                array = np.stack([np.asarray(part, dtype=np.float32) for part in result])
            else:
                array = np.asarray(result, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"The function {self.name} returned {_shown(result)}, which is no image; it must {wanted}."
            ) from error
        if array.ndim == 2:  # noqa: PLR2004 - rows and columns
            array = array[np.newaxis]
        if array.ndim != 3 or array.shape[0] == 0 or array.shape[1:] != shape:  # noqa: PLR2004
            raise InputError(
                f"The function {self.name} returned {_shown(result)} for bands of {rows} x {columns}; it must {wanted}."
            )
        return array


def _shown(result: Any) -> str:
    """Name a wrong result."""
    if isinstance(result, (tuple, list)):
        shapes = ", ".join("x".join(map(str, np.shape(part))) or "a number" for part in result[:4])
        return (
            f"a {type(result).__name__} of {len(result)} ({shapes})"
            if result
            else f"an empty {type(result).__name__}"
        )
    if isinstance(result, np.ndarray):
        return f"an array of {' x '.join(map(str, result.shape)) or 'no dimension'}"
    return f"{type(result).__name__} {str(result)[:40]!r}"


@lru_cache(maxsize=64)
def _loaded(pickled: str, python: str, name: str) -> Callable[..., Any]:
    here = _python()
    if python and python != here:
        raise InputError(f"The function {name} was made by Python {python} and cannot run in Python {here}.")
    try:
        function: Callable[..., Any] = pickle.loads(base64.b64decode(pickled))  # noqa: S301 - see `pickled`
    except ModuleNotFoundError as error:
        raise InputError(
            f"The function {name} needs the module {error.name!r}, which is not installed where it runs."
        ) from error
    return function


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def function_from(function: Callable[..., Any]) -> Function:
    """Return `function` as a part of a chain.

    Raises
    ------
    InputError
        When it is no function, or holds something that cannot be sent to another process.
    """
    if not callable(function):
        raise InputError(f"map() takes a function of one array per band, not {type(function).__name__}.")
    name = getattr(function, "__name__", None) or type(function).__name__
    try:
        with _by_value(function):
            pickled = cloudpickle.dumps(function)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"The function {name} cannot be sent to other processes because it holds something that cannot be "
            f"pickled ({error}): open files and connections inside the function."
        ) from error
    return Function(name, _source(function), base64.b64encode(pickled).decode(), _python())


def _source(function: Callable[..., Any]) -> str:
    """Return the function's own text; a notebook's cell is known to linecache."""
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):
        return ""


@contextmanager
def _by_value(function: Callable[..., Any]) -> Iterator[None]:
    """Pickle a function of the person's own module with its code: a task may not find that module's file."""
    module = inspect.getmodule(function)
    own = (
        module is not None
        and module.__name__ != "__main__"
        and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
        and _is_own(getattr(module, "__file__", None))
    )
    if not own or module is None:
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_own(file: str | None) -> bool:
    """Tell whether a module's file belongs to the person rather than to an installed package."""
    if file is None:
        return False
    path = Path(file).resolve()
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed |= {sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2])}
    folders = {"site-packages", "dist-packages"} & set(path.parts)
    return not folders and not any(path.is_relative_to(Path(place).resolve()) for place in installed if place)
