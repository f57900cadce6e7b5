"""Batch engines, as people choose among them."""

from __future__ import annotations

from cupola.models.base import Model, Slug, Time

__all__ = ["EngineInfo", "engine_title"]

_TITLES = {"local": "This platform", "htcondor": "HTCondor", "slurm": "Slurm"}


def engine_title(name: str) -> str:
    """Return what people call an engine."""
    return _TITLES.get(name, name)


class EngineInfo(Model):
    """One batch engine, and what it has."""

    name: Slug
    """What a job says: ``engine="htcondor"``."""
    title: str
    default: bool = False
    """Whether it runs the jobs that name none."""
    answers: bool
    problem: str | None = None
    """Why it does not answer, in a sentence."""
    cores: int | None = None
    """How many there are, busy or not; this and what follows is what it said last, and nothing where it never answered."""
    free_cores: int | None = None
    """How many of them nobody uses now, where that is known."""
    task_cores: int | None = None
    """Most cores that one task can have."""
    task_memory_mib: int | None = None
    """Most memory that one task can have."""
    task_gpus: int | None = None
    """Most GPUs that one task can have."""
    seen: Time | None = None
    """When it said so."""

    @property
    def summary(self) -> str:
        """What it has, or why that is not known, in a sentence."""
        if not self.answers:
            return self.problem or f"{self.title} does not answer."
        cores = f"{self.cores:,} {'core' if self.cores == 1 else 'cores'}"
        free = "" if self.free_cores is None else f", {self.free_cores:,} of them free"
        if not self.cores:
            return "It answers and has no machine now: jobs wait until one comes."
        most = [f"{self.task_cores} {'core' if self.task_cores == 1 else 'cores'}"]
        if self.task_memory_mib:
            most.append(f"{self.task_memory_mib / 1024:,.1f} GiB")
        if self.task_gpus:
            most.append(f"{self.task_gpus} {'GPU' if self.task_gpus == 1 else 'GPUs'}")
        last = f" and {most.pop()}" if len(most) > 1 else ""
        return f"{cores}{free}; a task gets at most {', '.join(most)}{last}."
