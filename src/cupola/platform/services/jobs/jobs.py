"""Jobs: who may start what, and one watcher per active job that brings its row to what its folder tells.

The row is saved before anything is submitted and the native job carries the job's id, so a portal that is
killed at any moment finds at its next start (`JobService.reconcile`) what runs, and submits what does not.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import structlog

from cupola.exceptions import ConflictError, CupolaError, InputError, NotFoundError
from cupola.models.base import Page, now
from cupola.models.job import (
    Job,
    JobAction,
    JobCounts,
    JobRequest,
    JobState,
    TaskFailureGroup,
    TaskGrid,
    TaskInputs,
    TaskPlan,
    TaskState,
)
from cupola.platform.builders.job import job_of, plan_again, plan_of
from cupola.platform.services.jobs.figures import Kept, figures, inputs_of
from cupola.platform.services.jobs.polls import Polls
from cupola.platform.services.jobs.progress import Progress
from cupola.platform.services.jobs.queue import Queues
from cupola.platform.services.jobs.shares import JobLimits, JobShares
from cupola.platform.services.jobs.watch import Watch, array_of
from cupola.platform.storage.database.jobs import JobStore, StoredJob
from cupola.platform.storage.engine import Control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from cupola.models.person import Person
    from cupola.platform.services.jobs.places import JobPlaces
    from cupola.platform.storage.engine import Engine

__all__ = ["JobService"]

LARGEST_PAYLOAD = 64 * 2**20
"""Bytes; `cupola.lab.jobs.packing` says the same before it sends."""


class JobService:
    """Everything a person can do with jobs.

    Parameters
    ----------
    store
        The table of jobs.
    engines
        The engines by name, the default one first.
    places
        Where a job's tasks run: folder, interpreter, environment.
    limits
        Knows who may use how much; without it nobody has a limit.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        engines: Mapping[str, Engine],
        places: JobPlaces,
        limits: JobLimits | None = None,
    ) -> None:
        self._store = store
        self._engines = engines
        self._places = places
        self._default = next(iter(engines))
        self._polls = {name: Polls(engine) for name, engine in engines.items()}
        self._watches: dict[str, Watch] = {}
        self.shares = JobShares(store, limits or JobLimits(), self._watches)
        self._kept = Kept()
        self._queues = Queues(engines)
        # Held for whatever happens to jobs that have no watch to lock: retry, delete, finding them again.
        self._ended = asyncio.Lock()

    async def submit(self, person: Person, request: JobRequest) -> Job:
        """Start a job.

        Raises
        ------
        InputError
            The engine is unknown, or the request is no job.
        LimitError
            It asks for more than the engine or the person's profile has, or no core-hours are left.
        NotAllowedError
            The person may not compute for the team.
        NotFoundError
            The session, or a job that must be done first, is not the person's.
        ConflictError
            A job that must be done first has ended without all its results.
        UnavailableError
            The engine does not answer.
        """
        request = request.model_copy(update={"engine": request.engine or self._default})
        engine = self._engine(request.engine)
        for other in request.after:
            await self._find(person, other)
        _check_size(request)
        at_once = await self.shares.most_at_once(person, request, engine)
        job = f"job-{secrets.token_hex(5)}"
        place = await self._places.place(person, request, job)
        plan = plan_of(
            request, job, at_once=at_once, environment=place.environment, supervised=engine.supervised
        )
        stored = StoredJob(
            job=job_of(person, request, plan, version=place.version, folder=place.folder),
            python=place.python,
            retries=request.retries,
            container=place.container(plan),
        )
        async with self.shares.admission(job, person.name, request.team, cpus=plan.cpus):
            watch = self._watch(stored, plan)
        async with watch.lock:
            try:
                await self._store.insert(stored)
                await asyncio.to_thread(watch.folder.write, plan, request.payload, request.labels)
                await watch.begin()
            except CupolaError:
                # Nothing half-done stays: the caller still has it all.
                del self._watches[job]
                await asyncio.to_thread(watch.folder.delete)
                await self._store.delete(job)
                raise
        watch.start()
        return watch.stored.job

    async def jobs(
        self,
        person: Person,
        *,
        cursor: str | None = None,
        limit: int = 50,
        states: Collection[JobState] = (),
        text: str = "",
    ) -> Page[Job]:
        """Return one page of the person's jobs, the newest first.

        Parameters
        ----------
        person
            Whose.
        cursor, limit
            Which page.
        states
            Only jobs in one of these; in any where none is said.
        text
            Only jobs with this in their name, id or engine.
        """
        page = await self._store.page(person.name, cursor=cursor, limit=limit, states=states, text=text)
        return Page(items=await asyncio.gather(*map(self._shown, page.items)), next=page.next)

    async def job(self, person: Person, job: str) -> Job:
        """Return one job.

        Raises
        ------
        NotFoundError
            The person has no such job.
        """
        return await self._shown(await self._find(person, job))

    async def grid(self, person: Person, job: str) -> TaskGrid:
        """Return the state of each of the job's tasks."""
        stored = await self._find(person, job)
        progress = await self._progress(stored)
        grid = progress.grid(active=job in self._watches)
        # An engine that was taken out of the configuration has nothing frozen any more.
        frozen = (engine := self._engines.get(stored.job.engine)) is None or engine.supervised
        return figures(grid, stored.job, progress, frozen=frozen)

    def per_minute(self, job: Job) -> float | None:
        """Return how many inputs of a running job get a result or fail per minute, lately."""
        watch = self._watches.get(job.id)
        return None if watch is None or job.state is not JobState.RUNNING else watch.progress.rate.per_minute

    def cores_in_use(self, engine: str) -> int:
        """Return how many cores of an engine the tasks that run use."""
        mine = [watch for watch in self._watches.values() if watch.stored.job.engine == engine]
        return sum(watch.progress.tasks.count(TaskState.RUNNING) * watch.stored.job.cpus for watch in mine)

    async def task(self, person: Person, job: str, task: int) -> TaskInputs:
        """Return what a task works on.

        Raises
        ------
        NotFoundError
            The job has no such task.
        """
        stored = await self._find(person, job)
        _check_task(stored.job, task)
        progress = await self._progress(stored)
        return await asyncio.to_thread(inputs_of, progress, task, active=job in self._watches)

    async def failures(self, person: Person, job: str) -> list[TaskFailureGroup]:
        """Return why inputs failed, alike ones together."""
        stored = await self._find(person, job)
        progress = await self._progress(stored)
        return await asyncio.to_thread(progress.failures.groups, progress.settled.failed)

    async def log(self, person: Person, job: str, task: int) -> str:
        """Return what a task has printed so far, at most the last MiB.

        Raises
        ------
        NotFoundError
            The job has no such task.
        """
        stored = await self._find(person, job)
        _check_task(stored.job, task)
        progress = await self._progress(stored)
        engine = self._engine(stored.job.engine)
        return await asyncio.to_thread(engine.log, array_of(stored, progress), task)

    async def log_of_input(self, person: Person, job: str, number: int) -> str:
        """Return what the task has printed that an input belongs to now.

        Raises
        ------
        NotFoundError
            The job has no such input.
        """
        stored = await self._find(person, job)
        inputs = stored.job.counts.inputs
        if not 0 <= number < inputs:
            raise NotFoundError(f"{stored.job.name} has inputs 0 to {inputs - 1}, and no input {number}.")
        progress = await self._progress(stored)
        task = progress.plan.task_of(number)
        engine = self._engine(stored.job.engine)
        return await asyncio.to_thread(engine.log, array_of(stored, progress), task)

    async def result(self, person: Person, job: str, number: int) -> BinaryIO:
        """Open the file with the result of an input; whoever gets it closes it.

        Raises
        ------
        NotFoundError
            There is no such input, or no result yet.
        ConflictError
            The input failed.
        """
        stored = await self._find(person, job)
        if not 0 <= number < stored.job.counts.inputs:
            last = stored.job.counts.inputs - 1
            raise NotFoundError(f"{stored.job.name} has inputs 0 to {last}, and no input {number}.")
        folder = self._places.folder(stored.job)
        result = await asyncio.to_thread(folder.result, number)
        if result is not None:
            return result
        failure = await asyncio.to_thread(folder.failure, number)
        if failure is not None:
            raise ConflictError(f"Input {number} failed ({failure.error}: {failure.message}): retry the job.")
        raise NotFoundError(f"Input {number} of {stored.job.name} has no result yet.")

    async def act(self, person: Person, job: str, action: JobAction) -> Job:
        """Cancel, hold, release or retry a job.

        Raises
        ------
        NotFoundError
            The person has no such job.
        ConflictError
            The job is in a state in which this cannot be done.
        """
        if action is JobAction.RETRY:
            return await self._retry(person, job)
        stored = await self._find(person, job)
        watch = self._watches.get(job)
        if watch is None:
            raise ConflictError(
                f"{stored.job.name} has ended ({stored.job.state}): there is nothing to {action}."
            )
        async with watch.lock:
            if action is JobAction.RELEASE:
                await self.shares.before_release(watch)
            return await watch.act(action)

    async def delete(self, person: Person, job: str) -> None:
        """Forget an ended job and remove its results; products stay.

        Raises
        ------
        NotFoundError
            The person has no such job.
        ConflictError
            It has not ended.
        """
        async with self._ended:
            stored = await self._find(person, job)
            if stored.job.state.active:
                raise ConflictError(f"{stored.job.name} still runs: cancel it first.")
            self._kept.forget(job)
            await asyncio.to_thread(self._places.folder(stored.job).delete)
            await self._store.delete(job)

    async def events(self, person: Person, job: str) -> AsyncIterator[Job]:
        """Yield the job now and after each change, until it has ended.

        Raises
        ------
        NotFoundError
            The person has no such job.
        """
        stored = await self._find(person, job)
        watch = self._watches.get(job)
        if watch is None:
            yield stored.job
            return
        async for state in watch.changes():
            yield state

    async def reconcile(self) -> None:
        """Find the jobs again that were active when the portal ended: it watches them or submits them anew."""
        found = await self._store.active()
        self.shares.finding = {stored.job.id for stored in found} - self._watches.keys()
        for stored in found:
            # It may have ended, or be retried at this moment, since the rows were read.
            async with self._ended:
                again = await self._store.get(stored.job.id)
                if again is not None and again.job.state.active and again.job.id not in self._watches:
                    await self._find_again(again)
        self.shares.finding.clear()

    async def aclose(self) -> None:
        """Stop watching. The tasks run on: their supervisors do not need the portal."""
        await self.shares.aclose()
        await self._queues.aclose()
        watches = list(self._watches.values())
        self._watches.clear()
        for watch in watches:
            await watch.aclose()

    async def _find_again(self, stored: StoredJob) -> None:
        plan = await asyncio.to_thread(self._places.folder(stored.job).plan)
        if plan is None or stored.job.engine not in self._engines:
            reason = (
                "The platform was ended before this job was written down, or its folder was removed: start it again."
                if plan is None
                else f"The engine {stored.job.engine!r} is not set up any more: start it again on another."
            )
            failed = stored.job.model_copy(
                update={"state": JobState.FAILED, "reason": reason, "ended": now()}
            )
            await self._store.update(stored.job.id, lambda old: old.model_copy(update={"job": failed}))
            return
        watch = self._watch(stored, plan)
        try:
            async with watch.lock:
                await watch.find_again()
        except CupolaError as error:
            # The engine may answer later; the watcher asks it again.
            structlog.get_logger().warning("job-not-found-again", job=stored.job.id, error=str(error))
        watch.start()

    async def _retry(self, person: Person, job: str) -> Job:
        async with self._ended:
            stored = await self._find(person, job)
            if stored.job.state.active:
                raise ConflictError(f"{stored.job.name} still runs: cancel it first, or wait for its end.")
            progress = await self._progress(stored)
            done = progress.settled.done
            if len(done) >= stored.job.counts.inputs:
                raise ConflictError(
                    f"{stored.job.name} has a result for every input: nothing is left to retry."
                )
            team = stored.job.team
            await self.shares.check_hours(job, person.name, team, cpus=stored.job.cpus)
            plan = plan_again(progress.plan, done=done)
            self._kept.forget(job)
            # The row last: killed before it, the job has still ended and can be retried.
            await asyncio.to_thread(progress.folder.set_failures_aside, progress.plan.attempt)
            await asyncio.to_thread(progress.folder.write_plan, plan)
            await asyncio.to_thread(progress.folder.want, Control.RUN)
            again = stored.job.model_copy(
                update={
                    "state": JobState.QUEUED,
                    "attempt": plan.attempt,
                    "reason": None,
                    "ended": None,
                    "counts": JobCounts(inputs=plan.inputs, done=len(done)),
                }
            )
            stored = await self._store.update(
                job, lambda old: old.model_copy(update={"job": again, "native": None})
            )
            watch = self._watch(stored, plan)
            try:
                await watch.begin()
            except CupolaError as error:
                await watch.fail(str(error))
                raise
            watch.start()
            return watch.stored.job

    def _engine(self, name: str | None) -> Engine:
        """Return an engine by its name; the default one, which is the first, for none."""
        name = name or self._default
        try:
            return self._engines[name]
        except KeyError:
            known = " or ".join(sorted(self._engines))
            raise InputError(f"There is no engine {name!r} here: use {known}.") from None

    def _watch(self, stored: StoredJob, plan: TaskPlan) -> Watch:
        job = stored.job.id
        watch = Watch(
            stored,
            plan,
            folder=self._places.folder(stored.job),
            engine=self._engine(stored.job.engine),
            polls=self._polls[stored.job.engine],
            store=self._store,
            shares=self.shares,
            on_end=partial(self._forget, job),
        )
        self._watches[job] = watch
        return watch

    def _forget(self, job: str) -> None:
        watch = self._watches.pop(job, None)
        if watch is not None:
            self._kept.put(watch.progress)

    def _present(self, stored: StoredJob) -> StoredJob:
        """Return what the watcher knows: the row is up to a second behind."""
        watch = self._watches.get(stored.job.id)
        return stored if watch is None else watch.stored

    async def _shown(self, stored: StoredJob) -> Job:
        """Return a job as its owner sees it, with what is before it in the queue."""
        return await self._queues.told(self._present(stored).job, self._watches.get(stored.job.id))

    async def _find(self, person: Person, job: str) -> StoredJob:
        stored = await self._store.get(job)
        if stored is None or stored.job.owner != person.name:
            raise NotFoundError(f"You have no job {job!r}.")
        return self._present(stored)

    async def _progress(self, stored: StoredJob) -> Progress:
        watch = self._watches.get(stored.job.id)
        if watch is not None:
            return watch.progress
        if (kept := await self._kept.get(stored.job)) is not None:
            return kept
        folder = self._places.folder(stored.job)
        plan = await asyncio.to_thread(folder.plan)
        if plan is None:
            raise ConflictError(f"The folder of {stored.job.name} was removed from the home: delete the job.")
        progress = Progress(folder, plan)
        await asyncio.to_thread(progress.look)
        self._kept.put(progress)
        return progress


def _check_task(job: Job, task: int) -> None:
    """Refuse a task that the job does not have.

    Raises
    ------
    NotFoundError
        It has none.
    """
    if not 0 <= task < job.tasks:
        raise NotFoundError(f"{job.name} has tasks 0 to {job.tasks - 1}, and no task {task}.")


def _check_size(request: JobRequest) -> None:
    if len(request.payload) > LARGEST_PAYLOAD:
        raise InputError(
            f"The function and its inputs are {len(request.payload) >> 20} MiB and the largest is "
            f"{LARGEST_PAYLOAD >> 20} MiB: give names of files instead of the data themselves."
        )
