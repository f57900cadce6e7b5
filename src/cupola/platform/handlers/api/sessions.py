"""Sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Path
from fastapi.responses import StreamingResponse

from cupola.models.base import Page
from cupola.models.session import LaunchRequest, Session
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, Limit, PersonIn
from cupola.platform.handlers.streams import EVENT_STREAM, event_stream

__all__ = ["router"]

router = APIRouter(prefix="/sessions", tags=["sessions"])

SessionId = Annotated[str, Path(description="The session's id.", examples=["lab-7k2m9xq4"])]
Launch = Annotated[
    LaunchRequest,
    Body(
        openapi_examples={
            "play": {"summary": "The recommended version with the usual volumes", "value": {"datalab": "lab"}}
        }
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
    """Return one of your sessions."""
    return await factory.sessions.session(person, session_id)


@router.post("/{session_id}/stop", status_code=202, summary="Stop a session")
async def stop_session(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Session:
    """Begin to stop a session; what is saved in the home stays."""
    return await factory.sessions.stop(person, session_id)


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
