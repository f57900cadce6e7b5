"""What a job asked for against what its tasks used, with a sentence that helps the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from cupola.models.job import Job, TaskGrid

__all__ = ["JobResources"]


@dataclass(frozen=True)
class JobResources:
    """What each task asked for, and what they have used so far."""

    cpus: int
    memory_mib: int
    gpus: int
    time_s: int | None
    cores_used: float | None
    """Cores that an ended task kept busy on average, where it is known."""
    peak_memory_mib: int | None
    """The largest that a task has grown, where it is known."""
    seconds_per_task: float | None
    """Mean of the tasks that have ended, where it is known."""
    core_hours: float
    """Cores asked for times hours of the clock, of all tasks."""
    hints: tuple[str, ...]
    """What to ask for next time, a sentence each."""

    @classmethod
    def of(cls, job: Job, grid: TaskGrid) -> JobResources:
        """Return those of a job.

        Parameters
        ----------
        job, grid
            As the portal tells them.
        """
        return cls(
            cpus=job.cpus,
            memory_mib=job.memory_mib,
            gpus=job.gpus,
            time_s=job.time_s,
            cores_used=grid.cores_used,
            peak_memory_mib=job.peak_memory_mib,
            seconds_per_task=grid.seconds_per_task,
            core_hours=job.core_hours,
            hints=tuple(grid.hints),
        )

    @override
    def __repr__(self) -> str:
        used = "not known yet" if self.cores_used is None else f"{self.cores_used:.1f}"
        peak = "not known yet" if self.peak_memory_mib is None else f"at most {self.peak_memory_mib:,} MiB"
        lines = [
            f"cores    {self.cpus} a task, used: {used}",
            f"memory   {self.memory_mib:,} MiB a task, used: {peak}",
        ]
        if self.gpus:
            lines.append(f"GPUs     {self.gpus} a task")
        if self.time_s or self.seconds_per_task:
            most = f"at most {self.time_s:,} s a task" if self.time_s else "as long as it needs"
            mean = f"{self.seconds_per_task:.3g} s on average" if self.seconds_per_task else "not known yet"
            lines.append(f"time     {most}, used: {mean}")
        return "\n".join([*lines, f"in all   {self.core_hours:.3g} core-hours", *self.hints])
