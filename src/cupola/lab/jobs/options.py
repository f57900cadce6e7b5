"""What a person can ask for a job's tasks, in the words of a notebook, and the request that they become."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import ValidationError

from cupola.exceptions import InputError
from cupola.models.job import JobRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.jobs.handle import Job

__all__ = ["Options", "asked", "mib", "request", "seconds"]

_AMOUNTS = {"": 1 / 2**20, "k": 1e3 / 2**20, "m": 1e6 / 2**20, "g": 1e9 / 2**20, "t": 1e12 / 2**20}
_AMOUNTS |= {"ki": 1 / 2**10, "mi": 1, "gi": 2**10, "ti": 2**20}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(rf"\s*({_NUMBER})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])\s*")
_CLOCK = re.compile(r"\s*([0-9]+):([0-5]?[0-9]):([0-5]?[0-9])\s*")


class Options(TypedDict, total=False):
    """What `cupola.map`, `submit` and `Chain.run` take alike; `cupola.map` tells what each means."""

    cpus: int
    memory: str | int
    gpus: int
    time: str | float | timedelta | None
    chunk: int | None
    engine: str | None
    retries: int
    after: Job | str | Iterable[Job | str] | None
    team: str | None
    notify: bool | None


_NAMES = {"memory": "memory_mib", "time": "time_s"}
"""Fields of the request that are called otherwise than the options."""


def asked(options: Options, *, find: Callable[[str], str]) -> dict[str, Any]:
    """Return the fields of a `JobRequest` that `options` stand for.

    Parameters
    ----------
    options
        What was said.
    find
        Returns the id of the job that has a name or an id.

    Raises
    ------
    InputError
        An option is not known, or its value is none.
    """
    said: dict[str, Any] = dict(options)
    for name in said.keys() - Options.__annotations__.keys():
        near = get_close_matches(name, Options.__annotations__, 1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(Options.__annotations__)}."
        raise InputError(f"There is no option {name!r} of a job: {hint}")
    if "memory" in said:
        said["memory_mib"] = mib(said.pop("memory"))
    if (time := said.pop("time", None)) is not None:
        said["time_s"] = seconds(time)
    said["after"] = [find(_named(one)) for one in _several(said.pop("after", None))]
    return said


def request(**fields: Any) -> JobRequest:
    """Return a request.

    Raises
    ------
    InputError
        A field is not possible.
    """
    try:
        return JobRequest(**fields)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from None


def mib(said: str | float) -> int:
    """Return MiB for ``"2 GiB"``, ``"500 MB"`` or a number of MiB.

    Raises
    ------
    InputError
        It is no amount of memory.
    """
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        raise InputError(f"memory={said!r} is no amount of memory: write '2 GiB' or a number of MiB.")
    if not isinstance(said, str):
        return int(said)
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([kmgt]i?)?b?\s*", said.lower())
    if match is None or (match[2] is None and "b" not in said.lower()):
        raise InputError(f"memory={said!r} is no amount of memory: write '2 GiB' or a number of MiB.")
    return max(1, round(float(match[1]) * _AMOUNTS[match[2] or ""]))


def seconds(said: str | float | timedelta) -> int:
    """Return whole seconds for ``"30 min"``, ``"1 h 30 min"``, ``"01:30:00"``, a number of seconds or a timedelta.

    Raises
    ------
    InputError
        It is no length of time.
    """
    found = _seconds(said)
    if found is None or not 0 < found < math.inf:
        raise InputError(
            f"time={said!r} is no length of time: write '30 min', '2 h', a number of seconds or a timedelta."
        )
    return math.ceil(found)


def _seconds(said: object) -> float | None:
    match said:
        case bool():
            return None
        case timedelta():
            return said.total_seconds()
        case int() | float():
            return float(said)
        case str() if clock := _CLOCK.fullmatch(said):
            return int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3])
        case str() if re.fullmatch(rf"(?:{_TIME.pattern})+", said.lower()):
            return sum(float(number) * _TIMES[unit[0]] for number, unit in _TIME.findall(said.lower()))
        case _:
            return None


def _several(said: object) -> list[object]:
    """Return what was said as a list: nothing, one thing or several."""
    if said is None:
        return []
    return list(said) if isinstance(said, Iterable) and not isinstance(said, str | bytes) else [said]


def _named(one: object) -> str:
    """Return the id or name of what a job is to wait for."""
    name = one if isinstance(one, str) else getattr(one, "id", None)
    if not isinstance(name, str) or not name:
        raise InputError(f"after={one!r} is no job: give a job, its id or its name, or a list of them.")
    return name


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    known = {field: name for name, field in _NAMES.items()}
    where = ".".join(known.get(str(part), str(part)) for part in first["loc"])
    return f"{where}={first['input']!r} is not possible: {first['msg'][0].lower()}{first['msg'][1:]}."
