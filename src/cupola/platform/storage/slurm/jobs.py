"""Arrays on a Slurm cluster, by its own commands in their text form.

A task that is no longer in the queue has ended; what came of it the job's folder tells.
"""

from __future__ import annotations

import re
import subprocess
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from cupola.exceptions import LimitError, UnavailableError
from cupola.models.job import TaskState
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.slurm.describe import name_of, parts, script, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cupola.config import SlurmSettings

__all__ = ["Slurm"]

SECONDS = 30.0
_RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED"}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SPECIAL_EXIT"}
_GOOD = {"COMPLETED", "FAILED"}
"""Both tell in their results what came of them; `FAILED` has an input that failed."""
_ROW = "%F %K %T %r"
_WHY = {
    "OUT_OF_MEMORY": Loss(
        "OutOfMemory",
        "It used more memory than it asked for: ask for more with memory=... or give it less data at a time.",
    ),
    "TIMEOUT": Loss(
        "TimeLimit", "It ran longer than its time: ask for more with time=... or give a task fewer inputs."
    ),
    "DEADLINE": Loss("TimeLimit", "Its deadline has passed."),
    "NODE_FAIL": Loss("Killed", "Its node failed.", again=True),
    "CANCELLED": Loss("Killed", "Somebody cancelled it at Slurm."),
    "PREEMPTED": Loss("Killed", "A more urgent job took its place.", again=True),
}


class Slurm:
    """Runs arrays on a cluster.

    Parameters
    ----------
    environment
        What the commands find: ``PATH``, and ``SLURM_CONF`` where it is not the host's own.
    settings
        What the operator says.
    """

    supervised: ClassVar[bool] = False

    def __init__(self, environment: Mapping[str, str], *, settings: SlurmSettings) -> None:
        self._environment = dict(environment)
        self._settings = settings

    def capacity(self) -> Capacity:
        """Return the cores of the cluster, and what its largest node has."""
        rows = [row.split() for row in self._run("sinfo", "-h", "-N", "-o", "%N %c %m").splitlines()]
        nodes = {name: (int(cores), int(memory.rstrip("+"))) for name, cores, memory in rows}
        return Capacity(
            cores=sum(cores for cores, _ in nodes.values()),
            memory_mib=max((memory for _, memory in nodes.values()), default=0),
            widest=max((cores for cores, _ in nodes.values()), default=0),
        )

    def submit(self, array: Array) -> str:
        """Start an array; one that is longer than Slurm takes becomes several.

        Raises
        ------
        LimitError
            No node is large enough for a task.
        UnavailableError
            Slurm does not answer, or refuses.
        """
        room = self.capacity()
        if array.cpus > room.widest or array.memory_mib > room.memory_mib:
            raise LimitError(
                f"A task asks for {array.cpus} cores and {array.memory_mib:,} MiB, and the largest node of the cluster has "
                f"{room.widest} and {room.memory_mib:,}: ask for less."
            )
        made = [
            self._run(*words(array, part, extra=self._settings.options), said=script(array, part))
            .strip()
            .split(";")[0]
            for part in parts(array, most=self._longest)
        ]
        return "+".join(made)

    def find(self, array: Array) -> str | None:
        """Return the arrays of a submit whose row does not know them."""
        rows = self._run("squeue", "-h", "--states=all", f"--name={name_of(array)}", "--format=%F").split()
        return "+".join(sorted(set(rows), key=int)) or None

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the states of all tasks of the arrays that are in the queue, with one command for all."""
        queue: dict[str, dict[int, TaskState]] = {}
        for native, place, state, _ in self._rows("squeue", "-h", "--array", f"--format={_ROW}"):
            if state in _RUNNING or state in _WAITING:
                waits = TaskState.RUNNING if state in _RUNNING else TaskState.QUEUED
                queue.setdefault(native, {})[place] = waits
        return {
            array.tag: self._states(array, native, queue)
            for array, native in arrays
            if any(one in queue for one in native.split("+"))
        }

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Hold, release or cancel; one that has ended is no error. Tasks that run are not held, they are let end."""
        JobFolder(array.folder).want(wish)
        for one in native.split("+") if native else ():
            command = {
                Control.HOLD: ["scontrol", "hold", one],
                Control.RUN: ["scontrol", "release", one],
                Control.CANCEL: ["scancel", "--quiet", one],
            }[wish]
            self._run(*command, gone=True)

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed."""
        return JobFolder(array.folder).log(task)

    def last_words(self, array: Array) -> str:
        """Return nothing: `losses` tells it for each task."""
        del array
        return ""

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return why tasks ended that were killed, by task, as long as Slurm remembers them."""
        lost: dict[int, Loss] = {}
        starts = self._starts(array, native)
        rows = self._rows("squeue", "-h", "--array", "--states=all", f"--format={_ROW}")
        for one, place, state, reason in rows:
            if one in starts and state not in _RUNNING | _WAITING | _GOOD:
                unknown = Loss("Killed", f"Slurm ended it ({state}: {reason}).")
                lost[array.numbers[starts[one] + place]] = _WHY.get(state, unknown)
        return lost

    def ahead(self, array: Array, native: str) -> int | None:
        """Return nothing yet."""
        del array, native
        return None

    def _states(
        self, array: Array, native: str, queue: Mapping[str, Mapping[int, TaskState]]
    ) -> dict[int, TaskState]:
        states = dict.fromkeys(array.numbers, TaskState.DONE)
        for one, start in self._starts(array, native).items():
            for place, state in queue.get(one, {}).items():
                states[array.numbers[start + place]] = state
        return states

    def _starts(self, array: Array, native: str) -> dict[str, int]:
        """Return the place of the first task of each of its arrays."""
        begins = (part.start for part in parts(array, most=self._longest))
        return dict(zip(native.split("+"), begins, strict=False))

    def _rows(self, *command: str) -> Iterator[tuple[str, int, str, str]]:
        for row in self._run(*command).splitlines():
            native, place, state, reason = row.split(maxsplit=3)
            if place.isdigit():
                yield native, int(place), state, reason

    @cached_property
    def _longest(self) -> int:
        """The most tasks of an array: their numbers must stay below ``MaxArraySize``."""
        told = re.search(r"^MaxArraySize\s*=\s*(\d+)", self._run("scontrol", "show", "config"), re.MULTILINE)
        return int(told[1]) if told else 1001

    def _run(self, *command: str, said: str = "", gone: bool = False) -> str:
        """Run a command of Slurm and return what it printed.

        Raises
        ------
        UnavailableError
            It is not there, does not answer or refuses; with `gone`, a job that has ended is none of these.
        """
        try:
            done = subprocess.run(
                command,
                input=said,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(
                f"Slurm does not answer ({command[0]}: {error}): try again in a minute; its administrator finds the cause in "
                "slurmctld's log."
            ) from error
        if done.returncode and not (
            gone and re.search(r"[Ii]nvalid job id|already (?:completed|finished)", done.stderr)
        ):
            reason = " ".join(done.stderr.split())[:300].rstrip(".")
            raise UnavailableError(
                f"Slurm refuses to run {command[0]} ({reason}): its administrator can tell why."
            )
        return done.stdout
