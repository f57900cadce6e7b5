"""Who may use how much of the engines: cores at a time and core-hours in 30 days, per person and per team.

A job counts for its owner; one that says a team which has a share of its own counts for that team. All jobs that count for the
same share divide its cores: `room` says how many tasks of each may run, and that is brought to the engines whenever it changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import CupolaError, LimitError, NotAllowedError
from cupola.models.base import now
from cupola.models.job import JobState, TaskState
from cupola.models.team import Role
from cupola.platform.builders.jobshare import Share, Taking, room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from datetime import datetime

    from cupola.config import TeamSettings
    from cupola.models.job import JobRequest
    from cupola.models.person import Person, Profile
    from cupola.platform.services.jobs.watch import Watch
    from cupola.platform.storage.database.jobs import JobStore
    from cupola.platform.storage.engine import Capacity, Engine

__all__ = ["DAYS", "JobLimits", "JobShares", "ShareUse", "most_at_once"]

DAYS = 30
"""Over which core-hours are counted."""
ROUND_S = 1.0
"""Seconds between two looks at how much each job may use."""
LAG_S = 1.5
"""Seconds until it is known what of a job still runs that was told to run less: a task may have begun in that moment."""
REMEMBERED_S = 5.0
"""Seconds for which the limits of a person are believed."""
LEAST_HOURS = 1 / 60
"""Core-hours per core of a task that a job must have left to start, and counts at least while it is active."""


@dataclass(frozen=True)
class ShareUse:
    """What is used of a share now."""

    share: Share
    cores: int
    hours: float
    free: datetime | None = None
    """When the first of the core-hours become free."""


@dataclass(frozen=True)
class Lowered:
    """A job that was told to run fewer tasks than before."""

    at: float
    before: int
    """How many it could run."""
    ended: int
    """How many tasks of it had ended."""

    def may_run(self, ended: int, *, told: bool) -> int:
        """Return how many tasks it may still run.

        Parameters
        ----------
        ended
            How many tasks of it have ended by now.
        told
            Whether its supervisor tells when a task begins. A scheduler has some in its hands that begin at any time.
        """
        if told:
            return self.before if time.monotonic() - self.at < LAG_S else 0
        return self.before - (ended - self.ended)


def most_at_once(request: JobRequest, person: Person, capacity: Capacity, share: Share, *, one: bool) -> int:
    """Return how many tasks of a job may run at a time where nobody else uses anything.

    Parameters
    ----------
    request, person, capacity, share
        Who asks whom for what, and what it counts for.
    one
        Whether all tasks run on one machine, whose memory they divide.

    Raises
    ------
    LimitError
        Not even one may.
    """
    cores = min(capacity.widest or capacity.cores, person.profile.cores)
    memory = min(capacity.memory_mib, person.profile.memory_mib)
    if request.cpus > cores:
        raise LimitError(f"A task asks for {request.cpus} cores and you may use {cores:g}: ask for fewer.")
    if request.memory_mib > memory:
        raise LimitError(
            f"A task asks for {request.memory_mib:,} MiB of memory and you may use {memory:,}: ask for less."
        )
    together = capacity.cores if share.cores is None else min(capacity.cores, share.cores)
    if request.cpus > together:
        raise LimitError(
            f"A task asks for {request.cpus} cores, and {share.whose} may use {together} at a time: ask for fewer."
        )
    most = together // request.cpus
    return max(1, min(most, capacity.memory_mib // request.memory_mib) if one else most)


class JobLimits:
    """Knows for whom a job counts, and how much they may use.

    Parameters
    ----------
    profile_of
        Returns what a person may use; without it nobody has a limit.
    role_of
        Returns what a person may do in a team.
    teams
        The teams that have a share of their own.
    """

    def __init__(
        self,
        *,
        profile_of: Callable[[str], Awaitable[Profile]] | None = None,
        role_of: Callable[[str, str], Awaitable[Role | None]] | None = None,
        teams: Iterable[TeamSettings] = (),
    ) -> None:
        self._profile_of = profile_of
        self._role_of = role_of
        self._teams = {team.name: Share("team", team.name, team.job_cores, team.core_hours) for team in teams}
        self._known: dict[str, tuple[float, Share]] = {}

    @property
    def teams(self) -> Mapping[str, Share]:
        """The shares of teams."""
        return self._teams

    async def of(self, owner: str, team: str | None) -> Share:
        """Return the share that a job counts for."""
        if team in self._teams:
            return self._teams[str(team)]
        known = self._known.get(owner)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_S:
            return known[1]
        share = Share("person", owner)
        if self._profile_of is not None:
            profile = await self._profile_of(owner)
            share = replace(share, cores=profile.job_cores, hours=profile.core_hours)
        self._known[owner] = (time.monotonic(), share)
        return share

    async def check(self, person: str, team: str | None) -> None:
        """Return if the jobs of a person may count for a team.

        Raises
        ------
        NotAllowedError
            The person is not in it, or may only read.
        """
        if team is None:
            return
        role = None if self._role_of is None else await self._role_of(person, team)
        if role is None:
            raise NotAllowedError(
                f"You are in no team {team!r}: start the job without it, or ask to be invited."
            )
        if role is Role.READER:
            raise NotAllowedError(
                f"You may only read in the team {team}: ask one of its owners to make you a member, or start the job without it."
            )


class JobShares:
    """Holds the jobs of each share to its limits.

    Parameters
    ----------
    store
        The table of jobs.
    limits
        Knows who may use how much.
    watches
        The watchers of the active jobs, by job.
    """

    def __init__(self, store: JobStore, limits: JobLimits, watches: Mapping[str, Watch]) -> None:
        self.limits = limits
        self._store = store
        self._watches = watches
        self._given: dict[str, tuple[str | None, int]] = {}
        """By job: what may run of it, and the native job that was told so."""
        self._lowered: dict[str, Lowered] = {}
        """Jobs that were told to run fewer tasks."""
        self._asking: set[str] = set()
        """Jobs that wait for nothing but room."""
        self.finding: set[str] = set()
        """Jobs that ran when the portal was started and were not found again yet: what they use is not known."""
        self._lock = asyncio.Lock()
        self._admitting = asyncio.Lock()
        self._rounds: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def admission(self, job: str, owner: str, team: str | None, *, cpus: int) -> AsyncIterator[None]:
        """Check that a job may start, and let no other start until it is among the watched ones.

        Raises
        ------
        LimitError
            Nothing is left of the core-hours.
        """
        async with self._admitting:
            await self.check_hours(job, owner, team, cpus=cpus)
            yield

    async def check_hours(self, job: str, owner: str, team: str | None, *, cpus: int) -> None:
        """Return if a job has core-hours left.

        Raises
        ------
        LimitError
            Nothing is left for a minute of one of its tasks.
        """
        share = await self.limits.of(owner, team)
        if share.hours is None:
            return
        used, first = await self._hours(share, without=job)
        own = self._watches[job].progress.core_hours_so_far if job in self._watches else 0.0
        if used + own + cpus * LEAST_HOURS > share.hours:
            raise LimitError(_beyond(share, used + own, first))

    async def most_at_once(self, person: Person, request: JobRequest, engine: Engine) -> int:
        """Return how many tasks of a job may run at a time where nobody else uses anything.

        Raises
        ------
        NotAllowedError
            The person may not compute for the team.
        LimitError
            Not even one task may run.
        """
        await self.limits.check(person.name, request.team)
        share = await self.limits.of(person.name, request.team)
        capacity = await asyncio.to_thread(engine.capacity)
        return most_at_once(request, person, capacity, share, one=engine.supervised)

    async def begin(self, watch: Watch) -> int:
        """Return how many tasks of a job may run that is about to start; 0: it waits for others of its share."""
        self._asking.add(watch.stored.job.id)
        self.keep_going()
        share = await self.limits.of(watch.stored.job.owner, watch.stored.job.team)
        if share.cores is None:
            return watch.progress.plan.at_once
        async with self._lock:
            await self._divide(share)
        return self._given.get(watch.stored.job.id, (None, 0))[1]

    async def why_wait(self, watch: Watch) -> str | None:
        """Say why a job may not start yet, in a sentence; nothing where it may."""
        if await self.begin(watch):
            return None
        share = await self.limits.of(watch.stored.job.owner, watch.stored.job.team)
        return f"It waits until {share.whose} use fewer than {share.cores} cores, which is their limit."

    async def before_release(self, watch: Watch) -> None:
        """Return if a held job may go on, as slowly as there is room for it.

        Raises
        ------
        LimitError
            Nothing is left of the core-hours.
        """
        job = watch.stored.job
        await self.check_hours(job.id, job.owner, job.team, cpus=job.cpus)
        share = await self.limits.of(job.owner, job.team)
        if share.cores is not None and watch.stored.native is not None:
            # It was given nothing while it was held; the next round gives it its part.
            could = self._given.get(job.id, (None, 0))[1]
            self._lowered[job.id] = Lowered(time.monotonic(), could, _ended(watch))
            await watch.throttle(0)
            self._given[job.id] = (watch.stored.native, 0)

    async def use(self, share: Share) -> ShareUse:
        """Return what is used of a share now."""
        hours, first = await self._hours(share, least=False)
        free = None if first is None else first + timedelta(days=DAYS)
        mine = [watch for watch in self._watches.values() if await self._counts_for(watch, share)]
        cores = sum(_running(watch) * watch.progress.plan.cpus for watch in mine)
        return ShareUse(share, cores, hours, free)

    async def uses(self, person: Person) -> list[ShareUse]:
        """Return what is used of a person's share and of those of the person's teams."""
        shares = [await self.limits.of(person.name, None)]
        shares += [self.limits.teams[team] for team in person.teams if team in self.limits.teams]
        return [await self.use(share) for share in shares]

    def keep_going(self) -> None:
        """Look after the shares as long as there are jobs."""
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._look_after())

    async def aclose(self) -> None:
        """Stop looking."""
        if self._rounds is not None:
            self._rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._rounds

    # -- the steps

    async def _look_after(self) -> None:
        while self._watches:
            await asyncio.sleep(ROUND_S)
            try:
                await self.look()
            except CupolaError as error:
                structlog.get_logger().warning("shares-not-looked-after", error=str(error))

    async def look(self) -> None:
        """Divide each share anew, and hold the jobs of those that have used theirs up."""
        found = [await self.limits.of(watch.stored.job.owner, watch.stored.job.team) for watch in self._all()]
        for gone in (self._given.keys() | self._lowered.keys()) - self._watches.keys():
            self._given.pop(gone, None)
            self._lowered.pop(gone, None)
        self._asking &= self._watches.keys()
        for share in dict.fromkeys(found):
            async with self._lock:
                await self._divide(share)
            if share.hours is not None:
                await self._hold_beyond(share)

    async def _divide(self, share: Share) -> None:
        """Bring to the engines how many tasks of each job of a share may run."""
        jobs = [watch for watch in self._all() if await self._counts_for(watch, share)]
        jobs = [watch for watch in jobs if self._takes_part(watch)]
        jobs.sort(key=self._turn)
        taking = [self._taking(watch) for watch in jobs]
        dealt = {one.job: one.most for one in taking}
        if share.cores is not None:
            dealt = room(taking, share.cores)
            if self.finding:
                dealt = {one.job: min(one.given, dealt[one.job]) for one in taking}
        for watch, one in zip(jobs, taking, strict=True):
            await self._tell(watch, one, dealt[one.job], limited=share.cores is not None)

    async def _tell(self, watch: Watch, taking: Taking, at_once: int, *, limited: bool) -> None:
        native, before = self._given.get(taking.job, (None, None))
        if at_once < taking.given:
            could = max(taking.given, taking.running)
            self._lowered[taking.job] = Lowered(time.monotonic(), could, _ended(watch))
        told = watch.stored.native
        if told is None:
            # It is told with the submit.
            self._given[taking.job] = (None, at_once)
            return
        same = native == told and before is not None
        if same and (before == at_once or min(before or 0, at_once) >= taking.most):
            return
        if limited or watch.supervised:
            try:
                await watch.throttle(at_once)
            except CupolaError as error:
                # It is told in the next round.
                structlog.get_logger().warning("job-not-throttled", job=taking.job, error=str(error))
                return
        self._given[taking.job] = (told, at_once)

    async def _hold_beyond(self, share: Share) -> None:
        """Hold what runs of a share that is used up; its owner may release it when there is room again."""
        used, first = await self._hours(share, least=False)
        if share.hours is None or used <= share.hours:
            return
        for watch in self._all():
            job = watch.stored.job
            if (
                watch.stored.native
                and job.state is not JobState.HELD
                and await self._counts_for(watch, share)
            ):
                async with watch.lock:
                    await watch.hold(_beyond(share, used, first))

    async def _hours(
        self, share: Share, *, without: str | None = None, least: bool = True
    ) -> tuple[float, datetime | None]:
        """Return the core-hours of the last 30 days, and when the first of these ended.

        Parameters
        ----------
        share
            Whose.
        without
            A job that does not count.
        least
            Whether active jobs count what they need to start, though they have not used it yet.
        """
        since = now() - timedelta(days=DAYS)
        used, first = await self._store.used(
            since=since,
            team=share.name if share.kind == "team" else None,
            owner=share.name if share.kind == "person" else None,
            other_teams=list(self.limits.teams),
        )
        for watch in self._all():
            if watch.stored.job.id != without and await self._counts_for(watch, share):
                own = watch.progress.core_hours_so_far
                used += max(own, watch.progress.plan.cpus * LEAST_HOURS) if least else own
        return used, first

    async def _counts_for(self, watch: Watch, share: Share) -> bool:
        counts = await self.limits.of(watch.stored.job.owner, watch.stored.job.team)
        return (counts.kind, counts.name) == (share.kind, share.name)

    def _all(self) -> list[Watch]:
        return [watch for watch in list(self._watches.values()) if watch.stored.job.state.active]

    def _takes_part(self, watch: Watch) -> bool:
        known = watch.stored.native is not None or watch.stored.job.id in self._asking
        return known and watch.stored.job.state is not JobState.HELD

    def _turn(self, watch: Watch) -> tuple[bool, datetime]:
        """Return the place in the order: what runs comes before what waits, the older one first."""
        job = watch.stored.job
        runs = bool(self._given.get(job.id, (None, 0))[1]) or _running(watch) > 0
        return (not runs, job.created)

    def _taking(self, watch: Watch) -> Taking:
        job, plan, running = watch.stored.job.id, watch.progress.plan, _running(watch)
        settled = sum(state in {TaskState.DONE, TaskState.FAILED} for state in watch.progress.tasks)
        left = max(1, len(watch.progress.tasks) - settled)
        most = min(plan.at_once, left)
        # What it was given before the portal was started is not known: all, perhaps.
        unknown = 0 if watch.stored.native is None else most
        given = self._given[job][1] if job in self._given else unknown
        if (lowered := self._lowered.get(job)) is not None:
            running = max(running, min(most, lowered.may_run(_ended(watch), told=watch.supervised)))
        return Taking(job, cpus=plan.cpus, most=most, given=given, running=running)


def _running(watch: Watch) -> int:
    if watch.stored.job.state is JobState.HELD:
        return 0
    return sum(state is TaskState.RUNNING for state in watch.progress.tasks)


def _ended(watch: Watch) -> int:
    over = {TaskState.DONE, TaskState.FAILED, TaskState.LOST}
    return sum(state in over for state in watch.progress.tasks)


def _beyond(share: Share, used: float, first: datetime | None) -> str:
    """Say that core-hours are used up, and when some become free."""
    free = "some become free 30 days after the end of a job"
    if first is not None:
        day = first + timedelta(days=DAYS)
        free = f"the first become free on {day.day} {day:%B at %H:%M} UTC"
    whose = share.whose[0].upper() + share.whose[1:]
    return f"{whose} have used {used:,.2f} of {share.hours:,.2f} core-hours in {DAYS} days: {free}."
