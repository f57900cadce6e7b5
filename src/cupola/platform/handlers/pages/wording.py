"""How the pages say times, sizes and states: plain words, the exact value on hover."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cupola.models.base import now
from cupola.models.job import JobState
from cupola.models.session import Session, SessionState

__all__ = [
    "JOB_STATES",
    "SESSION_STATES",
    "Said",
    "ago",
    "clock",
    "exact",
    "money",
    "size",
    "soon",
    "span",
    "state_of",
]

_TEN, _MINUTE, _HOUR, _DAY = 10, 60, 3600, 86400
_KIB = 1024


class Said(NamedTuple):
    """A state in a word, and the tone it is shown in (a class of the status pill)."""

    word: str
    tone: str


SESSION_STATES = {
    SessionState.REQUESTED: Said("Waiting", "run"),
    SessionState.STARTING: Said("Starting", "run"),
    SessionState.READY: Said("Ready", "ok"),
    SessionState.STOPPING: Said("Stopping", "run"),
    SessionState.STOPPED: Said("Stopped", "idle"),
    SessionState.FAILED: Said("Failed", "bad"),
}

JOB_STATES = {
    JobState.QUEUED: Said("Waiting", "idle"),
    JobState.RUNNING: Said("Running", "run"),
    JobState.HELD: Said("On hold", "warn"),
    JobState.DONE: Said("Done", "ok"),
    JobState.PARTLY_FAILED: Said("Partly failed", "warn"),
    JobState.FAILED: Said("Failed", "bad"),
    JobState.CANCELLED: Said("Cancelled", "idle"),
}


HIBERNATING, HIBERNATED = Said("Hibernating", "run"), Said("Hibernated", "idle")


def state_of(session: Session) -> Said:
    """Return the state of a session, where a stopped one may be hibernated."""
    if session.hibernated is None or session.state is SessionState.FAILED:
        return SESSION_STATES[session.state]
    return HIBERNATING if session.state.active else HIBERNATED


def soon(seconds: float) -> str:
    """Return how long it is until something comes; not to the second, so that a page need not change each time."""
    if seconds < _TEN:
        return "now"
    if seconds < _MINUTE:
        return f"in {_whole(seconds / _TEN) * _TEN} s"
    if seconds < _HOUR:
        return f"in {_whole(seconds / _MINUTE)} min"
    return f"in {seconds / _HOUR:.2g} h"


def ago(time: datetime) -> str:
    """Return how long ago `time` was; from two weeks on, its date. ``static/js/cupola.js`` uses the same words."""
    seconds = (now() - time).total_seconds()
    if seconds < 45:  # noqa: PLR2004 - also a clock that is a little ahead
        return "just now"
    if (minutes := max(1, _whole(seconds / _MINUTE))) < 60:  # noqa: PLR2004
        return f"{minutes} min ago"
    if (hours := _whole(seconds / _HOUR)) < 24:  # noqa: PLR2004
        return f"{hours} h ago"
    if (days := _whole(seconds / _DAY)) == 1:
        return "yesterday"
    if days < 14:  # noqa: PLR2004
        return f"{days} days ago"
    return f"{time.day} {time:%b %Y}"


def exact(time: datetime) -> str:
    """Return `time` to the second, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(time: datetime) -> str:
    """Return the time of the day of `time`, in UTC."""
    return f"{time.astimezone(UTC):%H:%M:%S}"


def span(length: timedelta | float) -> str:
    """Return a length of time (seconds, if a number) in its two largest units."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds < 10:  # noqa: PLR2004
        return f"{max(0.0, seconds):.1f} s"
    whole = _whole(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def size(count: int) -> str:
    """Return a number of bytes with three digits, in units of 1024."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < _KIB:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"  # noqa: PLR2004
        value /= _KIB
    return f"{value:,.1f} PiB"


def money(amount: float, currency: str) -> str:
    """Return an amount of money: two digits after the point, or as many as it takes to see the first."""
    digits = 2 if amount == 0 or amount >= 0.01 else 4  # noqa: PLR2004
    return f"{amount:,.{digits}f} {currency}"


def _whole(value: float) -> int:
    """Round as JavaScript does, so that server and browser say the same."""
    return int(value + 0.5)


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large} {large_name}" + (f" {rest} {small_name}" if rest else "")
