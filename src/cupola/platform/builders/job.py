"""From a request to what the tasks run: pure, so that its tests are examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.models.base import now
from cupola.models.containers import CORES_INSIDE, JOB_LABEL, SESSION_LABEL
from cupola.models.job import Job, JobCounts, JobRequest, JobState, TaskPlan
from cupola.models.resources import Resources
from cupola.platform.builders.session import volume_variables, volumes_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cupola.models.packages import Contents
    from cupola.models.person import Person
    from cupola.models.session import ContainerPlan
    from cupola.models.volume import Mount

__all__ = [
    "TaskPlace",
    "choose_chunk",
    "job_container",
    "job_of",
    "misfit",
    "plan_again",
    "plan_of",
    "plan_rest",
    "task_environment",
]

SMALL_JOB = 128
"""Up to here each input is a task of its own: somebody watches it, and a process costs milliseconds."""
TASK_S = 60
"""Seconds that a task should last on a scheduler: starting one costs a tenth of a second and more there."""
TASKS_PER_CORE = 16
"""Enough that the cores end at about the same time, few enough that starting them costs nothing."""
TASKS_PER_SLOT = 1
"""The same on a scheduler, where starting one costs: what lasts too long is cut anew there, so nobody waits long for the last one."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GDAL_NUM_THREADS",
)
"""Libraries start a thread per core of the machine unless these say how many cores are theirs."""


def choose_chunk(inputs: int, *, at_once: int, supervised: bool = True) -> int:
    """Return how many inputs a task takes at first where nobody says it."""
    if inputs <= SMALL_JOB:
        return 1
    return -(-inputs // ((TASKS_PER_CORE if supervised else TASKS_PER_SLOT) * at_once))


def plan_of(
    request: JobRequest, job: str, *, at_once: int, environment: Mapping[str, str], supervised: bool = True
) -> TaskPlan:
    """Return what the nodes need to know of a new job.

    Parameters
    ----------
    request
        What was asked for.
    job
        The id.
    at_once
        Most tasks at a time.
    environment
        What `task_environment` returned.
    supervised
        Whether a process of ours stays with the tasks: it starts one in milliseconds. Else tasks are to last about a minute.
    """
    inputs = len(request.labels)
    chunk = min(request.chunk or choose_chunk(inputs, at_once=at_once, supervised=supervised), inputs)
    return TaskPlan(
        tag=job,
        name=request.name,
        inputs=inputs,
        chunk=chunk,
        tasks=-(-inputs // chunk),
        budget_s=None if supervised or request.chunk or chunk == 1 else TASK_S,
        cpus=request.cpus,
        memory_mib=request.memory_mib,
        gpus=request.gpus,
        time_s=request.time_s,
        retries=request.retries,
        at_once=at_once,
        environment=dict(environment),
    )


def job_of(person: Person, request: JobRequest, plan: TaskPlan, *, version: str, folder: Path) -> Job:
    """Return a new job.

    Parameters
    ----------
    person, request, plan
        Who wants what, and the tasks that became of it.
    version, folder
        What runs the tasks, and where.
    """
    return Job(
        id=plan.tag,
        owner=person.name,
        name=request.name,
        state=JobState.QUEUED,
        engine=request.engine or "local",
        counts=JobCounts(inputs=plan.inputs),
        tasks=plan.tasks,
        chunk=plan.chunk,
        cpus=plan.cpus,
        memory_mib=plan.memory_mib,
        gpus=plan.gpus,
        time_s=plan.time_s,
        after=request.after,
        team=request.team,
        notify=request.notify,
        created=now(),
        source=request.source,
        session=request.session,
        version=version,
        folder=folder,
        products=request.products,
    )


def plan_again(plan: TaskPlan, *, done: Iterable[int]) -> TaskPlan:
    """Return the plan of a retry: only the tasks that have an input without a result.

    Parameters
    ----------
    plan
        The plan so far.
    done
        The inputs that have a result.
    """
    have = set(done)
    only = [task for task in range(plan.tasks) if not have.issuperset(plan.task_inputs(task))]
    return plan.model_copy(update={"only": only, "attempt": plan.attempt + 1, "resumes": 0})


def plan_rest(plan: TaskPlan, *, settled: Iterable[int], seconds_per_input: float | None) -> TaskPlan:
    """Return the plan of another submit for the inputs that were not computed, cut so that a task lasts about a minute.

    Parameters
    ----------
    plan
        The plan so far.
    settled
        The inputs that have a result or a failure.
    seconds_per_input
        Mean so far; tasks stay as they are where it is not known, or where their owner has said how many inputs a task takes.
    """
    have = set(settled)
    again = {"attempt": plan.attempt + 1}
    if plan.budget_s is None or not seconds_per_input:
        only = [task for task in range(plan.tasks) if not have.issuperset(plan.task_inputs(task))]
        return plan.model_copy(update={**again, "only": only})
    left = plan.inputs - len(have)
    # Not so many that the last ones are waited for by idle cores.
    chunk = max(1, min(round(plan.budget_s / seconds_per_input), -(-left // plan.at_once)))
    ranges: list[tuple[int, int]] = []
    more: list[tuple[int, int]] = []
    only = []
    for task in range(plan.tasks):
        numbers = plan.task_inputs(task)
        first = next((number for number in numbers if number not in have), numbers.stop)
        pieces = [(start, min(start + chunk, numbers.stop)) for start in range(first, numbers.stop, chunk)]
        if first > numbers.start or not pieces:
            ranges.append((numbers.start, first))
        else:
            # Nothing of it was computed: it keeps its number.
            only.append(task)
            ranges.append(pieces.pop(0))
        more += pieces
    # A piece without anything left (there were gaps in what was computed) stays, so that each input has its task.
    begin = len(ranges)
    only += [begin + place for place, piece in enumerate(more) if not have.issuperset(range(*piece))]
    ranges += more
    return plan.model_copy(update={**again, "ranges": ranges, "tasks": len(ranges), "only": only})


def misfit(request: JobRequest, contents: Contents) -> str | None:
    """Return why tasks in a version could not run the function of a request, as the beginning of a sentence.

    Parameters
    ----------
    request
        It says which Python made the function, and which packages that uses.
    contents
        What the version holds.
    """
    if contents.python is not None and contents.python != request.python:
        return f"The function was made by Python {request.python} and the tasks would run Python {contents.python}"
    for name, release in sorted(request.packages.items()):
        there = contents.packages.get(name)
        if there is None:
            return f"The function uses {name} {release}, which the tasks would not have"
        if _series(there) != _series(release):
            return f"The function uses {name} {release} and the tasks would have {name} {there}"
    return None


def _series(release: str) -> list[str]:
    """Return what releases that behave alike share: the first number, and below 1 the second too."""
    numbers = release.split(".")
    return numbers[:2] if numbers[0] == "0" else numbers[:1]


@dataclass(frozen=True)
class TaskPlace:
    """What a task finds around it."""

    home: Path
    python: Path
    """The interpreter that runs it."""
    version: str
    """Digest of the datalab version that the interpreter belongs to."""
    path: str
    """The platform's own ``PATH``."""
    language: str
    engine: str
    """The name of the engine that runs it, for the provenance of what it writes."""


def task_environment(place: TaskPlace, *, cpus: int, mounts: Sequence[Mount]) -> dict[str, str]:
    """Return all that a task finds in its environment: no token is among it.

    Parameters
    ----------
    place
        What is around the task.
    cpus
        How many cores it may use.
    mounts
        The volumes it sees.
    """
    return {
        **volume_variables(mounts),
        "HOME": str(place.home),
        "PATH": f"{place.python.parent}:{place.path}",
        "LANG": place.language,
        "CUPOLA_VOLUMES": volumes_text(mounts),
        "CUPOLA_VERSION": place.version,
        "CUPOLA_ENGINE": place.engine,
        "CUPOLA_PYTHON": str(place.python),
        "CUPOLA_RUNTIME": str(place.home / ".cupola"),
        **dict.fromkeys(THREAD_VARIABLES, str(cpus)),
    }


def job_container(session: ContainerPlan, *, folder: Path, python: Path, plan: TaskPlan) -> ContainerPlan:
    """Return the container of a job: that of a session of its owner, with another program and no way into the platform.

    Its resources are those of one task; the engine says how many of them it gets.

    Parameters
    ----------
    session
        How a session of the same version is started.
    folder, python
        The job's folder and the interpreter, as they are found inside.
    plan
        What the tasks are.
    """
    pool = [str(python), "-P", "-m", "cupola.lab.pool", str(folder), CORES_INSIDE]
    labels = {name: value for name, value in session.labels.items() if name != SESSION_LABEL}
    return session.model_copy(
        update={
            "name": f"{session.name.removesuffix(session.labels.get(SESSION_LABEL, ''))}{plan.tag}",
            # The log lies in the owner's home: written by the owner's own program, not by the platform.
            "command": ["/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1', str(folder / "log" / "pool.out"), *pool],
            "environment": {**plan.environment, "CUPOLA_JOB": plan.tag},
            "folder": folder,
            "folders": [],
            "resources": Resources(cores=plan.cpus, memory_mib=plan.memory_mib),
            "gpus": [],
            "publish": False,
            "labels": {**labels, JOB_LABEL: plan.tag},
        }
    )
