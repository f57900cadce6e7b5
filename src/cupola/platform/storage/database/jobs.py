"""The table of jobs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import RowMapping, Select, delete, func, insert, or_, select, update

from cupola.exceptions import NotFoundError
from cupola.models.base import Model, Page, now
from cupola.models.job import Job, JobCounts, JobState
from cupola.models.session import ContainerPlan
from cupola.platform.storage.database.paging import cursor_after, newest_first
from cupola.platform.storage.database.tables import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.platform.storage.database.connection import Database

__all__ = ["EndListener", "JobStore", "StoredJob"]


class StoredJob(Model):
    """A job with what a submit, or a second one, needs to know beyond it."""

    job: Job
    native: str | None = None
    """The engine's own id; nothing between the row's insert and the end of the submit."""
    python: Path
    """The interpreter that runs the tasks."""
    retries: int = 1
    container: ContainerPlan | None = None
    """The container that the tasks run in, where sessions are containers."""


class EndListener(Protocol):
    """Whoever wants to know that a job has ended."""

    async def job_ended(self, connection: AsyncConnection, job: Job) -> None:
        """Write it down in the transaction in which the job's row ends: both are kept, or neither."""

    def committed(self) -> None:
        """Act on what was written down, soon and elsewhere: the job's watcher must not wait."""


class JobStore:
    """Keeps jobs in `database`.

    Parameters
    ----------
    database
        Where.
    listener
        Is told of each end, whichever way it came: seen, or found at a start.
    """

    def __init__(self, database: Database, listener: EndListener | None = None) -> None:
        self._database = database
        self._listener = listener

    async def insert(self, stored: StoredJob) -> None:
        """Keep a new job."""
        async with self._database.writing() as connection:
            await connection.execute(insert(jobs).values(**_to_row(stored)))

    async def get(self, job: str) -> StoredJob | None:
        """Return the job with this id, or nothing."""
        async with self._database.reading() as connection:
            row = (await connection.execute(_there().where(jobs.c.id == job))).mappings().first()
        return None if row is None else _from_row(row)

    async def update(self, job: str, change: Callable[[StoredJob], StoredJob]) -> StoredJob:
        """Replace a job by what `change` makes of it, in one transaction: no other write comes between.

        Raises
        ------
        NotFoundError
            If there is no such job (any more).
        """
        async with self._database.writing() as connection:
            row = (await connection.execute(_there().where(jobs.c.id == job))).mappings().first()
            if row is None:
                raise NotFoundError(f"There is no job {job!r}.")
            before = _from_row(row)
            after = change(before)
            if after != before:
                await connection.execute(update(jobs).where(jobs.c.id == job).values(**_to_row(after)))
            listener = self._listener if before.job.state.active and not after.job.state.active else None
            if listener is not None:
                await listener.job_ended(connection, after.job)
        if listener is not None:
            listener.committed()
        return after

    async def delete(self, job: str) -> None:
        """Forget a job; an unknown one is no error. Of one that has used something that alone is kept as long as it counts."""
        empty = {"name": "", "source": "", "python": "", "folder": "", "native": None, "reason": None}
        used = (jobs.c.id == job) & (jobs.c.core_hours > 0) & jobs.c.ended.is_not(None)
        old = (jobs.c.state == _DELETED) & (jobs.c.ended < now() - timedelta(days=_COUNTED_DAYS))
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(used).values(state=_DELETED, container=None, **empty))
            await connection.execute(delete(jobs).where((jobs.c.id == job) & (jobs.c.state != _DELETED)))
            await connection.execute(delete(jobs).where(old))

    async def used(
        self, *, since: datetime, owner: str | None, team: str | None, other_teams: Collection[str] = ()
    ) -> tuple[float, datetime | None]:
        """Return the core-hours of jobs that have ended since a moment, and when the first of these ended.

        Parameters
        ----------
        since
            The moment.
        owner, team
            Whose jobs: of a person, or of a team.
        other_teams
            Whose jobs do not count for their owners.
        """
        whose = jobs.c.team == team
        if team is None:
            whose = (jobs.c.owner == owner) & (jobs.c.team.is_(None) | jobs.c.team.not_in(other_teams))
        ended = jobs.c.state.not_in([state for state in JobState if state.active])
        query = select(func.sum(jobs.c.core_hours), func.min(jobs.c.ended)).where(
            whose, ended, jobs.c.ended >= since, jobs.c.core_hours > 0
        )
        async with self._database.reading() as connection:
            total, first = (await connection.execute(query)).one()
        return float(total or 0.0), first

    async def page(
        self,
        owner: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        states: Collection[JobState] = (),
        text: str = "",
    ) -> Page[StoredJob]:
        """Return one page of the jobs of `owner`, the newest first.

        Parameters
        ----------
        owner, cursor, limit
            Whose, and which page.
        states
            Only jobs in one of these; in any where none is said.
        text
            Only jobs with this in their name, id or engine.

        Raises
        ------
        InputError
            If `cursor` is none that this method handed out.
        """
        chosen = _there().where(jobs.c.owner == owner)
        if states:
            chosen = chosen.where(jobs.c.state.in_(states))
        if text:
            columns = (jobs.c.name, jobs.c.id, jobs.c.engine)
            chosen = chosen.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
        query = newest_first(jobs, chosen, cursor, limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = [_from_row(row) for row in rows]
        last = found[limit - 1].job if len(found) > limit else None
        return Page(items=found[:limit], next=last and cursor_after(last.created, last.id))

    async def active(self) -> list[StoredJob]:
        """Return the jobs of everybody whose tasks may still run, the oldest first."""
        states = [state for state in JobState if state.active]
        query = select(jobs).where(jobs.c.state.in_(states)).order_by(jobs.c.created, jobs.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_from_row(row) for row in rows]


_DELETED = "deleted"
"""State of the row of a job that its owner has deleted: what it used counts on, and nobody sees it."""
_COUNTED_DAYS = 31


def _there() -> Select[Any]:
    return select(jobs).where(jobs.c.state != _DELETED)


_OWN = {"native", "python", "retries", "container"}
_COUNTS = set(JobCounts.model_fields)
_PASSING = {"ahead", "waits"}
"""What is true for a moment only, and asked again."""


def _to_row(stored: StoredJob) -> dict[str, Any]:
    row = stored.job.model_dump(exclude={"counts", *_PASSING}) | stored.job.counts.model_dump()
    row |= stored.model_dump(include=_OWN - {"container"})
    row["container"] = stored.container and stored.container.model_dump(mode="json")
    for key in ("python", "folder", "products"):
        row[key] = None if row[key] is None else str(row[key])
    return row


def _from_row(row: RowMapping) -> StoredJob:
    job = {key: value for key, value in row.items() if key not in _OWN | _COUNTS}
    counts = {key: row[key] for key in _COUNTS}
    return StoredJob.model_validate({"job": {**job, "counts": counts}, **{key: row[key] for key in _OWN}})
