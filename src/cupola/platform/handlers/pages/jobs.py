"""Jobs: the list, one job with its tasks and failures, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from cupola.models.job import Job, JobAction, JobState
from cupola.models.person import Person
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, PersonIn
from cupola.platform.handlers.pages.pace import Pace
from cupola.platform.handlers.pages.render import answer_part, page, part

__all__ = ["router"]

router = APIRouter()

_SAID = {
    "cancel": "The job is being cancelled; what is done stays.",
    "hold": "The job is on hold: no further task starts until you release it.",
    "release": "The job goes on.",
    "retry": "What had no result runs again.",
    "deleted": "The job and its results are deleted; products stay.",
}
_SHOWN_INPUTS = 20
_ENDED_BADLY = (JobState.FAILED, JobState.PARTLY_FAILED)
_FILTERS: dict[str, tuple[str, tuple[JobState, ...]]] = {
    "": ("All", ()),
    "active": ("Not ended", tuple(state for state in JobState if state.active)),
    "running": ("Running", (JobState.RUNNING,)),
    "queued": ("Waiting", (JobState.QUEUED,)),
    "held": ("On hold", (JobState.HELD,)),
    "done": ("Done", (JobState.DONE,)),
    "failed": ("Failed, also partly", _ENDED_BADLY),
    "cancelled": ("Cancelled", (JobState.CANCELLED,)),
}


@dataclass(frozen=True)
class Wish:
    """Which jobs the list shows."""

    state: str = ""
    text: str = ""

    @property
    def query(self) -> str:
        """The part of an address that says so; empty for all."""
        said = {"state": self.state, "text": self.text}
        return urlencode({name: value for name, value in said.items() if value})


def _wish(state: str = "", text: Annotated[str, Query(max_length=100)] = "") -> Wish:
    """Return what is wished for; a state that nobody knows is none."""
    return Wish(state if state in _FILTERS else "", text.strip())


WishIn = Annotated[Wish, Depends(_wish)]


@router.get("/jobs")
async def jobs(  # noqa: PLR0913, PLR0917 - what the query holds
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    wish: WishIn,
    cursor: Cursor = None,
    said: str = "",
) -> HTMLResponse:
    """Show your jobs, or those that are wished for."""
    live = await _jobs_part(request, person, factory, wish, cursor)
    filters = {name: label for name, (label, _) in _FILTERS.items()}
    return page(
        request, "jobs.html", person=person, live=live, wish=wish, filters=filters, said=_SAID.get(said, "")
    )


@router.get("/jobs/live")
async def jobs_live(  # noqa: PLR0913, PLR0917 - what the query holds
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    wish: WishIn,
    cursor: Cursor = None,
    seen: str = "",
) -> Response:
    """Return the list alone, if it is another than the one `seen`."""
    return answer_part(await _jobs_part(request, person, factory, wish, cursor), seen)


@router.get("/jobs/{job_id}")
async def job(
    job_id: str, request: Request, person: PersonIn, factory: FactoryIn, said: str = ""
) -> HTMLResponse:
    """Show one job."""
    shown = await factory.jobs.job(person, job_id)
    datalabs = await factory.catalogue.datalabs()
    return page(
        request,
        "job.html",
        person=person,
        job=shown,
        live=await _job_part(request, person, factory, shown),
        failures=await _failures_part(request, person, factory, shown),
        labels={version.digest: version.label for lab in datalabs for version in lab.versions},
        said=_SAID.get(said, ""),
    )


@router.get("/jobs/{job_id}/live")
async def job_live(
    job_id: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return the job's progress alone, if it is another than the one `seen`."""
    shown = await factory.jobs.job(person, job_id)
    return answer_part(await _job_part(request, person, factory, shown), seen)


@router.get("/jobs/{job_id}/failures")
async def failures(
    job_id: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return the job's failures alone, if they are others than those `seen`."""
    shown = await factory.jobs.job(person, job_id)
    return answer_part(await _failures_part(request, person, factory, shown), seen)


@router.get("/jobs/{job_id}/tasks")
async def find_task(job_id: str, factory: FactoryIn, task: Annotated[int, Query(ge=0)]) -> RedirectResponse:
    """Go to the log of the task that was asked for."""
    return _to(factory, f"jobs/{job_id}/tasks/{task}")


@router.get("/jobs/{job_id}/tasks/{task}")
async def task_log(
    job_id: str, task: int, request: Request, person: PersonIn, factory: FactoryIn
) -> HTMLResponse:
    """Show what a task printed."""
    shown = await factory.jobs.job(person, job_id)
    live = await _log_part(request, person, factory, shown, task)
    works = await factory.jobs.task(person, job_id, task)
    return page(
        request,
        "task-log.html",
        person=person,
        job=shown,
        task=task,
        works=works,
        most=_SHOWN_INPUTS,
        live=live,
    )


@router.get("/jobs/{job_id}/tasks/{task}/live")
async def task_log_live(  # noqa: PLR0913, PLR0917 - what the address and the query hold
    job_id: str, task: int, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return the log alone, if it is another than the one `seen`."""
    shown = await factory.jobs.job(person, job_id)
    return answer_part(await _log_part(request, person, factory, shown, task), seen)


@router.post("/jobs/{job_id}/act")
async def act(
    job_id: str, person: PersonIn, factory: FactoryIn, action: Annotated[JobAction, Form()]
) -> RedirectResponse:
    """Cancel, hold, release or retry a job."""
    await factory.jobs.act(person, job_id, action)
    return _to(factory, f"jobs/{job_id}?said={action}")


@router.post("/jobs/{job_id}/delete")
async def delete(job_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Forget an ended job with its results."""
    await factory.jobs.delete(person, job_id)
    return _to(factory, "jobs?said=deleted")


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


def _every(job: Job) -> str | None:
    """Return how often to look: a held job changes only when somebody releases it."""
    if not job.state.active:
        return None
    return "6s" if job.state is JobState.HELD else "2s"


async def _jobs_part(
    request: Request, person: Person, factory: Factory, wish: Wish, cursor: str | None
) -> Markup:
    found = await factory.jobs.jobs(person, cursor=cursor, states=_FILTERS[wish.state][1], text=wish.text)
    query = "&".join(said for said in (wish.query, f"cursor={cursor}" if cursor else "") if said)
    return part(
        request,
        "parts/jobs.html",
        person=person,
        name="jobs",
        address="jobs/live" + (f"?{query}" if query else ""),
        every="2s" if any(job.state.active for job in found.items) else "10s",
        jobs=found.items,
        paces={job.id: Pace.of(job, factory.jobs.per_minute(job)) for job in found.items},
        wish=wish,
        first=cursor is None,
        next=found.next,
    )


async def _job_part(request: Request, person: Person, factory: Factory, job: Job) -> Markup:
    grid = await factory.jobs.grid(person, job.id)
    counts: dict[str, int] = {}
    for state, length in grid.runs:
        counts[state] = counts.get(state, 0) + length
    return part(
        request,
        "parts/job.html",
        person=person,
        name="job",
        address=f"jobs/{job.id}/live",
        every=_every(job),
        job=job,
        grid=grid,
        runs=",".join(f"{state} {length}" for state, length in grid.runs),
        states=counts,
        pace=Pace.of(job, grid.per_minute),
        meanings=_meanings(job),
    )


def _meanings(job: Job) -> dict[str, tuple[bool, str]]:
    """Return for each button whether it can be used now, and what it does; the panel says the same."""
    active, complete = job.state.active, job.counts.done >= job.counts.inputs
    can = {
        JobAction.HOLD: (active and job.state is not JobState.HELD, "It does not wait or run now."),
        JobAction.RELEASE: (job.state is JobState.HELD, "It is not on hold."),
        JobAction.RETRY: (
            not active and not complete,
            "It has not ended." if active else "Every input has its result.",
        ),
        JobAction.CANCEL: (active, "It has ended."),
    }
    return {
        str(action): (usable, action.meaning if usable else f"{action.meaning} Not now: {why}")
        for action, (usable, why) in can.items()
    }


async def _failures_part(request: Request, person: Person, factory: Factory, job: Job) -> Markup:
    return part(
        request,
        "parts/failures.html",
        person=person,
        name="failures",
        address=f"jobs/{job.id}/failures",
        every="4s" if job.state.active else None,
        job=job,
        groups=await factory.jobs.failures(person, job.id) if job.counts.failed else [],
        most=_SHOWN_INPUTS,
    )


async def _log_part(request: Request, person: Person, factory: Factory, job: Job, task: int) -> Markup:
    return part(
        request,
        "parts/log.html",
        person=person,
        name="log",
        address=f"jobs/{job.id}/tasks/{task}/live",
        every="3s" if job.state.active else None,
        text=await factory.jobs.log(person, job.id, task),
        active=job.state.active,
    )
