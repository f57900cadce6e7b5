"""Run one task of a job, that is a chunk of its inputs: ``python -m cupola.lab.task FOLDER K``.

A scheduler counts what it was given from 0, so ``FOLDER --nth N`` names the task at that place of those that are to run.
Every engine runs this, on whichever node. Each input leaves one file, written under another name and
renamed, so that it is whole or absent however the process ends; an input that has one is not computed again.

Only the standard library is loaded before the user's own function, and of it only what is needed (no pathlib): a task must start
quickly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import resource
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cupola.lab.jobs.failure import Failure, describe, remember_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Exit", "Payload", "Plan", "load_payload", "main", "run_task", "write_failure"]


class Exit:
    """How a task's process ends."""

    DONE = 0
    FAILED = 1
    """All inputs were tried; at least one failed."""
    DISK_FULL = 74
    """Not even a failure could be written."""


class Plan(NamedTuple):
    """``job.json`` as `cupola.models.job.TaskPlan` describes it, without the cost of loading pydantic."""

    tag: str
    inputs: int
    chunk: int
    tasks: int
    cpus: int
    memory_mib: int
    retries: int
    at_once: int
    only: tuple[int, ...] | None
    attempt: int
    ranges: tuple[tuple[int, int], ...] | None = None
    budget_s: int | None = None

    @classmethod
    def read(cls, folder: Path | str) -> Plan:
        """Read the plan of the job in `folder`."""
        with open(f"{folder}/job.json", "rb") as file:
            said = json.load(file)
        numbers = ("inputs", "chunk", "tasks", "cpus", "memory_mib", "retries", "at_once", "attempt")
        only, ranges = said.get("only"), said.get("ranges")
        return cls(
            tag=said["tag"],
            only=None if only is None else tuple(only),
            ranges=None if ranges is None else tuple((start, stop) for start, stop in ranges),
            budget_s=said.get("budget_s"),
            **{name: int(said[name]) for name in numbers},
        )

    def task_inputs(self, task: int) -> range:
        """Return the numbers of the inputs that `task` computes."""
        if self.ranges is not None:
            return range(*self.ranges[task])
        return range(task * self.chunk, min((task + 1) * self.chunk, self.inputs))


class Payload(NamedTuple):
    """The user's function and inputs, or the reason why they could not be loaded."""

    function: Callable[[Any], Any] | None = None
    inputs: Any = ()
    broken: Failure | None = None


class DiskFullError(Exception):
    """A file could not be written because no space is left."""


def load_payload(folder: Path | str) -> Payload:
    """Load ``payload.pkl``: first where the function comes from, then the function and its inputs.

    Nothing is raised for what is wrong with the payload: each input will say it.
    """
    try:
        with open(f"{folder}/payload.pkl", "rb") as file:
            place = pickle.load(file)  # noqa: S301 - the owner's own pickle, run as the owner
            _go_to(place)
            function, inputs = pickle.load(file)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - unpickling runs the user's code
        return Payload(broken=_why_not_loaded(error, locals().get("place")))
    return Payload(function, inputs)


def _go_to(place: dict[str, Any]) -> None:
    """Work where the notebook worked: its folder, its import path, the text of its cells.

    Parameters
    ----------
    place
        ``python``, ``cwd``, ``path`` and ``sources``, as `cupola.lab.jobs.packing` writes them.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if place["python"] != here:
        raise ImportError(
            f"the function was made by Python {place['python']} and the tasks run Python {here}: "
            "start the job from a session of the version that runs it"
        )
    sys.path += [entry for entry in place["path"] if entry not in sys.path]
    remember_sources(place["sources"])
    if os.path.isdir(place["cwd"]):
        os.chdir(place["cwd"])


def _why_not_loaded(error: Exception, place: object) -> Failure:
    if isinstance(error, ModuleNotFoundError):
        message = (
            f"The function needs the module {error.name!r}, which the environment of the tasks does not have: "
            "install it in the session (pip install) and retry."
        )
        return Failure("ModuleNotFoundError", message)
    if isinstance(error, ImportError) and isinstance(place, dict) and "python" in place:
        return Failure("ImportError", f"The function could not be loaded: {error}.")
    told = describe(error)
    return Failure(
        told.error,
        f"The function or its inputs could not be loaded: {told.message}",
        told.line,
        told.traceback,
    )


def run_task(
    folder: Path | str, plan: Plan, task: int, payload: Payload, computed: list[int] | None = None
) -> int:
    """Compute the inputs of `task` that have neither a result nor a failure.

    Parameters
    ----------
    folder, plan, task, payload
        The job's, and which of its tasks.
    computed
        Gets the numbers of the inputs that were computed.

    Returns
    -------
    int
        One of `Exit`.
    """
    results = os.path.join(folder, "results")
    code = Exit.DONE
    computed = [] if computed is None else computed
    begun = time.monotonic()
    for number in plan.task_inputs(task):
        if computed and plan.budget_s is not None and time.monotonic() - begun > plan.budget_s:
            break  # the platform cuts what is left anew
        target = f"{results}/{number}.pkl"
        if _is_whole(target):
            continue
        if os.path.exists(f"{results}/{number}.error"):
            code = Exit.FAILED
            continue
        failure = _compute(payload, number, target)
        computed.append(number)
        if failure is None:
            continue
        code = Exit.FAILED
        try:
            write_failure(folder, failure, number=number, task=task)
        except DiskFullError:
            return Exit.DISK_FULL
    return code


def _is_whole(path: str) -> bool:
    """Say whether a result is there. A power cut can leave an empty file under the final name."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def _compute(payload: Payload, number: int, target: str) -> Failure | None:
    """Run the function on one input and keep its result; return the failure where there is one."""
    if payload.broken is not None:
        return payload.broken
    assert payload.function is not None  # noqa: S101 - a payload has the one or the other
    process = os.getpid()
    try:
        value = payload.function(payload.inputs[number])
    except KeyboardInterrupt:
        raise  # somebody ends the task, not the input
    except BaseException as error:  # noqa: BLE001 - SystemExit of the user's is a failure of this input too
        _end_if_copied(process)
        return describe(error)
    _end_if_copied(process)
    return _keep(value, target)


def _end_if_copied(process: int) -> None:
    """End a process that the user's function forked and forgot: it must not go on with our inputs."""
    if os.getpid() != process:
        os._exit(0)


def _keep(value: Any, target: str) -> Failure | None:
    """Write a result; return the failure where it cannot be pickled or the disk is full."""
    try:
        data = _pickled(value)
    except Exception as error:  # noqa: BLE001 - the user's own __reduce__ may raise anything
        told = describe(error)
        message = (
            f"The result is a {type(value).__qualname__}, which cannot be kept ({told.message}): "
            "return plain data, arrays or the name of a file that the function wrote."
        )
        return Failure(told.error, message, told.line, told.traceback)
    try:
        _write(target, data)
    except DiskFullError:
        return Failure(
            "DiskFull",
            f"No space is left on the disk for the result ({len(data) / 2**20:.1f} MiB): free some and retry.",
        )
    return None


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - cloudpickle knows classes of notebooks; if not it says why
        import cloudpickle

        data: bytes = cloudpickle.dumps(value, protocol=5)
        return data


def _write(target: str, data: bytes) -> None:
    """Write a file whole or not at all."""
    partial = f"{target}.{os.getpid()}.part"
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:] if written else data)
        finally:
            os.close(file)
        os.rename(partial, target)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise DiskFullError from error


def write_failure(folder: Path | str, failure: Failure, *, number: int, task: int) -> None:
    """Write ``results/N.error``, a `cupola.models.job.TaskFailure`.

    Raises
    ------
    DiskFullError
        No space is left.
    """
    said = {"input": number, "label": _label(folder, number), **failure.as_dict(), "task": task}
    # Text of a broken encoding (a file name, say) must not cost the user the whole failure.
    data = json.dumps(said, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    _write(f"{folder}/results/{number}.error", data)


def _label(folder: Path | str, number: int) -> str:
    try:
        return _labels(folder)[number]
    except (OSError, ValueError, IndexError):
        return str(number)


@lru_cache(maxsize=1)
def _labels(folder: Path | str) -> list[str]:
    """Read all labels once: ten thousand failures must not read them ten thousand times."""
    with open(f"{folder}/labels.json", "rb") as file:
        return [str(label) for label in json.load(file)]


def main(arguments: list[str]) -> int:
    """Run the task that the command line names, with its output in ``log/K.out``.

    Parameters
    ----------
    arguments
        The job's folder and the number of the task, or its place among those that are to run.
    """
    match arguments:
        case [where, number] if number.isdigit():
            place = False
        case [where, "--nth", number] if number.isdigit():
            place = True
        case _:
            sys.stderr.write("Say which task to run: python -m cupola.lab.task FOLDER NUMBER\n")
            return 2
    folder, task = os.path.realpath(where), int(number)
    plan = Plan.read(folder)
    if place and plan.only is not None:
        task = plan.only[task]
    redirect_output(folder, task)
    computed: list[int] = []
    begun = time.monotonic()
    try:
        return run_task(folder, plan, task, load_payload(folder), computed)
    finally:
        _tell_usage(folder, plan, task, inputs=len(computed), seconds=time.monotonic() - begun)


def _tell_usage(folder: Path | str, plan: Plan, task: int, *, inputs: int, seconds: float) -> None:
    """Write ``usage/K-ATTEMPT.json``, a `cupola.models.job.TaskUsage`; a full disk is no reason to fail."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    said = {
        "attempt": plan.attempt,
        "host": os.uname().nodename,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "peak_memory_mib": max(own.ru_maxrss, children.ru_maxrss) // 1024,
        "inputs": inputs,
    }
    with contextlib.suppress(OSError, DiskFullError):
        _write(f"{folder}/usage/{task}-{plan.attempt}.json", json.dumps(said).encode())


def redirect_output(folder: Path | str, task: int) -> None:
    """Send what the task prints, and what its programs print, to ``log/K.out``; give it no input."""
    log = os.open(f"{folder}/log/{task}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, number)
    for opened in (log, nothing):
        os.close(opened)
    # Line by line: a log that shows up only at the end helps nobody.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking the interpreter apart in good order takes a tenth of what starting it does, and nobody needs it.
    os._exit(code)
