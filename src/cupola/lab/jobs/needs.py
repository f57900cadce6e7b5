"""What a function needs where it runs: the code it reaches, and the packages that code uses."""

from __future__ import annotations

import dis
import os
import re
import sys
import types
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["is_installed", "packages_of", "reached"]


def packages_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the releases of the installed packages that `function` uses, by normalised name.

    What its own code and that of the user's functions it calls imports or names is found; not what those packages need in turn.
    """
    modules = {"cloudpickle"}
    used: list[Any] = [function, getattr(function, "func", None)]
    for code, values in reached(function):
        modules |= _imports(code)
        used += values
    homes = [
        one.__name__ if isinstance(one, types.ModuleType) else getattr(one, "__module__", None)
        for one in used
    ]
    modules.update(home for home in homes if isinstance(home, str))
    owners = packages_distributions()
    names = {name for module in modules for name in owners.get(module.partition(".")[0], ())}
    return {re.sub(r"[-_.]+", "-", name).lower(): version(name) for name in sorted(names)}


def reached(function: Callable[..., Any]) -> Iterator[tuple[types.CodeType, list[Any]]]:
    """Yield the code of a function and of the user's own ones that it calls by name, each with the values of the names it uses."""
    seen: set[int] = set()
    todo: list[Any] = [function]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        inner = (getattr(thing, "func", None), getattr(thing, "__wrapped__", None))
        todo += [one for one in inner if callable(one)]
        code: object = getattr(getattr(thing, "__func__", thing), "__code__", None)
        if not isinstance(code, types.CodeType):
            continue
        closed = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if _filled(cell)]
        if is_installed(code.co_filename):
            # It may be wrapped around a function of the user's.
            todo += [value for value in closed if callable(value)]
            continue
        names = _names(code)
        values = [
            value for name, value in getattr(thing, "__globals__", {}).items() if name in names
        ] + closed
        yield code, values
        todo += [value for value in values if callable(value)]


def _imports(code: types.CodeType) -> set[str]:
    """Return the modules that a function's code and the functions within it import."""
    found = {str(one.argval) for one in dis.get_instructions(code) if one.opname == "IMPORT_NAME"}
    return found.union(*(_imports(inner) for inner in _inner(code)))


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function's code and the functions within it use."""
    return set(code.co_names).union(*(_names(inner) for inner in _inner(code)))


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


def is_installed(path: str) -> bool:
    """Say whether a path belongs to Python or an environment."""
    if f"{os.sep}site-packages" in path or f"{os.sep}dist-packages" in path:
        return True
    return path.startswith(_python_folders()) or os.path.realpath(path).startswith(_python_folders())


@cache
def _python_folders() -> tuple[str, ...]:
    """Return where Python and its environments lie, each by all its names."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    folders = {os.path.join(prefix, sub) for prefix in prefixes for sub in ("lib", "lib64", "bin")}  # noqa: PTH118
    return tuple(folders | {os.path.realpath(folder) for folder in folders})
