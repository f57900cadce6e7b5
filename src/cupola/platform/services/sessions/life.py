"""The life of a session as pure rules: which step may follow which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError
from cupola.models.session import EndCause, Session, SessionEnd, SessionEvent, SessionState

if TYPE_CHECKING:
    from datetime import datetime

    from cupola.platform.storage.database.sessions import Step

__all__ = [
    "first_event",
    "since_start",
    "step_aside",
    "step_hibernated",
    "step_note",
    "step_to",
    "step_woken",
]

_ORDER = {state: place for place, state in enumerate(SessionState)}
_FULL = 100


def step_to(  # noqa: PLR0913 - all that can be known of a step; each by its name
    state: SessionState,
    message: str,
    *,
    at: datetime,
    progress: int | None = None,
    reason: str | None = None,
    end: SessionEnd | None = None,
) -> Step:
    """Return the step that takes a session to `state`, or leaves it where that would be a step back.

    Hub, spawner and people tell of one session at the same time and in any order: what comes late changes nothing,
    and the first reason for an end stays.

    Parameters
    ----------
    state, message
        The new state, and what to tell people.
    at
        When.
    progress
        In per cent; it never goes back.
    reason
        Why it ended.
    end
        How it ended. It is kept even if it comes when the session has ended already: the hub may have told first
        that it is gone, and only the spawner knows why.
    """

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent | None] | None:
        target = state
        if session.state is SessionState.STOPPING and state is SessionState.FAILED:
            # Its owner stopped it while it started: that it did not get ready is no failure then.
            target = SessionState.STOPPED
        if not session.state.active:
            return _told_late(session, end, reason)
        if _ORDER[target] < _ORDER[session.state]:
            return None
        if target is session.state and (target is not SessionState.STARTING or message == last.message):
            return None
        forward = max(last.progress, _FULL if _ORDER[target] >= _ORDER[SessionState.READY] else progress or 0)
        changes: dict[str, object] = {"state": target}
        if target is SessionState.READY:
            changes["started"] = at
        if not target.active:
            changes["stopped"] = at
        if reason is not None and session.reason is None:
            changes["reason"] = reason
        if end is not None:
            changes["end"] = end
        return session.model_copy(update=changes), _event(last, target, message, at, forward)

    return step


def step_aside(message: str, *, at: datetime, reason: str) -> Step:
    """Return the step by which a session makes room for the one that takes its place; one that ended is out of the way.

    Raises
    ------
    ConflictError
        By the step, if somebody stops the session already.
    """

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent | None] | None:
        if session.state is SessionState.STOPPING:
            raise ConflictError(f"{session.title} is just being stopped: restart it when it has ended.")
        if not session.state.active:
            return None
        after = session.model_copy(
            update={"state": SessionState.STOPPING, "reason": session.reason or reason}
        )
        return after, _event(last, SessionState.STOPPING, message, at, _FULL)

    return step


def step_hibernated(message: str, *, at: datetime, reason: str) -> Step:
    """Return the step by which a running session begins to be hibernated; one that ended meanwhile stays as it is."""

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent | None] | None:
        if session.state is not SessionState.READY:
            return None
        changes = {"state": SessionState.STOPPING, "reason": reason, "hibernated": at}
        return session.model_copy(update=changes), _event(last, SessionState.STOPPING, message, at, _FULL)

    return step


def step_woken(new: Session, message: str, *, at: datetime) -> Step:
    """Return the step by which a hibernated session begins anew, with what `new` says; one that was woken stays as it is.

    It remains the same session: who has its address open, or was given a share, goes on with it.
    """

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent | None] | None:
        if session.hibernated is None or session.state.active:
            return None
        kept = {"created": session.created, "title": session.title, "last_activity": session.last_activity}
        return new.model_copy(update=kept), _event(last, SessionState.REQUESTED, message, at, 0)

    return step


def step_note(message: str, *, at: datetime) -> Step:
    """Return the step that notes something in a session that goes on: as an event each time, among its notices once."""

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent | None] | None:
        if session.state is not SessionState.READY:
            return None
        notices = session.notices if message in session.notices else [*session.notices, message]
        after = session.model_copy(update={"notices": notices})
        return after, _event(last, session.state, message, at, _FULL)

    return step


def first_event(session: Session) -> SessionEvent:
    """Return what is told first of a new session."""
    return SessionEvent(
        session=session.id,
        number=1,
        time=session.created,
        state=session.state,
        message="Asking the hub for a place",
        progress=0,
    )


def since_start(events: list[SessionEvent]) -> list[SessionEvent]:
    """Leave out what was before a session was woken last."""
    starts = [place for place, event in enumerate(events) if event.state is SessionState.REQUESTED]
    return events[starts[-1] :] if starts else events


def _told_late(session: Session, end: SessionEnd | None, reason: str | None) -> tuple[Session, None] | None:
    """Add to a session that ended how it did, if nobody told before."""
    if end is None or session.end is not None:
        return None
    changes: dict[str, object] = {"end": end}
    if end.cause is not EndCause.ASKED and session.state is SessionState.FAILED:
        changes["reason"] = reason or session.reason
    return session.model_copy(update=changes), None


def _event(
    last: SessionEvent, state: SessionState, message: str, at: datetime, progress: int
) -> SessionEvent:
    return SessionEvent(
        session=last.session,
        number=last.number + 1,
        time=at,
        state=state,
        message=message,
        progress=progress,
    )
