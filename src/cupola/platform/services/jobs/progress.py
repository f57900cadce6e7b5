"""What a job's folder tells about its progress, read anew and cheaply: one look costs two calls when all is quiet."""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING

from cupola.models.base import now
from cupola.models.job import JobCounts, TaskEvent, TaskGrid, TaskPlan, TaskState
from cupola.platform.services.jobs.failures import Failures
from cupola.platform.services.jobs.rate import Rate
from cupola.platform.storage.files.jobs import EventReader, JobFolder, Settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.models.base import Time

__all__ = ["Progress"]

CLOCK_STEP_NS = 50_000_000
"""File times move in steps of some milliseconds: a newer one does not prove that nothing came after it."""


class Progress:
    """One job's progress. The methods read files: call `look` in a thread.

    Parameters
    ----------
    folder
        The job's folder.
    plan
        What its tasks are.
    """

    def __init__(self, folder: JobFolder, plan: TaskPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.tasks = [TaskState.QUEUED] * plan.tasks
        self.settled = Settled(set(), set())
        self.started: Time | None = None
        """When the first task started."""
        self.end: TaskEvent | None = None
        """The end of the present submit, once it was told."""
        self.stopped = False
        """Whether the native job was asked to end before its end, as the platform's stop does."""
        self.peak_memory_mib: int | None = None
        self.core_hours = 0.0
        """What tasks have used that have ended."""
        self._reader = EventReader(folder)
        self._begun: dict[int, Time] = {}
        self._results_changed: int | None = None
        self._usage_changed: int | None = None
        self._usages: set[str] = set()
        self._task_seconds = 0.0
        self.ended_tasks = self._computed = 0
        self._cpu_seconds = self._measured_seconds = 0.0
        self.rate = Rate()
        self.failures = Failures(folder)

    @property
    def unsettled(self) -> list[int]:
        """The inputs that have neither a result nor a failure."""
        known = self.settled.done | self.settled.failed
        return [number for number in range(self.plan.inputs) if number not in known]

    @property
    def all_settled(self) -> bool:
        """Whether each input has a result or a failure."""
        return len(self.settled.done) + len(self.settled.failed) >= self.plan.inputs

    @property
    def seconds_per_input(self) -> float | None:
        """Mean of what has been computed, where it is known."""
        return self._task_seconds / self._computed if self._computed else None

    @property
    def seconds_per_task(self) -> float | None:
        """Mean of the tasks that have ended."""
        return self._task_seconds / self.ended_tasks if self.ended_tasks else None

    @property
    def cores_used(self) -> float | None:
        """Cores that an ended task kept busy on average, where the engine tells."""
        return round(self._cpu_seconds / self._measured_seconds, 2) if self._measured_seconds else None

    @property
    def core_hours_so_far(self) -> float:
        """What tasks have used, with those that run."""
        moment = now()
        running = sum(_seconds(begun, moment) for begun in self._begun.values())
        return self.core_hours + running * self.plan.cpus / 3600

    def again(self, plan: TaskPlan) -> None:
        """Expect another submit: the end of the one before counts no more."""
        self.tasks += [TaskState.QUEUED] * (plan.tasks - len(self.tasks))
        self.plan = plan
        self.end = None
        self._begun.clear()
        self._results_changed = None

    def look(self) -> None:
        """Bring everything up to date."""
        # Events first: a task is told as ended only after its results are there.
        for event in self._reader.news():
            self._take(event)
        changed = self.folder.changed("results")
        if changed != self._results_changed or self.end is not None:
            self.settled = self.folder.settled()
            self._results_changed = _if_quiet(changed)
        changed = self.folder.changed("usage")
        if changed != self._usage_changed:
            for name, usage in self.folder.usages(self._usages):
                self._usages.add(name)
                self._count(usage.seconds, inputs=usage.inputs, cpu_seconds=usage.cpu_seconds)
                self.peak_memory_mib = max(self.peak_memory_mib or 0, usage.peak_memory_mib)
            self._usage_changed = _if_quiet(changed)
        self.rate.take(len(self.settled.done) + len(self.settled.failed))

    def told(self, states: Mapping[int, TaskState]) -> None:
        """Take what a scheduler knows of tasks that nobody else tells of; what came of ended ones the folder tells."""
        for task, state in states.items():
            # One that has left the queue with inputs untold was lost, or gives them back.
            untold = TaskState.LOST if state is TaskState.DONE else state
            self.tasks[task] = self._outcome(task) or untold
            if state is TaskState.RUNNING:
                self._begun.setdefault(task, now())
            else:
                # What it used it tells itself.
                self._begun.pop(task, None)
        if self.started is None and TaskState.RUNNING in self.tasks:
            self.started = now()

    def counts(self) -> JobCounts:
        """Return how many inputs are where."""
        known = self.settled.done | self.settled.failed
        running = (task for task, state in enumerate(self.tasks) if state is TaskState.RUNNING)
        return JobCounts(
            inputs=self.plan.inputs,
            done=len(self.settled.done),
            failed=len(self.settled.failed),
            running=sum(number not in known for task in running for number in self.plan.task_inputs(task)),
        )

    def grid(self, *, active: bool) -> TaskGrid:
        """Return the state of each task; what waits in a job that has ended will not run."""
        over = {TaskState.QUEUED, TaskState.RUNNING, TaskState.LOST}
        states = self.tasks
        if not active:
            # What nobody told of at the end its inputs tell.
            states = [
                self._outcome(task) or TaskState.CANCELLED if state in over else state
                for task, state in enumerate(states)
            ]
        runs = [(state, len(list(same))) for state, same in groupby(states)]
        return TaskGrid(tasks=len(states), runs=runs, seconds_per_task=self.seconds_per_task)

    def _outcome(self, task: int) -> TaskState | None:
        """Return what came of a task whose inputs all have an outcome."""
        failed = False
        for number in self.plan.task_inputs(task):
            if number in self.settled.failed:
                failed = True
            elif number not in self.settled.done:
                return None
        return TaskState.FAILED if failed else TaskState.DONE

    def _count(self, seconds: float, *, inputs: int, cpu_seconds: float | None) -> None:
        """Count what a task has used."""
        self._task_seconds += seconds
        self.ended_tasks += 1
        if cpu_seconds is not None:
            self._cpu_seconds += cpu_seconds
            self._measured_seconds += seconds
        self._computed += inputs
        self.core_hours += seconds * self.plan.cpus / 3600

    def _take(self, event: TaskEvent) -> None:
        if event.peak_memory_mib is not None:
            self.peak_memory_mib = max(self.peak_memory_mib or 0, event.peak_memory_mib)
        if event.task < 0:
            self._take_whole(event)
        elif event.state is TaskState.HELD:
            # It is frozen and its cores are with others; it goes on as running.
            if (begun := self._begun.pop(event.task, None)) is not None:
                self.core_hours += _seconds(begun, event.time) * self.plan.cpus / 3600
        elif event.task < len(self.tasks):
            self.tasks[event.task] = event.state
            self.started = self.started or event.time
            if event.state is TaskState.RUNNING:
                self._begun[event.task] = event.time
            elif (begun := self._begun.pop(event.task, None)) is not None:
                inputs = len(self.plan.task_inputs(event.task))
                self._count(_seconds(begun, event.time), inputs=inputs, cpu_seconds=event.cpu_seconds)

    def _take_whole(self, event: TaskEvent) -> None:
        """Take an event of the whole job."""
        if event.state is TaskState.RUNNING:
            # What an ended supervisor left unfinished waits again.
            self.tasks = [s if s is TaskState.DONE else TaskState.QUEUED for s in self.tasks]
            self._begun.clear()
            self.end = None
            self.stopped = False
        elif event.state is TaskState.LOST:
            self.stopped = True
        elif event.attempt == self.plan.attempt:
            self.end = event


def _seconds(begun: Time, ended: Time) -> float:
    return max(0.0, (ended - begun).total_seconds())


def _if_quiet(changed: int) -> int | None:
    """Return the time of a change, or nothing where it is so young that another one could have the same."""
    return changed if time.time_ns() - changed > CLOCK_STEP_NS else None
