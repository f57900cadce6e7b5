"""Starting jobs from a notebook, and finding them again."""

from __future__ import annotations

import os
import re
import sys
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, NotFoundError, UnavailableError
from cupola.lab.jobs.handle import Job
from cupola.lab.jobs.packing import label, pack, source_of
from cupola.models.job import JobRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from cupola.client import Client

__all__ = ["job", "jobs", "map", "submit"]

MOST_INPUTS = 100_000
_TOKENS = ("CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN")
_UNITS = {"": 1 / 2**20, "k": 1e3 / 2**20, "m": 1e6 / 2**20, "g": 1e9 / 2**20, "t": 1e12 / 2**20}
_UNITS |= {"ki": 1 / 2**10, "mi": 1, "gi": 2**10, "ti": 2**20}


def map(  # noqa: A001, PLR0913 - what a task may use, each with a default that fits
    function: Callable[[Any], Any],
    inputs: Iterable[Any],
    *,
    name: str | None = None,
    cpus: int = 1,
    memory: str | int = "1 GiB",
    chunk: int | None = None,
    engine: str = "local",
    retries: int = 1,
    labels: Iterable[str] | None = None,
) -> Job:
    """Run a function over many inputs as a job; returns at once.

    The function and its inputs are sent to tasks with the same packages, volumes and home as this session,
    so use names of files rather than large arrays. The job goes on when this notebook is closed.

    Parameters
    ----------
    function
        Takes one input; its result is kept per input. Functions of this notebook and of your own files travel
        as they are now.
    inputs
        At most 100,000.
    name
        For people; the function's name where nothing is said.
    cpus
        Cores per task.
    memory
        Per task, such as ``"2 GiB"`` or a number of MiB. A task that uses more is ended.
    chunk
        Inputs per task; chosen for you where nothing is said.
    engine
        Which batch engine runs it.
    retries
        How often an input is tried again whose process was killed.
    labels
        A short text per input for the panel; made from the input where nothing is said.

    Returns
    -------
    Job
        Show it for the live panel, or ``list(job.results())``.

    Raises
    ------
    InputError
        Something of the above is not so, or cannot be sent.
    LimitError
        The tasks ask for more than there is.
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    values = _values(inputs)
    texts = [label(value) for value in values] if labels is None else [label(str(text)) for text in labels]
    return submit(
        name or getattr(function, "__name__", "map").replace("<lambda>", "map"),
        function,
        values,
        labels=texts,
        source=source_of(function),
        cpus=cpus,
        memory=memory,
        chunk=chunk,
        engine=engine,
        retries=retries,
    )


def submit(  # noqa: PLR0913 - as `map`
    name: str,
    function: Callable[[Any], Any],
    inputs: Sequence[Any],
    *,
    labels: Sequence[str],
    source: str,
    products: Path | None = None,
    cpus: int = 1,
    memory: str | int = "1 GiB",
    chunk: int | None = None,
    engine: str = "local",
    retries: int = 1,
) -> Job:
    """Start a job whose labels, source and products are known; `map` is this for everyday use.

    Parameters
    ----------
    name, function, inputs, cpus, memory, chunk, engine, retries
        As for `map`.
    labels
        A short text per input.
    source
        Text of the function, for provenance.
    products
        The folder that the tasks write products into.

    Raises
    ------
    InputError
        An argument is wrong, or the function or an input cannot be sent.
    LimitError
        The tasks ask for more than there is.
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    if len(labels) != len(inputs):
        raise InputError(
            f"There are {len(inputs):,} inputs and {len(labels):,} labels: give one label per input."
        )
    _check_count(len(inputs))
    client = _client()
    from pydantic import ValidationError

    try:
        request = JobRequest(
            name=str(name).strip()[:100],
            payload=b64encode(pack(function, inputs)),
            labels=[label(text) for text in labels],
            source=source,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            session=os.environ.get("CUPOLA_SESSION") or None,
            engine=engine,
            cpus=cpus,
            memory_mib=_memory(memory),
            chunk=chunk,
            retries=retries,
            products=products,
        )
    except ValidationError as error:
        raise InputError(_first_problem(error)) from None
    return Job(client.submit(request), client)


def jobs() -> list[Job]:
    """Return your jobs, the newest first (at most 100).

    Raises
    ------
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    client = _client()
    return [Job(state, client) for state in client.jobs(limit=100).items]


def job(name: str) -> Job:
    """Return a job by its id, or the newest one with this name.

    Raises
    ------
    NotFoundError
        You have no such job.
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    client = _client()
    if re.fullmatch(r"job-[0-9a-f]+", name):
        return Job(client.job(name), client)
    known = jobs()
    for one in known:
        if one.name == name:
            return one
    names = ", ".join(dict.fromkeys(one.name for one in known)) or "none yet"
    raise NotFoundError(f"You have no job {name!r}; there is: {names}.")


def _client() -> Client:
    """Return the client for this session's portal; one for all jobs, as each has a thread."""
    if os.environ.get("CUPOLA_JOB"):
        raise UnavailableError(
            "A task cannot start or see jobs: do that in a notebook, around this function."
        )
    return _client_for(*(os.environ.get(name) for name in ("CUPOLA_API_URL", *_TOKENS)))


@lru_cache(maxsize=4)
def _client_for(*_environment: str | None) -> Client:
    from cupola.client import from_environment

    return from_environment()


def _values(inputs: Iterable[Any]) -> list[Any]:
    if isinstance(inputs, str | bytes):
        raise InputError("The inputs are one text: give a list, such as cupola.map(function, [text]).")
    try:
        values = list(inputs)
    except TypeError:
        raise InputError(
            f"The inputs are one {type(inputs).__name__}, which is no list: write cupola.map(function, inputs)."
        ) from None
    _check_count(len(values))
    return values


def _check_count(count: int) -> None:
    if count == 0:
        raise InputError("There are no inputs: give at least one (is the list of files empty?).")
    if count > MOST_INPUTS:
        raise InputError(
            f"There are {count:,} inputs and a job takes at most {MOST_INPUTS:,}: let each input stand for several."
        )


def _memory(said: str | int) -> int:
    """Return MiB for ``"2 GiB"``, ``"500 MB"`` or a number of MiB."""
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        raise InputError(f"memory={said!r} is no amount of memory: write '2 GiB' or a number of MiB.")
    if not isinstance(said, str):
        return int(said)
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", said.lower())
    if match is None or (match[2] is None and "b" not in said.lower()):
        raise InputError(f"memory={said!r} is no amount of memory: write '2 GiB' or a number of MiB.")
    return max(1, round(float(match[1]) * _UNITS[match[2] or ""]))


def _first_problem(error: Any) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]).replace("memory_mib", "memory")
    return f"{where}={first['input']!r} is not possible: {first['msg'][0].lower()}{first['msg'][1:]}."
