"""The life of a session as pure rules: which step may follow which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.models.session import Session, SessionEvent, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["step_to"]

_ORDER = {state: place for place, state in enumerate(SessionState)}
_FULL = 100


def step_to(
    state: SessionState,
    message: str,
    *,
    at: datetime,
    progress: int | None = None,
    reason: str | None = None,
) -> Callable[[Session, SessionEvent], tuple[Session, SessionEvent] | None]:
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
    """

    def step(session: Session, last: SessionEvent) -> tuple[Session, SessionEvent] | None:
        target = state
        if session.state is SessionState.STOPPING and state is SessionState.FAILED:
            # Its owner stopped it while it started: that it did not get ready is no failure then.
            target = SessionState.STOPPED
        if not session.state.active or _ORDER[target] < _ORDER[session.state]:
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
        event = SessionEvent(
            session=session.id,
            number=last.number + 1,
            time=at,
            state=target,
            message=message,
            progress=forward,
        )
        return session.model_copy(update=changes), event

    return step
