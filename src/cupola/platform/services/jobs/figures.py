"""What people want to know of a job beyond its counts: time left, hints, the inputs of a task; all of it cheap.

The panel in a notebook and the page of a job ask every second, so nothing here reads a file twice.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from cupola.models.job import JobState, TaskInputs, TaskState
from cupola.platform.services.jobs.failures import MOST_INPUTS_TOLD
from cupola.platform.services.jobs.rate import ENOUGH

if TYPE_CHECKING:
    from cupola.models.job import Job, TaskGrid
    from cupola.platform.services.jobs.progress import Progress

__all__ = ["Kept", "figures", "hints", "inputs_of"]

_ROOM, _TIGHT, _WORTH = 1.2, 0.9, 0.75
"""Memory: what to ask for beyond the most that was used, when it is nearly too little, what change is worth a hint."""
_BUSY, _WAITS = 0.6, 0.3
_LONG_ENOUGH = 2.0
"""Seconds that a task must last on average: a shorter one mostly starts its interpreter."""


def figures(grid: TaskGrid, job: Job, progress: Progress, *, frozen: bool) -> TaskGrid:
    """Return a grid with what people want to know beside it.

    Parameters
    ----------
    grid
        The states of the tasks.
    job
        The job as it is told.
    progress
        What its folder tells.
    frozen
        Whether a job on hold has no running tasks: on some engines those that run go on to their end.
    """
    told: dict[str, object] = {"hints": hints(job, progress), "cores_used": progress.cores_used}
    if job.state is JobState.HELD:
        progress.rate.clear()
        told["runs"] = _held(grid.runs, frozen=frozen)
    if job.state is JobState.RUNNING and (rate := progress.rate.per_minute) is not None:
        left = 60 * (job.counts.inputs - job.counts.done - job.counts.failed) / rate
        told |= {"per_minute": rate, "seconds_left": float(f"{left:.2g}")}
    return grid.model_copy(update=told)


def _held(runs: list[tuple[TaskState, int]], *, frozen: bool) -> list[tuple[TaskState, int]]:
    waits = {TaskState.QUEUED, TaskState.LOST} | ({TaskState.RUNNING} if frozen else set())
    merged: list[tuple[TaskState, int]] = []
    for state, length in runs:
        shown = TaskState.HELD if state in waits else state
        if merged and merged[-1][0] is shown:
            merged[-1] = shown, merged[-1][1] + length
        else:
            merged.append((shown, length))
    return merged


def hints(job: Job, progress: Progress) -> list[str]:
    """Return what to ask for next time, a sentence each; nothing before a few tasks have ended."""
    if progress.ended_tasks < min(ENOUGH, job.tasks):
        return []
    return [hint for hint in (_memory_hint(job), _core_hint(job, progress)) if hint]


def _memory_hint(job: Job) -> str:
    peak, asked = job.peak_memory_mib, job.memory_mib
    if not peak:
        return ""
    fits = _step(peak * _ROOM)
    used = f"A task used at most {peak:,} MiB of the {asked:,} MiB asked for"
    if fits <= asked * _WORTH:
        return f'{used}: ask for memory="{fits} MiB" and more tasks may run at a time.'
    if peak >= asked * _TIGHT:
        return f'{used}: ask for memory="{fits} MiB", as one that needs a little more is ended.'
    return ""


def _step(mib: float) -> int:
    """Return the next amount that people would ask for: a power of two, or one and a half times one."""
    power = 64
    while power < mib:
        if power * 1.5 >= mib:
            return int(power * 1.5)
        power *= 2
    return power


def _core_hint(job: Job, progress: Progress) -> str:
    used = progress.cores_used
    if used is None or (progress.seconds_per_task or 0) < _LONG_ENOUGH:
        return ""
    enough = max(1, math.ceil(used))
    if enough < job.cpus and used <= job.cpus * _BUSY:
        return (
            f"A task kept {used:.1f} of its {job.cpus} cores busy: "
            f"ask for cpus={enough} and more tasks may run at a time."
        )
    if job.cpus == 1 and used <= _WAITS:
        return f"A task kept its core busy for {100 * used:.0f} % of the time: it mostly waits, for data perhaps."
    return ""


def inputs_of(progress: Progress, task: int, *, active: bool) -> TaskInputs:
    """Return what a task works on; reads the labels' file.

    Parameters
    ----------
    progress
        What the job's folder tells.
    task
        One that it has.
    active
        Whether tasks may still run.
    """
    labels = progress.folder.labels()
    numbers = progress.plan.task_inputs(task)
    told = list(numbers[:MOST_INPUTS_TOLD])
    return TaskInputs(
        task=task,
        state=progress.grid(active=active).state(task),
        count=len(numbers),
        inputs=told,
        labels=[labels[number] if number < len(labels) else str(number) for number in told],
        failed=[number for number in told if number in progress.settled.failed],
    )


class Kept:
    """The progress of jobs that have ended and are still looked at: their events are read once, not at every look.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, int], tuple[Progress, asyncio.Lock]] = OrderedDict()

    def put(self, progress: Progress) -> None:
        """Keep the progress of a job that has just ended."""
        key = progress.plan.tag, progress.plan.attempt
        self._kept[key] = progress, asyncio.Lock()
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    async def get(self, job: Job) -> Progress | None:
        """Return the progress of a job as it is now, if it is kept."""
        found = self._kept.get((job.id, job.attempt))
        if found is None:
            return None
        self._kept.move_to_end((job.id, job.attempt))
        progress, lock = found
        async with lock:
            await asyncio.to_thread(progress.look)
        return progress

    def forget(self, job: str) -> None:
        """Keep a job no more: it runs again, or is deleted."""
        for key in [key for key in self._kept if key[0] == job]:
            del self._kept[key]
