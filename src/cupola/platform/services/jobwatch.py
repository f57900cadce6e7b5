"""The watcher of one active job: it brings the row to what the folder and the engine tell, until the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from cupola.exceptions import ConflictError, CupolaError
from cupola.models.base import now
from cupola.models.job import Job, JobAction, JobState, TaskPlan, TaskState
from cupola.platform.services.jobprogress import Progress
from cupola.platform.storage.engine import Array, Control, Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cupola.platform.storage.database.jobs import JobStore, StoredJob
    from cupola.platform.storage.files.jobs import JobFolder

__all__ = ["MOST_RESUMES", "Watch", "array_of"]

MOST_RESUMES = 3
"""How often a job goes on by itself after its native job was lost."""
SOONEST, LATEST = 0.05, 0.5
"""Seconds between two looks: while something changes, and while nothing does."""
SAVE = 5.0
"""Seconds between two saves of mere progress: it can be read again from the folder."""
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
        cpus=plan.cpus,
        memory_mib=plan.memory_mib,
        at_once=plan.at_once,
        environment=plan.environment,
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
    store
        Where the row is kept.
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
        store: JobStore,
        on_end: Callable[[], None],
    ) -> None:
        self.stored = stored
        self.folder = folder
        self.progress = Progress(folder, plan)
        self.lock = asyncio.Lock()
        """Held while the job is submitted, looked at or acted on."""
        self._engine = engine
        self._store = store
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._saved = self._asked = 0.0

    @property
    def array(self) -> Array:
        """The job as its engine knows it."""
        return array_of(self.stored, self.progress)

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
        native = await asyncio.to_thread(self._engine.submit, self.array)
        self._asked = time.monotonic()
        await self._save(self.stored.model_copy(update={"native": native}))

    async def find_again(self) -> None:
        """After a start of the portal: find the native job, or submit it where there is none."""
        await asyncio.to_thread(self.progress.look)
        if self.progress.end is not None:
            return
        native = await asyncio.to_thread(self._engine.find, self.array)
        if native is not None:
            await self._save(self.stored.model_copy(update={"native": native}))
        elif self.stored.native is None:
            await self.submit()

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
        await asyncio.to_thread(self._engine.control, self.array, self.stored.native or "", wish[action])
        if action is JobAction.HOLD:
            await self._save(self._with(state=JobState.HELD))
        if action is JobAction.RELEASE:
            await self._save(self._with(state=JobState.QUEUED))
        self._asked = 0.0  # look at once whether it still lives
        return self.stored.job

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
        await asyncio.to_thread(self.progress.look)
        if self.progress.end is None and time.monotonic() - self._asked > ASK:
            self._asked = time.monotonic()
            asked = [(self.array, self.stored.native or "")]
            if self.stored.job.id not in await asyncio.to_thread(self._engine.poll, asked):
                # It may have told its end between the two looks.
                await asyncio.to_thread(self.progress.look)
                if self.progress.end is None:
                    await self._go_on()
                    return
        if self.progress.end is not None:
            await self._settle()
            return
        job = self.stored.job
        state = job.state
        if state is JobState.QUEUED and TaskState.RUNNING in self.progress.tasks:
            state = JobState.RUNNING
        after = self._with(
            state=state, counts=self.progress.counts(), started=job.started or self.progress.started
        )
        if after == self.stored:
            return
        if state is job.state and time.monotonic() - self._saved < SAVE:
            self._tell(after)
        else:
            await self._save(after)

    async def _settle(self) -> None:
        """End the job as its supervisor told."""
        end, counts = self.progress.end, self.progress.counts()
        assert end is not None  # noqa: S101 - asked by the caller
        if counts.done >= counts.inputs:
            await self._end(JobState.DONE, None)
        elif end.state is TaskState.CANCELLED:
            await self._end(JobState.CANCELLED, "Its owner cancelled it.")
        elif end.message is not None:
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
        elif plan.resumes >= MOST_RESUMES and not self.progress.stopped:
            words = await asyncio.to_thread(self._engine.last_words, self.array)
            await self._end(
                JobState.FAILED,
                f"It was ended {MOST_RESUMES + 1} times before its end; the engine said last: {words or 'nothing'}",
            )
        else:
            await self._resume(plan)

    async def _resume(self, plan: TaskPlan) -> None:
        resumes = plan.resumes if self.progress.stopped else plan.resumes + 1
        again = plan.model_copy(update={"attempt": plan.attempt + 1, "resumes": resumes})
        try:
            await asyncio.to_thread(self.folder.write_plan, again)
        except OSError as error:
            await self._end(JobState.FAILED, f"It could not be submitted again ({error.strerror}): retry it.")
            return
        self.progress.again(again)
        reason = f"It was ended from outside and goes on (submit {again.attempt}); finished inputs are kept."
        held = self.stored.job.state is JobState.HELD
        state = JobState.HELD if held else JobState.QUEUED
        # The row first: a portal that is killed now finds no native job and submits.
        await self._save(
            self._with(state=state, attempt=again.attempt, reason=reason).model_copy(update={"native": None})
        )
        try:
            await self.submit()
        except CupolaError as error:
            await self._end(JobState.FAILED, str(error))

    async def _end(self, state: JobState, reason: str | None) -> None:
        counts = self.progress.counts().model_copy(update={"running": 0})
        after = self._with(
            state=state,
            counts=counts,
            reason=reason,
            ended=now(),
            started=self.stored.job.started or self.progress.started,
        )
        await self._save(after, before_telling=self._on_end)

    def _with(self, **changes: object) -> StoredJob:
        job = self.stored.job.model_copy(update={"peak_memory_mib": self.progress.peak_memory_mib, **changes})
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
