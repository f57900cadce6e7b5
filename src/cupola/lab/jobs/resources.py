"""What a job asked for against what its tasks used, with a sentence that helps the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from cupola.models.job import Job

__all__ = ["JobResources"]

TIGHT, LOOSE = 0.9, 0.5
"""Parts of the memory asked for above and below which a hint is given."""
SPARE = 1.4
"""What is advised over the largest a task has grown: inputs differ."""
SMALLEST_MIB = 128
"""Less is not advised: Python itself needs some."""


@dataclass(frozen=True)
class JobResources:
    """What each task asked for, and what the job has used so far."""

    cpus: int
    memory_mib: int
    gpus: int
    time_s: int | None
    peak_memory_mib: int | None
    """The largest that a task has grown; nothing while it is not known."""
    core_hours: float
    """Cores asked for times hours of the clock, of all tasks."""

    @classmethod
    def of(cls, job: Job) -> JobResources:
        """Return those of a job."""
        return cls(**{name: getattr(job, name) for name in cls.__dataclass_fields__})

    @property
    def hint(self) -> str | None:
        """A sentence on what to ask for the next time, where something is to be said."""
        peak, asked = self.peak_memory_mib, self.memory_mib
        if not peak:
            return None
        advised = max(SMALLEST_MIB, -(-round(peak * SPARE) // 64) * 64)
        used = f"A task used up to {peak:,} of the {asked:,} MiB asked for"
        if peak >= TIGHT * asked:
            return f"{used}, which is tight: memory='{advised} MiB' would be on the safe side."
        if peak < LOOSE * asked and advised < asked:
            return f"{used}: memory='{advised} MiB' would do, and more tasks could run at a time."
        return None

    @override
    def __repr__(self) -> str:
        asked = [f"{self.cpus} {'core' if self.cpus == 1 else 'cores'}", f"{self.memory_mib:,} MiB of memory"]
        asked += [f"{self.gpus} GPUs"] if self.gpus else []
        asked += [f"at most {self.time_s:,} s"] if self.time_s else []
        peak = "not known yet" if self.peak_memory_mib is None else f"{self.peak_memory_mib:,} MiB"
        text = f"Asked for each task: {', '.join(asked)}.\nUsed: {self.core_hours:.3g} core-hours in all, memory up to {peak}."
        return f"{text}\n{self.hint}" if self.hint else text
