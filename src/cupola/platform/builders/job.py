"""From a request to what the tasks run: pure, so that its tests are examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.models.containers import CORES_INSIDE, JOB_LABEL, SESSION_LABEL
from cupola.models.job import JobRequest, TaskPlan
from cupola.models.resources import Resources
from cupola.platform.builders.session import volume_variables, volumes_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cupola.models.session import ContainerPlan
    from cupola.models.volume import Mount

__all__ = [
    "TaskPlace",
    "choose_chunk",
    "job_container",
    "plan_again",
    "plan_of",
    "task_environment",
]

SMALL_JOB = 128
"""Up to here each input is a task of its own: somebody watches it, and a process costs milliseconds."""
TASKS_PER_CORE = 16
"""Enough that the cores end at about the same time, few enough that starting them costs nothing."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GDAL_NUM_THREADS",
)
"""Libraries start a thread per core of the machine unless these say how many cores are theirs."""


def choose_chunk(inputs: int, *, at_once: int) -> int:
    """Return how many inputs a task takes where nobody says it."""
    if inputs <= SMALL_JOB:
        return 1
    return -(-inputs // (TASKS_PER_CORE * at_once))


def plan_of(request: JobRequest, job: str, *, at_once: int, environment: Mapping[str, str]) -> TaskPlan:
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
    """
    inputs = len(request.labels)
    chunk = min(request.chunk or choose_chunk(inputs, at_once=at_once), inputs)
    return TaskPlan(
        tag=job,
        name=request.name,
        inputs=inputs,
        chunk=chunk,
        tasks=-(-inputs // chunk),
        cpus=request.cpus,
        memory_mib=request.memory_mib,
        retries=request.retries,
        at_once=at_once,
        environment=dict(environment),
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
