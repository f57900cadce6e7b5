"""From an array to what ``sbatch`` is given: pure, so that its tests are golden files."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cupola.platform.storage.engine import Array

__all__ = ["Part", "Person", "name_of", "parts", "script", "words"]


@dataclass(frozen=True)
class Part:
    """Some of an array's tasks, as many as Slurm takes in one array."""

    start: int
    """Place of its first task."""
    tasks: int


@dataclass(frozen=True)
class Person:
    """A system account."""

    user: int
    group: int


def name_of(array: Array) -> str:
    """Return the name under which Slurm knows this submit of a job."""
    return f"cupola-{array.tag}-{array.attempt}"


def parts(array: Array, *, most: int) -> Iterator[Part]:
    """Cut an array into arrays of at most `most` tasks."""
    tasks = len(array.numbers)
    for start in range(0, tasks, most):
        yield Part(start, min(most, tasks - start))


def words(
    array: Array,
    part: Part,
    *,
    account: str | None = None,
    person: Person | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the command line of ``sbatch``; the script comes with `script` on its input.

    Parameters
    ----------
    array
        What is to run. Its folder and interpreter are on storage that every node sees.
    part
        Which of its tasks.
    account
        The account of jobs that count for no team; where there is none, no account is named.
    person
        The system account that tasks run as, where it is not that of the platform: only root may ask for that.
    extra
        What the administrator adds, such as ``--partition=short``.
    """
    return [
        "sbatch",
        "--parsable",
        f"--array=0-{part.tasks - 1}%{array.at_once}",
        # Lost nodes only: Slurm runs nothing again that ended by itself.
        "--requeue",
        "--open-mode=append",
        # The commands of Slurm are run with next to nothing in their environment. NONE would load the account's login shell.
        "--export=ALL",
        f"--chdir={array.folder}",
        f"--cpus-per-task={array.cpus}",
        f"--mem={array.memory_mib}",
        *([f"--gres=gpu:{array.gpus}"] if array.gpus else []),
        *([f"--time={_minutes(array.time_s)}"] if array.time_s is not None else []),
        f"--job-name={name_of(array)}",
        f"--comment=Cupola job of {array.owner}",
        f"--output={_literal(str(array.folder))}/log/slurm.out",
        *([f"--account={array.team or account}"] if account else []),
        # Without the group it would stay the platform's.
        *([f"--uid={person.user}", f"--gid={person.group}"] if person else []),
        *extra,
    ]


def script(array: Array, part: Part) -> str:
    """Return the script of each task: its environment, and nothing of whoever submits."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in array.environment.items())
    task = shlex.join([str(array.python), "-P", "-m", "cupola.lab.task", str(array.folder), "--nth"])
    # Where Slurm is configured is no business of a task, nor how it was asked.
    return f"#!/bin/sh\nunset SLURM_CONF\n{exports}exec {task} $(({part.start} + SLURM_ARRAY_TASK_ID))\n"


def _literal(path: str) -> str:
    """Return a path in which Slurm replaces nothing."""
    return path.replace("%", "%%")


def _minutes(seconds: int) -> str:
    """Return a time as Slurm counts it: in whole minutes, upwards."""
    return str(-(-seconds // 60))
