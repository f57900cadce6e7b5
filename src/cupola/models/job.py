"""Jobs: arrays of tasks over many inputs, and the files that a job's folder holds.

A job's folder lies in its owner's home, where every node of the engine sees it::

    job.json           the TaskPlan, written by the portal before the submit
    payload.pkl        two pickles, see cupola.lab.jobs.packing: where the function comes from, then cloudpickle
                       of (function, inputs); never opened by the portal
    control            run, hold or cancel: what the owner wants
    at_once            local engine: how many tasks may run at a time, where that is another number than the plan's
    labels.json        a short text per input, for people
    results/N.pkl      cloudpickle of the result of input N: written under another name, then renamed
    results/N.error    a TaskFailure as JSON; it counts only while there is no N.pkl
    log/K.out          what task K printed; log/pool.out: what the local engine's supervisor did
    usage/K-A.json     a TaskUsage: what task K used in submit A, written at its end where no supervisor tells it
    failures/A/N.error the failures of submit A, set aside by a retry
    events.jsonl       a TaskEvent per line, written by whoever runs the tasks
    pool.json          local engine: pid and creation time of the supervisor

An input that has a result is never computed again, so retry and resume are the same act: submit again.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Base64Bytes, Field

from cupola.models.base import Model, Slug, Time

__all__ = [
    "Job",
    "JobAction",
    "JobCounts",
    "JobRequest",
    "JobState",
    "TaskEvent",
    "TaskFailure",
    "TaskFailureGroup",
    "TaskGrid",
    "TaskInputs",
    "TaskPlan",
    "TaskState",
    "TaskUsage",
]


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"
    PARTLY_FAILED = "partly-failed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def active(self) -> bool:
        """Whether tasks may still run."""
        return self in {JobState.QUEUED, JobState.RUNNING, JobState.HELD}


class JobAction(StrEnum):
    """What a person can do with a job."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    """Run again what failed or was cancelled; finished inputs are kept."""

    @property
    def meaning(self) -> str:
        """What it does, in a sentence for people: the panel and the page say the same."""
        return _MEANINGS[self]


_MEANINGS = {
    JobAction.HOLD: "Stop the job until you release it: no further task starts, and what is done stays.",
    JobAction.RELEASE: "Let the held job go on.",
    JobAction.RETRY: "Run again the inputs that failed or were cancelled; results that are there stay.",
    JobAction.CANCEL: "End the job; results that are there stay, and the rest can be run later.",
}


class TaskState(StrEnum):
    """Where one task (a chunk of inputs) is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Ended, with at least one input that failed."""
    LOST = "lost"
    """Its process was killed; it is run again while retries are left."""
    HELD = "held"
    """Waits because the whole job is on hold."""
    CANCELLED = "cancelled"


class JobRequest(Model):
    """What a notebook or a program sends to start a job."""

    name: str = Field(min_length=1, max_length=100)
    payload: Base64Bytes
    """What `cupola.lab.jobs.packing.pack` returns, made by the interpreter that will run it."""
    labels: list[str] = Field(min_length=1, max_length=100_000)
    """One short text per input, for the panel; their number is the number of inputs."""
    source: str = ""
    """The function's own text, for provenance and for people."""
    python: str
    """``major.minor`` of the interpreter that pickled: the tasks need the same."""
    packages: dict[str, str] = Field(default_factory=dict, max_length=200)
    """Releases of the packages that the function uses, by normalised name, where it comes from no session: the tasks need the like."""
    session: Slug | None = None
    """The session this comes from: its version runs the tasks."""
    version: str | None = Field(default=None, max_length=200)
    """Digest of another version that is to run the tasks, to reproduce what it made; of any datalab of the platform."""
    engine: Slug | None = None
    """The platform's default engine where nothing is said."""
    cpus: int = Field(default=1, ge=1)
    memory_mib: int = Field(default=1024, ge=16)
    gpus: int = Field(default=0, ge=0, le=64)
    time_s: int | None = Field(default=None, ge=1)
    """Longest that a task may run, in seconds of the clock; as long as it needs where nothing is said."""
    after: list[Slug] = Field(default_factory=list, max_length=100)
    """Jobs of the same person that must be done first."""
    team: Slug | None = None
    """The team it counts for; the person where nothing is said."""
    notify: bool | None = None
    """Whether to tell its end by mail or webhook; as the person has set it where nothing is said."""
    chunk: int | None = Field(default=None, ge=1)
    """Inputs per task; chosen for you where nothing is said."""
    retries: int = Field(default=1, ge=0, le=10)
    """How often a task whose process was killed is run again."""
    products: Path | None = None
    """The folder the tasks write products into, if they do."""


class JobCounts(Model):
    """How many inputs are where."""

    inputs: int
    done: int = 0
    failed: int = 0
    running: int = 0
    """Inputs of running tasks that have no result yet."""


class Job(Model):
    """One array of tasks on an engine."""

    id: Slug
    owner: str
    name: str
    state: JobState
    engine: Slug
    counts: JobCounts
    tasks: int
    chunk: int
    created: Time
    started: Time | None = None
    ended: Time | None = None
    reason: str | None = None
    """Why it waits, failed, was cancelled or runs again, in a sentence."""
    cpus: int = 1
    memory_mib: int = 1024
    gpus: int = 0
    time_s: int | None = None
    """What one task asks for."""
    after: list[Slug] = Field(default_factory=list)
    """Jobs that must be done before it starts."""
    team: Slug | None = None
    notify: bool | None = None
    core_hours: float = 0.0
    """What its tasks have used so far: cores asked for times hours of the clock."""
    source: str = ""
    session: Slug | None = None
    version: str
    """Digest of the datalab version that runs the tasks."""
    folder: Path
    products: Path | None = None
    attempt: int = 1
    """Counts the submits: 1 at first, one more at each retry or resume."""
    peak_memory_mib: int | None = None
    """The largest a task has grown so far."""
    ahead: int | None = None
    """While it waits in a scheduler's queue: how many tasks of others are before its first, where that is known."""
    waits: str | None = None
    """The same in a sentence."""


class TaskPlan(Model):
    """``job.json``: what a node needs to know."""

    tag: Slug
    """The job's id; the native job carries it too."""
    name: str
    inputs: int
    chunk: int
    tasks: int
    ranges: list[tuple[int, int]] | None = None
    """First input and the one after the last of each task, where tasks were cut anew; `chunk` of them each else."""
    budget_s: int | None = None
    """A task that has computed this long starts no further input: the rest is submitted again, cut anew."""
    cpus: int = 1
    memory_mib: int = 1024
    gpus: int = 0
    time_s: int | None = None
    retries: int = 1
    at_once: int = Field(default=2, ge=1)
    """Most tasks at a time."""
    only: list[int] | None = None
    """The tasks to run, where not all of them are to run (a retry)."""
    attempt: int = 1
    """Counts the submits, as `Job.attempt`."""
    resumes: int = 0
    """How often it was submitted again by itself since its owner last asked."""
    environment: dict[str, str] = Field(default_factory=dict)
    """What a task finds in its environment."""

    def task_inputs(self, task: int) -> range:
        """Return the numbers of the inputs that `task` computes."""
        if self.ranges is not None:
            return range(*self.ranges[task])
        return range(task * self.chunk, min((task + 1) * self.chunk, self.inputs))

    def task_of(self, number: int) -> int:
        """Return the task that computes an input."""
        if self.ranges is None:
            return number // self.chunk
        return next(task for task, (start, stop) in enumerate(self.ranges) if start <= number < stop)


class TaskEvent(Model):
    """A line of ``events.jsonl``."""

    task: int
    """Number of the task; -1 for an event of the whole job."""
    state: TaskState
    time: Time
    exit_code: int | None = None
    signal: int | None = None
    peak_memory_mib: int | None = None
    cpu_seconds: float | None = None
    attempt: int = 1
    """The run of the task, or for the whole job its submit."""
    message: str | None = None
    """Why the whole job failed, in a sentence."""


class TaskUsage(Model):
    """``usage/K-A.json``: what a task used, written by itself."""

    attempt: int = 1
    """The submit of the job that it belonged to."""
    host: str = ""
    seconds: float = 0.0
    """Of the clock, from the start of its process."""
    cpu_seconds: float = 0.0
    peak_memory_mib: int = 0
    inputs: int = 0
    """How many it has computed."""


class TaskFailure(Model):
    """``results/N.error``: why the function failed for one input."""

    input: int
    label: str
    error: str
    """The exception's class."""
    message: str
    line: str = ""
    """The line of the user's own code that raised, as ``function:line: text``."""
    traceback: str = ""
    task: int


class TaskFailureGroup(Model):
    """Failures that are alike: same error, same line."""

    error: str
    line: str
    example: TaskFailure
    inputs: list[int]
    """Numbers of the inputs, at most 1,000 of them."""
    count: int


class TaskGrid(Model):
    """The state of every task, small enough for 10,000 of them."""

    tasks: int
    runs: list[tuple[TaskState, int]]
    """Run lengths in task order: 3 done then 2 running is ``[("done", 3), ("running", 2)]``."""
    seconds_per_task: float | None = None
    """Mean of the tasks that have ended, where it is known."""
    per_minute: float | None = None
    """Inputs that got a result or failed per minute, lately."""
    seconds_left: float | None = None
    """How long it takes at this rate, while it runs."""
    cores_used: float | None = None
    """Cores that an ended task kept busy on average, where it is known."""
    hints: list[str] = Field(default_factory=list)
    """What to ask for next time, a sentence each."""

    def state(self, task: int) -> TaskState:
        """Return the state of one task."""
        before = 0
        for state, length in self.runs:
            before += length
            if task < before:
                return state
        return TaskState.QUEUED


class TaskInputs(Model):
    """What one task works on."""

    task: int
    state: TaskState
    count: int
    """How many inputs."""
    inputs: list[int]
    """Their numbers, at most 1,000 of them."""
    labels: list[str]
    """The text of each of these."""
    failed: list[int]
    """Those of them that failed."""
