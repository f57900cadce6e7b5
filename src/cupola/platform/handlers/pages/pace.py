"""How fast a job goes and how long it will still take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cupola.models.base import now
from cupola.models.job import Job, JobState

__all__ = ["Pace"]

_ENOUGH = 3
"""Inputs that must be done before their time says something about the others."""


@dataclass(frozen=True)
class Pace:
    """What one wants to know while waiting."""

    taken: timedelta | None
    """Since the first task began, or until the job ended; nothing: it did not begin."""
    per_minute: float | None
    """Inputs settled per minute; nothing: too early to tell."""
    left: timedelta | None
    """Time until the end at this pace; nothing: nobody can tell."""

    @classmethod
    def of(cls, job: Job, lately: float | None = None) -> Pace:
        """Work it out from a job's times and counts.

        Parameters
        ----------
        job
            The job.
        lately
            Inputs settled per minute of late, where the portal has watched long enough; else the mean serves.
        """
        if job.started is None:
            return cls(None, None, None)
        taken = max((job.ended or now()) - job.started, timedelta(0))
        settled = job.counts.done + job.counts.failed
        if lately and job.state is JobState.RUNNING:
            return cls(taken, lately, timedelta(minutes=(job.counts.inputs - settled) / lately))
        # After a retry the counts hold results of an earlier attempt, and `started` may be long ago.
        if job.attempt > 1 or settled < _ENOUGH or taken <= timedelta(0):
            return cls(taken, None, None)
        per_second = settled / taken.total_seconds()
        left = None
        if job.state is JobState.RUNNING:
            left = timedelta(seconds=(job.counts.inputs - settled) / per_second)
        return cls(taken, per_second * 60, left)
