"""The watcher of one active job: it brings the row to what the folder and the engine tell, until the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import ConflictError, CupolaError
from cupola.models.base import now
from cupola.models.job import Job, JobAction, JobState, TaskFailure, TaskPlan, TaskState
from cupola.platform.builders.job import plan_rest
from cupola.platform.services.jobs.progress import Progress
from cupola.platform.storage.engine import Array, Control, Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cupola.platform.services.jobs.polls import Polls
    from cupola.platform.services.jobs.shares import JobShares
    from cupola.platform.storage.database.jobs import JobStore, StoredJob
    from cupola.platform.storage.files.jobs import JobFolder

__all__ = ["MOST_RESUMES", "Watch", "array_of"]

MOST_RESUMES = 3
"""How often a job goes on by itself after its native job was lost."""
SOONEST, LATEST = 0.05, 0.5
"""Seconds between two looks: while something changes, and while nothing does."""
SAVE = 5.0
"""Seconds between two saves of mere progress: it can be read again from the folder."""
_GOES_ON = "It was ended from outside and goes on; finished inputs are kept."
LEFT_ALONE = 5.0
"""Seconds after which a job whose inputs are all settled ends, also where its scheduler does not answer."""
ASK = 1.0
"""Seconds between two questions to the engine."""


def array_of(stored: StoredJob, progress: Progress) -> Array:
    """Return a job as an engine needs to know it."""
    plan = progress.plan
    return Array(
        tag=stored.job.id,
        folder=progress.folder.path,
        python=stored.python,
        tasks=plan.tasks,
        only=None if plan.only is None else tuple(plan.only),
        attempt=plan.attempt,
        owner=stored.job.owner,
        team=stored.job.team,
        retries=plan.retries,
        cpus=plan.cpus,
        memory_mib=plan.memory_mib,
        gpus=plan.gpus,
        time_s=plan.time_s,
        at_once=plan.at_once,
        # A task knows whose it is on every engine.
        environment={**plan.environment, "CUPOLA_JOB": plan.tag},
        container=stored.container,
    )


class Watch:
    """Watches one job from its submit to its end.

    Parameters
    ----------
    stored
        The job's row.
    plan
        What its tasks are.
    folder
        Its folder.
    engine
        Where its tasks run.
    polls
        Asks that engine for several jobs at once.
    store
        Where the row is kept.
    shares
        Says how many of its tasks may run at a time.
    on_end
        Called once, when the job has ended.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        stored: StoredJob,
        plan: TaskPlan,
        *,
        folder: JobFolder,
        engine: Engine,
        polls: Polls,
        store: JobStore,
        shares: JobShares,
        on_end: Callable[[], None],
    ) -> None:
        self.stored = stored
        self.folder = folder
        self.progress = Progress(folder, plan)
        self.lock = asyncio.Lock()
        """Held while the job is submitted, looked at or acted on."""
        self._engine = engine
        self._polls = polls
        self._store = store
        self._shares = shares
        self.at_once: int | None = None
        """How many tasks may run at a time, where others leave it fewer than its plan says."""
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._saved = self._asked = 0.0
        self._losses: Counter[int] = Counter()
        """By input: how often its process was killed, where the scheduler leaves it to us to try again."""
        self._settled_before = 0
        """How many inputs were settled at the last submit."""
        self._all_told: float | None = None
        """When it was first seen that all inputs are settled."""
        self._waits = False
        """Whether other jobs must be done first or leave it room, so that the engine does not know this one yet."""

    @property
    def array(self) -> Array:
        """The job as its engine knows it."""
        array = array_of(self.stored, self.progress)
        return array if self.at_once is None else replace(array, at_once=min(array.at_once, self.at_once))

    @property
    def supervised(self) -> bool:
        """Whether a supervisor stays with its tasks."""
        return self._engine.supervised

    def start(self) -> None:
        """Watch in the background."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def changes(self) -> AsyncIterator[Job]:
        """Yield the job now and at each change; the last one has ended."""
        while True:
            changed = self._changed
            yield self.stored.job
            if not self.stored.job.state.active:
                return
            await changed.wait()

    async def submit(self) -> None:
        """Hand the job to the engine."""
        await asyncio.to_thread(self.progress.look)
        self._settled_before = self.progress.plan.inputs - len(self.progress.unsettled)
        at_once = await self._shares.begin(self)
        self.at_once = at_once if self.supervised else max(1, at_once)
        native = await asyncio.to_thread(self._engine.submit, self.array)
        self._asked = time.monotonic()
        await self._save(self.stored.model_copy(update={"native": native}))

    async def begin(self) -> None:
        """Hand the job to the engine, or wait for the jobs that must be done first.

        Raises
        ------
        ConflictError
            One of them has ended without all its results, or is gone.
        """
        waits = await self._why_wait()
        if waits is None:
            await self.submit()
        else:
            self._waits = True
            await self._save(self._with(reason=waits))

    async def find_again(self) -> None:
        """After a start of the portal: find the native job, or submit it where there is none."""
        await asyncio.to_thread(self.progress.look)
        if self.progress.end is not None:
            return
        native = await asyncio.to_thread(self._engine.find, self.array)
        if native is not None:
            await self._save(self.stored.model_copy(update={"native": native}))
        elif self.stored.native is None:
            await self.begin()

    async def act(self, action: JobAction) -> Job:
        """Cancel, hold or release the job.

        Raises
        ------
        ConflictError
            It has just ended, or is in another state.
        """
        job = self.stored.job
        fits = {
            JobAction.CANCEL: job.state.active,
            JobAction.HOLD: job.state in {JobState.QUEUED, JobState.RUNNING},
            JobAction.RELEASE: job.state is JobState.HELD,
        }
        if not fits[action]:
            raise ConflictError(f"{job.name} is {job.state}: it cannot be told to {action} now.")
        wish = {
            JobAction.CANCEL: Control.CANCEL,
            JobAction.HOLD: Control.HOLD,
            JobAction.RELEASE: Control.RUN,
        }
        if self._waits:
            # The engine does not know it yet.
            await asyncio.to_thread(self.folder.want, wish[action])
        else:
            await asyncio.to_thread(self._engine.control, self.array, self.stored.native or "", wish[action])
        if action is JobAction.HOLD:
            await self._save(self._with(state=JobState.HELD))
        if action is JobAction.RELEASE:
            await self._save(self._with(state=JobState.QUEUED, reason=None))
        self._asked = 0.0  # look at once whether it still lives
        return self.stored.job

    async def hold(self, reason: str) -> None:
        """Hold the job for a reason that is not its owner's."""
        if self.stored.job.state.active and self.stored.native:
            await asyncio.to_thread(self._engine.control, self.array, self.stored.native, Control.HOLD)
            await self._save(self._with(state=JobState.HELD, reason=reason))

    async def throttle(self, at_once: int) -> None:
        """Let so many of its tasks run at a time. A scheduler knows no job that may run none: it keeps one."""
        self.at_once = at_once if self.supervised else max(1, at_once)
        await asyncio.to_thread(self._engine.throttle, self.array, self.stored.native or "", self.at_once)

    async def fail(self, reason: str) -> None:
        """End the job as failed."""
        await self._end(JobState.FAILED, reason)

    async def _run(self) -> None:
        started = time.monotonic()
        pause = SOONEST
        while True:
            before = self.stored
            try:
                async with self.lock:
                    await self._look()
            except CupolaError as error:
                # The engine or the database does not answer: the tasks run on, so it is asked again later.
                structlog.get_logger().warning("job-not-looked-at", job=self.stored.job.id, error=str(error))
            if not self.stored.job.state.active:
                return
            # What has run for long may be told a little later: nobody notices 2 %.
            quickest = min(LATEST, max(SOONEST, 0.02 * (time.monotonic() - started)))
            pause = quickest if self.stored is not before else min(LATEST, max(quickest, pause * 1.3))
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        """Bring the row up to date once."""
        if self._waits:
            await self._wait_for_others()
            return
        await asyncio.to_thread(self.progress.look)
        if self.progress.end is not None or self._left_alone():
            await self._settle()
            return
        if time.monotonic() - self._asked > ASK:
            self._asked = time.monotonic()
            states = await self._polls.ask(self.array, self.stored.native or "")
            if states is None:
                # It may have told its end, or its last results, between the two looks.
                await asyncio.to_thread(self.progress.look)
                await (self._settle() if self._over else self._go_on())
                return
            await asyncio.to_thread(self.progress.told, states)
        job, counts = self.stored.job, self.progress.counts()
        state = job.state
        begun = counts.done + counts.failed > self._settled_before or TaskState.RUNNING in self.progress.tasks
        if state is JobState.QUEUED and begun:
            state = JobState.RUNNING
        after = self._with(state=state, counts=counts, started=job.started or self.progress.started)
        if after == self.stored:
            return
        if state is job.state and time.monotonic() - self._saved < SAVE:
            self._tell(after)
        else:
            await self._save(after)

    async def _wait_for_others(self) -> None:
        """Submit the job when those that must be done first are."""
        if await asyncio.to_thread(self.folder.control) == Control.CANCEL:
            await self._end(JobState.CANCELLED, "Its owner cancelled it.")
            return
        try:
            waits = await self._why_wait()
        except ConflictError as error:
            await self._end(JobState.FAILED, str(error))
            return
        job = self.stored.job
        if job.state is JobState.HELD:
            return
        if waits is None:
            await self.submit()
            self._waits = False
        if waits != job.reason:
            await self._save(self._with(reason=waits))

    async def _why_wait(self) -> str | None:
        """Return for what the job waits, in a sentence: for others that must be done first, or for room in its share."""
        waiting: list[str] = []
        for job in self.stored.job.after:
            other = await self._store.get(job)
            if other is None:
                raise ConflictError(f"It was to start after {job}, which was deleted: start it again.")
            if other.job.state.active:
                waiting.append(other.job.name)
            elif other.job.state is not JobState.DONE:
                raise ConflictError(
                    f"It was to start after {other.job.name}, which is {other.job.state}: retry that one, then this one."
                )
        if waiting:
            return f"It waits for the end of {' and '.join(waiting)}."
        if self.stored.job.state is JobState.HELD:
            return self.stored.job.reason
        return await self._shares.why_wait(self)

    def _left_alone(self) -> bool:
        """Say whether a scheduler has not seen for long that nothing is left to do."""
        if not self._told_all:
            self._all_told = None
            return False
        if self._all_told is None:
            self._all_told = time.monotonic()
            # It is asked at once, so that what the last tasks used is counted too.
            self._asked = min(self._asked, time.monotonic() - ASK + LATEST / 2)
        return time.monotonic() - self._all_told > LEFT_ALONE

    @property
    def _over(self) -> bool:
        return self.progress.end is not None or self._told_all

    @property
    def _told_all(self) -> bool:
        """Whether nothing is left to do, where no supervisor tells the end."""
        return not self._engine.supervised and self.progress.all_settled

    async def _settle(self) -> None:
        """End the job as its supervisor or its inputs tell."""
        end, counts = self.progress.end, self.progress.counts()
        if counts.done >= counts.inputs:
            await self._end(JobState.DONE, None)
        elif end is not None and end.state is TaskState.CANCELLED:
            await self._end(JobState.CANCELLED, "Its owner cancelled it.")
        elif end is not None and end.message is not None:
            await self._end(JobState.FAILED, end.message)
        elif counts.done:
            await self._end(JobState.PARTLY_FAILED, f"{counts.failed:,} of {counts.inputs:,} inputs failed.")
        else:
            await self._end(
                JobState.FAILED, "All inputs failed." if counts.inputs > 1 else "The input failed."
            )

    async def _go_on(self) -> None:
        """Submit a job again whose native job is gone without an end, or end it where that does not help."""
        plan = await asyncio.to_thread(self.folder.plan)
        if await asyncio.to_thread(self.folder.control) == Control.CANCEL:
            await self._end(JobState.CANCELLED, "Its owner cancelled it.")
        elif plan is None:
            await self._end(JobState.FAILED, "Its folder was removed from the home: start it again.")
        elif not await asyncio.to_thread(self.folder.space_left):
            await self._end(JobState.FAILED, "No space is left on the disk of the home: free some and retry.")
        elif not self._engine.supervised:
            await self._blame()
            if self._told_all:
                await self._settle()
            else:
                await self._resume_rest(plan)
        elif plan.resumes >= MOST_RESUMES and not self.progress.stopped:
            words = await asyncio.to_thread(self._engine.last_words, self.array)
            await self._end(
                JobState.FAILED,
                f"It was ended {MOST_RESUMES + 1} times before its end; the engine said last: {words or 'nothing'}",
            )
        else:
            await self._resume(plan)

    async def _blame(self) -> None:
        """Give up the inputs that were being computed when the scheduler killed their tasks, after their retries."""
        losses = await asyncio.to_thread(self._engine.losses, self.array, self.stored.native or "")
        if not losses:
            return
        plan, unsettled = self.progress.plan, set(self.progress.unsettled)
        labels = await asyncio.to_thread(self.folder.labels)
        for task, loss in losses.items():
            # Tasks compute their inputs in order: the first one without an outcome was in the works.
            number = next((one for one in plan.task_inputs(task) if one in unsettled), None)
            if number is None:
                continue
            self._losses[number] += 1
            if loss.again and self._losses[number] <= plan.retries:
                continue
            label = labels[number] if number < len(labels) else str(number)
            failure = TaskFailure(
                input=number, label=label, error=loss.error, message=loss.message, task=task
            )
            try:
                await asyncio.to_thread(self.folder.write_failure, failure)
            except OSError as error:
                structlog.get_logger().warning("failure-not-written", job=plan.tag, error=str(error))
                return
        await asyncio.to_thread(self.progress.look)

    async def _resume_rest(self, plan: TaskPlan) -> None:
        """Submit what a scheduler has not computed: tasks that were lost, and those that gave the rest of their inputs back."""
        settled = set(range(plan.inputs)).difference(self.progress.unsettled)
        resumes = plan.resumes + 1 if len(settled) <= self._settled_before else 0
        if resumes > MOST_RESUMES:
            words = await asyncio.to_thread(self._words_of_unsettled)
            await self._end(
                JobState.FAILED,
                f"Its tasks ended {resumes} times without computing anything; they said last: {words or 'nothing'}",
            )
            return
        # A task that hands back its rest after its minute is as it should be; what was lost is told.
        reason = self.stored.job.reason if plan.budget_s and not resumes else _GOES_ON
        again = plan_rest(plan, settled=settled, seconds_per_input=self.progress.seconds_per_input)
        await self._submit_again(again.model_copy(update={"resumes": resumes}), reason)

    def _words_of_unsettled(self) -> str:
        plan = self.progress.plan
        task = next((plan.task_of(number) for number in self.progress.unsettled), 0)
        lines = [line.strip() for line in self._engine.log(self.array, task).splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    async def _resume(self, plan: TaskPlan) -> None:
        resumes = plan.resumes if self.progress.stopped else plan.resumes + 1
        again = plan.model_copy(update={"attempt": plan.attempt + 1, "resumes": resumes})
        await self._submit_again(again, _GOES_ON)

    async def _submit_again(self, again: TaskPlan, reason: str | None) -> None:
        try:
            await asyncio.to_thread(self.folder.write_plan, again)
        except OSError as error:
            await self._end(JobState.FAILED, f"It could not be submitted again ({error.strerror}): retry it.")
            return
        self.progress.again(again)
        held = self.stored.job.state is JobState.HELD
        state = JobState.HELD if held else JobState.QUEUED
        # The row first: a portal that is killed now finds no native job and submits.
        await self._save(
            self._with(state=state, attempt=again.attempt, tasks=again.tasks, reason=reason).model_copy(
                update={"native": None}
            )
        )
        try:
            await self.submit()
        except CupolaError as error:
            await self._end(JobState.FAILED, str(error))

    async def _end(self, state: JobState, reason: str | None) -> None:
        job, counts = self.stored.job, self.progress.counts().model_copy(update={"running": 0})
        started = job.started or self.progress.started
        if started is None and counts.done:
            # It was over before anybody saw it run.
            started = job.created
        after = self._with(state=state, counts=counts, reason=reason, ended=now(), started=started)
        await self._save(after, before_telling=self._on_end)

    def _with(self, **changes: object) -> StoredJob:
        used = {
            "peak_memory_mib": self.progress.peak_memory_mib,
            "core_hours": round(self.progress.core_hours, 6),
        }
        job = self.stored.job.model_copy(update={**used, **changes})
        return self.stored.model_copy(update={"job": job})

    async def _save(self, after: StoredJob, before_telling: Callable[[], None] | None = None) -> None:
        await self._store.update(after.job.id, lambda _: after)
        self._saved = time.monotonic()
        if before_telling is not None:
            before_telling()
        self._tell(after)

    def _tell(self, after: StoredJob) -> None:
        """Wake whoever follows the job."""
        if after == self.stored:
            return
        self.stored = after
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
