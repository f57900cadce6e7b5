"""What ISIS programs print: PVL, with lines about the progress around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cupola.exceptions import InputError

__all__ = ["read_values"]

_BLOCK = re.compile(r"^\s*(Group|Object)\s*=", re.IGNORECASE)
_PAIR = re.compile(r"^\s*[A-Za-z_][\w:/]*\s*=\s*\S")
_END = re.compile(r"^\s*End\s*$", re.IGNORECASE)
_NOTHING = {"NULL", "Null", "null", "N/A"}


def read_values(text: str) -> dict[str, Any]:
    """Return the PVL in a program's output as plain Python.

    Parameters
    ----------
    text
        What ``stats``, ``campt``, ``caminfo``, ``catlab`` and others print or write: groups and objects, among other
        lines such as ``stats: Working`` and ``100% Processed``.

    Returns
    -------
    :
        Groups and objects are dictionaries by name (a list of them where a name comes again); numbers are numbers, lists
        are lists, times are ``datetime`` objects, ``NULL`` is None, and a value with a unit is ``(value, "unit")``.

    Raises
    ------
    InputError
        If there is no PVL in it, or it breaks off.
    """
    import pvl
    from pvl.exceptions import LexerError, ParseError

    wanted = _only_pvl(text)
    if not wanted:
        raise InputError("There is no PVL in this output: a group or a keyword with a value is missing")
    try:
        values: dict[str, Any] = _plain(pvl.loads(wanted))
    except (LexerError, ParseError, ValueError) as exc:
        first = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise InputError(f"The PVL in this output cannot be read, perhaps it breaks off: {first}") from exc
    return values


def _only_pvl(text: str) -> str:
    """Return the lines from the first group or keyword on, without what programs say about their progress."""
    lines: list[str] = []
    depth = 0
    for line in text.replace("\r", "\n").splitlines():
        if _END.match(line):
            break
        if _BLOCK.match(line):
            depth += 1
        elif re.match(r"^\s*End_(Group|Object)\b", line, re.IGNORECASE):
            lines.append(line)
            depth -= 1
            continue
        elif depth == 0 and not _PAIR.match(line):
            continue
        lines.append(line)
    return "\n".join(lines) + "\nEnd\n" if lines else ""


def _plain(value: Any) -> Any:
    import pvl.collections

    if isinstance(value, pvl.collections.Quantity):
        return (_plain(value.value), str(value.units))
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for name, one in value.items():
            plain = _plain(one)
            if name not in result:
                result[name] = plain
            elif isinstance(result[name], _Several):
                result[name].append(plain)
            else:
                result[name] = _Several([result[name], plain])
        return {name: list(one) if isinstance(one, _Several) else one for name, one in result.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return None if isinstance(value, str) and value in _NOTHING else value


class _Several(list[Any]):
    """Values of one name that came more than once, told from a value that is a list."""
