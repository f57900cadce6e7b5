"""Starting jobs from a notebook, and finding them again."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Unpack

from cupola.exceptions import InputError, UnavailableError
from cupola.lab.jobs.command import plan_command
from cupola.lab.jobs.handle import Job
from cupola.lab.jobs.listing import Jobs
from cupola.lab.jobs.needs import packages_of
from cupola.lab.jobs.options import Options, asked, request
from cupola.lab.jobs.packing import label, pack, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta
    from pathlib import Path

    from cupola.client import Client

__all__ = ["client", "job", "jobs", "map", "submit"]

MOST_INPUTS = 100_000
_TOKENS = ("CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN")


def map(  # noqa: A001, PLR0913 - what a task may use, each with a default that fits
    function: Callable[[Any], Any] | None = None,
    inputs: Iterable[Any] = (),
    *,
    command: str | Sequence[str] | None = None,
    outputs: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    shell: bool = False,
    name: str | None = None,
    labels: Iterable[str] | None = None,
    cpus: int = 1,
    memory: str | int = "1 GiB",
    gpus: int = 0,
    time: str | float | timedelta | None = None,
    chunk: int | None = None,
    engine: str | None = None,
    retries: int = 1,
    after: Job | str | Iterable[Job | str] | None = None,
    team: str | None = None,
    notify: bool | None = None,
) -> Job:
    """Run a function, or a program that is no Python, over many inputs as a job; returns at once.

    The function and its inputs are sent to tasks with the same packages, volumes and home as this session,
    so use names of files rather than large arrays. The job goes on when this notebook is closed.

    A program is given as ``command``: ``cupola.map(command="gdal_translate {input} {output}", inputs=files,
    outputs="{stem}.png")``. In it and in `outputs` may stand ``{input}``, the parts of its name ``{name}``
    (``scene.tif``), ``{stem}`` (``scene``) and ``{parent}`` (its folder), and its ``{number}``, counted from 0.
    Each word is one argument, whatever a file is called. The output gets its name when the program has ended with
    exit code 0; one that is there already is kept, and the program not run again. The result is the output's path.

    Parameters
    ----------
    function
        Takes one input; its result is kept per input. Functions of this notebook and of your own files travel
        as they are now.
    inputs
        At most 100,000.
    command
        A program and its arguments, as a text or a list, instead of a function.
    outputs
        For a command: the pattern of the outputs' names, such as ``"{stem}.tif"``.
    folder
        For a command: where the outputs go. The present folder where nothing is said; with no `outputs` they are
        called as the inputs are.
    shell
        Whether the command is one for the shell, with pipes and ``>``. Placeholders are quoted for you.
    name
        For people; the function's name where nothing is said.
    labels
        A short text per input for the panel; made from the input where nothing is said.
    cpus
        Cores per task.
    memory
        Per task, such as ``"2 GiB"`` or a number of MiB. A task that uses more is ended.
    gpus
        GPUs per task.
    time
        The longest that a task may run: ``"30 min"``, ``"2 h"``, a number of seconds or a timedelta; as long as it
        needs where nothing is said.
    chunk
        Inputs per task; chosen for you where nothing is said.
    engine
        Which batch engine runs it; the platform's default one where nothing is said.
    retries
        How often an input is tried again whose process was killed.
    after
        Jobs that must be done first: a job, its id or its name, or a list of them.
    team
        The team that it counts for; you where nothing is said.
    notify
        Whether to tell you its end by mail or webhook; as you have set it where nothing is said.

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
    NotFoundError
        There is no such job to wait for.
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    values = _values(inputs)
    texts = [label(value) for value in values] if labels is None else [label(str(text)) for text in labels]
    if command is not None:
        if function is not None:
            raise InputError("Give a function or a command, not both: cupola.map(command=..., inputs=...).")
        function, values = plan_command(command, values, outputs=outputs, folder=folder, shell=shell)
        source = function.text
    elif outputs is not None or folder is not None or shell:
        raise InputError("outputs, folder and shell are for a command: cupola.map(command=..., inputs=...).")
    elif function is None:
        raise InputError(
            "Say what to run: cupola.map(function, inputs) or cupola.map(command=..., inputs=...)."
        )
    else:
        source = source_of(function)
    return submit(
        name or getattr(function, "__name__", "map").replace("<lambda>", "map"),
        function,
        values,
        labels=texts,
        source=source,
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        time=time,
        chunk=chunk,
        engine=engine,
        retries=retries,
        after=after,
        team=team,
        notify=notify,
    )


def submit(  # noqa: PLR0913 - what a job is made of
    name: str,
    function: Callable[[Any], Any],
    inputs: Sequence[Any],
    *,
    labels: Sequence[str],
    source: str,
    products: Path | None = None,
    version: str | None = None,
    **options: Unpack[Options],
) -> Job:
    """Start a job whose labels, source and products are known; `map` is this for everyday use.

    Parameters
    ----------
    name, function, inputs
        As for `map`.
    labels
        A short text per input.
    source
        Text of the function, for provenance.
    products
        The folder that the tasks write products into.
    version
        Digest of the datalab version that runs the tasks, where it is another than this session's.
    **options
        As for `map`: ``cpus``, ``memory``, ``gpus``, ``time``, ``chunk``, ``engine``, ``retries``, ``after``,
        ``team`` and ``notify``.

    Raises
    ------
    InputError
        An argument is wrong, or the function or an input cannot be sent.
    LimitError
        The tasks ask for more than there is.
    NotFoundError
        There is no such job to wait for.
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
    portal = client()
    session = os.environ.get("CUPOLA_SESSION") or None
    wanted = request(
        name=str(name).strip()[:100],
        labels=[label(text) for text in labels],
        source=source,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        session=session,
        version=version,
        # Tasks of a session run in its own version.
        packages={} if session else packages_of(function),
        products=products,
        # All else is looked at before a large payload is made.
        payload=b"",
        **asked(options, find=lambda known: job(known).id),
    )
    payload = pack(function, inputs)
    return Job(portal.submit(wanted.model_copy(update={"payload": payload})), portal)


def jobs() -> Jobs:
    """Return your jobs, the newest first, as a list that shows as a table; ``cupola.jobs()["ndvi"]`` is one of them.

    Raises
    ------
    NotSignedInError
        This is no session.
    UnavailableError
        The portal does not answer.
    """
    return Jobs(client())


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
    portal = client()
    if re.fullmatch(r"job-[0-9a-f]+", name):
        return Job(portal.job(name), portal)
    return Jobs(portal)[name]


def client() -> Client:
    """Return the client for this session's portal; one for all jobs, as each has a thread.

    Raises
    ------
    NotSignedInError
        This is no session, and the environment names no platform.
    UnavailableError
        This is a task.
    """
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
