"""What a batch engine can do: an array of tasks on somebody's scheduler.

The tasks of every engine run ``python -m cupola.lab.task FOLDER K`` and write their results into the job's
folder. An engine never looks at results; it only starts, controls and tells what lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from cupola.models.base import now
from cupola.models.engine import EngineInfo, engine_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cupola.models.job import TaskState
    from cupola.models.session import ContainerPlan

__all__ = ["Array", "Capacity", "Control", "Engine", "Loss", "info_of", "look_at"]


class Control(StrEnum):
    """What an owner wants of a job; the file ``control`` in its folder holds it too."""

    RUN = "run"
    HOLD = "hold"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Array:
    """One array of tasks, as an engine needs to know it."""

    tag: str
    """The job's id; the native job carries it too."""
    folder: Path
    """The job's folder, which every node sees."""
    python: Path
    """The interpreter that runs the tasks."""
    tasks: int
    """How many tasks the job has in all."""
    only: tuple[int, ...] | None = None
    """The tasks to run, where not all of them are to run."""
    attempt: int = 1
    """Counts the submits of the job: an older one may still be found at the scheduler."""
    owner: str = ""
    retries: int = 1
    """How often a task whose process was killed is run again."""
    cpus: int = 1
    """Per task."""
    memory_mib: int = 1024
    """Per task."""
    gpus: int = 0
    """Per task."""
    time_s: int | None = None
    """Longest that a task may run."""
    team: str | None = None
    """Whose share it counts against, beside its owner's."""
    at_once: int = 1
    """Most tasks in the scheduler's hands at a time."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All a task finds in its environment."""
    container: ContainerPlan | None = None
    """The container that its tasks run in, where sessions are containers."""

    @property
    def numbers(self) -> Sequence[int]:
        """The tasks to run, in the order of the scheduler's own numbers: 0 is the first of them."""
        return range(self.tasks) if self.only is None else self.only

    def place_of(self, task: int) -> int:
        """Return the scheduler's own number of a task."""
        return task if self.only is None else self.only.index(task)


@dataclass(frozen=True)
class Loss:
    """Why a task ended that was killed or removed."""

    error: str
    """``Killed``, ``OutOfMemory`` or ``TimeLimit``."""
    message: str
    """In a sentence."""
    again: bool = False
    """Whether it may go well at another try, and the scheduler has not tried itself."""


@dataclass(frozen=True)
class Capacity:
    """What an engine has to give."""

    cores: int
    memory_mib: int
    """Most that one task can get."""
    widest: int = 0
    """Most cores that one task can get; 0 where that is all of them."""
    free_cores: int | None = None
    """Cores that nobody uses now; nothing where that is not known."""
    gpus: int = 0
    """Most GPUs that one task can get."""


class Engine(Protocol):
    """One scheduler. The methods may wait for it, so services call them in a thread.

    All raise `cupola.exceptions.UnavailableError` where the scheduler does not answer.
    """

    supervised: ClassVar[bool]
    """Whether a process of ours stays with the array and tells in ``events.jsonl`` what its tasks do, and its end. Where there is
    none, `poll` tells what lives and the job's folder what came of it."""

    def capacity(self) -> Capacity:
        """Return what there is, busy or not."""

    def submit(self, array: Array) -> str:
        """Start an array and return the native id."""

    def find(self, array: Array) -> str | None:
        """Return the native id of an array that runs, for a row that does not know it."""

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Ask for many arrays (with their native ids) in one call.

        Returns
        -------
        dict
            By tag, for each array that the scheduler still has: the states of tasks that only the scheduler
            knows; one that has left the queue is done. An array that is missing here has ended, or was lost.
        """

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return why tasks ended that were killed or removed, by task, as far as the scheduler still knows it."""

    def ahead(self, array: Array, native: str) -> int | None:
        """Return how many tasks of others wait before this array's first; nothing where that is not known."""

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Bring the native job to what its owner wants; one that has ended is no error."""

    def throttle(self, array: Array, native: str, at_once: int) -> None:
        """Let at most `at_once` tasks of a native job run at a time; those that run beyond that are let end.

        It is at least 1, except for an engine with a supervisor, which starts none at 0.
        """

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed; empty where it printed nothing yet."""

    def last_words(self, array: Array) -> str:
        """Return what the scheduler's side said last, for a job that ended without an end."""


def look_at(engine: Engine) -> Capacity:
    """Return what an engine has, once it has shown that it knows its queue: who tells of machines may be another daemon.

    Raises
    ------
    UnavailableError
        The scheduler does not answer.
    """
    if not engine.supervised:
        engine.find(Array(tag="job-none", folder=Path(), python=Path(), tasks=1))
    return engine.capacity()


def info_of(name: str, capacity: Capacity, *, default: bool = False) -> EngineInfo:
    """Return what people are told of an engine that has answered."""
    return EngineInfo(
        name=name,
        title=engine_title(name),
        default=default,
        answers=True,
        cores=capacity.cores,
        free_cores=capacity.free_cores,
        task_cores=capacity.widest or capacity.cores,
        task_memory_mib=capacity.memory_mib,
        task_gpus=capacity.gpus,
        seen=now(),
    )
