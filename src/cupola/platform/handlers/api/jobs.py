"""Jobs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from cupola.models.base import Page
from cupola.models.job import Job, JobAction, JobRequest, TaskFailureGroup, TaskGrid, TaskInputs
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, Limit, PersonIn
from cupola.platform.handlers.streams import EVENT_STREAM, event_stream, file_parts

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="The job's id.", examples=["job-1f0c9a72be"])]
Seen = Annotated[str | None, Header(alias="If-None-Match", description="The `ETag` of the answer before.")]
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "As it was at the last look."}}
RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "cloudpickle of the result.", "content": {"application/octet-stream": {}}}
}


@router.post("", status_code=202, summary="Start a job")
async def submit(request: JobRequest, person: PersonIn, factory: FactoryIn) -> Job:
    """Run a function over many inputs; `cupola.map` in a notebook makes the request."""
    return await factory.jobs.submit(person, request)


@router.get("", summary="Your jobs")
async def jobs(person: PersonIn, factory: FactoryIn, cursor: Cursor = None, limit: Limit = 50) -> Page[Job]:
    """Return your jobs, ended ones too, the newest first."""
    return await factory.jobs.jobs(person, cursor=cursor, limit=limit)


@router.get("/{job_id}", summary="One job")
async def job(job_id: JobId, person: PersonIn, factory: FactoryIn) -> Job:
    """Return one of your jobs."""
    return await factory.jobs.job(person, job_id)


@router.get("/{job_id}/grid", response_model=TaskGrid, responses=UNCHANGED, summary="The state of each task")
async def job_grid(job_id: JobId, person: PersonIn, factory: FactoryIn, seen: Seen = None) -> Response:
    """Return the states of all tasks as run lengths, rate, time left and hints; ask again with what `ETag` said."""
    # Whoever follows a job asks every second, and mostly nothing has changed.
    body = (await factory.jobs.grid(person, job_id)).model_dump_json().encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if seen == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/{job_id}/failures", summary="Why inputs failed")
async def job_failures(job_id: JobId, person: PersonIn, factory: FactoryIn) -> list[TaskFailureGroup]:
    """Return the failures, alike ones together, the most frequent first."""
    return await factory.jobs.failures(person, job_id)


@router.get("/{job_id}/tasks/{task}", summary="What a task works on")
async def job_task(job_id: JobId, task: int, person: PersonIn, factory: FactoryIn) -> TaskInputs:
    """Return a task's state and its inputs."""
    return await factory.jobs.task(person, job_id, task)


@router.get("/{job_id}/tasks/{task}/log", response_class=PlainTextResponse, summary="What a task printed")
async def job_log(job_id: JobId, task: int, person: PersonIn, factory: FactoryIn) -> str:
    """Return what a task has printed so far, at most its last MiB."""
    return await factory.jobs.log(person, job_id, task)


@router.get(
    "/{job_id}/inputs/{number}/log",
    response_class=PlainTextResponse,
    summary="What the task of an input printed",
)
async def job_input_log(job_id: JobId, number: int, person: PersonIn, factory: FactoryIn) -> str:
    """Return what the task has printed that computes an input: tasks may be cut anew while a job runs."""
    return await factory.jobs.log_of_input(person, job_id, number)


@router.get("/{job_id}/results/{number}", response_class=Response, responses=RESULT, summary="A result")
async def job_result(job_id: JobId, number: int, person: PersonIn, factory: FactoryIn) -> StreamingResponse:
    """Return the pickled result of an input."""
    file = await factory.jobs.result(person, job_id, number)
    # The open file, not its name: its owner could put another one there meanwhile.
    return StreamingResponse(
        file_parts(file),
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{number}.pkl"'},
    )


@router.post("/{job_id}/{action}", status_code=202, summary="Cancel, hold, release or retry")
async def act(job_id: JobId, action: JobAction, person: PersonIn, factory: FactoryIn) -> Job:
    """Control a job; `retry` runs only what failed or was cancelled."""
    return await factory.jobs.act(person, job_id, action)


@router.delete("/{job_id}", status_code=204, summary="Forget a job")
async def delete_job(job_id: JobId, person: PersonIn, factory: FactoryIn) -> None:
    """Forget a job that ended, with its results; products stay."""
    await factory.jobs.delete(person, job_id)


@router.get("/{job_id}/events", responses=EVENT_STREAM, summary="Follow a job")
async def job_events(job_id: JobId, person: PersonIn, factory: FactoryIn) -> StreamingResponse:
    """Send an event `job` at each change, until the job has ended."""
    await factory.jobs.job(person, job_id)
    return event_stream("job", factory.jobs.events(person, job_id))
