"""Sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Query
from fastapi.responses import PlainTextResponse, StreamingResponse

from cupola.models.activity import Activity, PlannedStop
from cupola.models.base import Page
from cupola.models.resources import Usage
from cupola.models.session import ComputingNotebooks, LaunchRequest, RestartRequest, Session, SessionChange
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, Limit, PersonIn
from cupola.platform.handlers.streams import EVENT_STREAM, event_stream

__all__ = ["router"]

router = APIRouter(prefix="/sessions", tags=["sessions"])

SessionId = Annotated[str, Path(description="The session's id.", examples=["lab-7k2m9xq4"])]
Launch = Annotated[
    LaunchRequest,
    Body(
        openapi_examples={
            "play": {
                "summary": "The recommended version with the usual volumes",
                "value": {"datalab": "lab"},
            },
            "choices": {
                "summary": "A version, a size, data and variables of your choice",
                "value": {
                    "datalab": "lab",
                    "version": "sha256:" + "3f9a1c0b77de" + "0" * 52,
                    "title": "Dust storms of year 34",
                    "resources": {"cores": 2, "memory_mib": 8192},
                    "volumes": ["sample-archive"],
                    "environment": {"GDAL_CACHEMAX": "512"},
                    "clean": True,
                },
            },
        }
    ),
]
Restart = Annotated[
    RestartRequest | None,
    Body(
        openapi_examples={
            "same": {"summary": "As it was", "value": {}},
            "bigger": {
                "summary": "With more memory",
                "value": {"resources": {"cores": 2, "memory_mib": 16384}},
            },
            "version": {
                "summary": "In another version",
                "value": {"version": "sha256:" + "3f9a1c0b77de" + "0" * 52},
            },
        }
    ),
]
Change = Annotated[
    SessionChange,
    Body(
        openapi_examples={"title": {"summary": "Another title", "value": {"title": "Dust storms of year 34"}}}
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any text; a second request with the same one returns the first one's session.",
        min_length=1,
        max_length=64,
    ),
]
Wait = Annotated[
    float,
    Query(
        description="The answer may be held back for so many seconds, until there is something to say.",
        ge=0,
        le=60,
    ),
]
LastEvent = Annotated[
    int, Header(alias="Last-Event-ID", description="Number of the last event you got; 0 for all.", ge=0)
]


@router.post("", status_code=202, summary="Launch a datalab")
async def launch(request: Launch, person: PersonIn, factory: FactoryIn, key: Key = None) -> Session:
    """Begin a session. Follow its events until it is ready, then go to its `url`."""
    return await factory.sessions.launch(person, request, key=key)


@router.get("", summary="Your sessions")
async def sessions(
    person: PersonIn, factory: FactoryIn, cursor: Cursor = None, limit: Limit = 50
) -> Page[Session]:
    """Return your sessions, ended ones too, the newest first."""
    return await factory.sessions.sessions(person, cursor=cursor, limit=limit)


@router.get("/{session_id}", summary="One session")
async def session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Return one of your sessions; while it runs, with what it uses."""
    return await factory.sessions.session(person, session_id)


@router.patch("/{session_id}", summary="Rename a session")
async def change_session(
    session_id: SessionId, change: Change, person: PersonIn, factory: FactoryIn
) -> Session:
    """Give a session another title."""
    return await factory.sessions.rename(person, session_id, change.title)


@router.post("/{session_id}/restart", status_code=202, summary="Restart a session")
async def restart_session(
    session_id: SessionId, person: PersonIn, factory: FactoryIn, restart: Restart = None
) -> Session:
    """Begin a new session with the same choices, on exactly the same version where you name no other one.

    This one is stopped if it still runs; it is asked to write down its variables first.
    """
    resources, version = (restart.resources, restart.version) if restart else (None, None)
    return await factory.sessions.restart(person, session_id, resources, version)


@router.get("/{session_id}/usage", summary="What a session uses")
async def session_usage(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Usage:
    """Return the cores and the memory that a running session uses just now."""
    return await factory.sessions.usage(person, session_id)


@router.get("/{session_id}/log", response_class=PlainTextResponse, summary="A session's output")
async def session_log(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> str:
    """Return the end of what a session's own server printed."""
    return await factory.sessions.log(person, session_id)


@router.post("/{session_id}/stop", status_code=202, summary="Stop a session")
async def stop_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Begin to stop a session; what is saved in the home stays."""
    return await factory.sessions.stop(person, session_id)


@router.put("/{session_id}/computing", status_code=204, summary="Say which notebooks compute")
async def tell_computing(
    session_id: SessionId, computing: ComputingNotebooks, person: PersonIn, factory: FactoryIn
) -> None:
    """Say which notebooks have a cell that runs just now. Sessions do this themselves; it is shown before they are stopped."""
    factory.computing.tell(await factory.sessions.session(person, session_id), computing.notebooks)


@router.put("/{session_id}/activity", summary="Say what goes on in a session")
async def tell_activity(
    session_id: SessionId, activity: Activity, person: PersonIn, factory: FactoryIn, wait: Wait = 0
) -> PlannedStop | None:
    """Say what goes on in a session, and learn which stop is announced to it, if one is. Sessions do this themselves."""
    session = await factory.sessions.own(person, session_id)
    factory.computing.tell(session, activity.busy)
    return await factory.idle.tell(session, activity, wait)


@router.post("/{session_id}/keep", summary="Put off the stop of a session")
async def keep_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Withdraw the announced hibernation; it is counted anew how long nothing goes on in the session."""
    return await factory.idle.keep(person, session_id)


@router.post("/{session_id}/hibernate", status_code=202, summary="Hibernate a session")
async def hibernate_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Begin to write down the session's variables and to stop it; wake it when you need it again."""
    return await factory.idle.hibernate(person, session_id)


@router.post("/{session_id}/wake", status_code=202, summary="Wake a session")
async def wake_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Let a hibernated session begin anew with its choices and variables, under the same id. Asking twice does it once."""
    return await factory.idle.wake(person, session_id)


@router.delete("/{session_id}", status_code=204, summary="Forget a session")
async def delete_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> None:
    """Forget a session that ended."""
    await factory.sessions.delete(person, session_id)


@router.get("/{session_id}/events", responses=EVENT_STREAM, summary="Follow a session")
async def session_events(
    session_id: SessionId, person: PersonIn, factory: FactoryIn, last: LastEvent = 0
) -> StreamingResponse:
    """Send an event `session-event` per step, until the session is ready or ended."""
    await factory.sessions.session(person, session_id)
    events = factory.sessions.events(person, session_id, after=last)
    return event_stream("session-event", events, number=lambda event: event.number)
