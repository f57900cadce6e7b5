"""What people are told of planned stops: why, and what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.models.activity import StopKind
from cupola.models.notification import SessionNotice

if TYPE_CHECKING:
    from cupola.models.activity import SnapshotTold
    from cupola.models.session import Session

__all__ = ["length_text", "notice_of", "reason_after", "reason_before", "what_is_kept"]

_MINUTE, _HOUR = 60, 3600
_WAKE = "wake it when you need it."


def length_text(seconds: float) -> str:
    """Return a length of time as it is set, such as ``12 h`` or ``10 min``."""
    for unit, name in ((_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.0f} s"


def notice_of(session: Session, kind: StopKind, text: str, left: float | None) -> SessionNotice:
    """Return what the owner of a session is told.

    Parameters
    ----------
    session, kind
        Which session, and what kind of stop.
    text
        Why, and what is kept.
    left
        How many seconds from now; nothing: it has happened.
    """
    name = " ".join("".join(c if c.isprintable() else " " for c in session.title).split()) or session.id
    title = f"{name} was hibernated" if left is None else f"{name} is hibernated in {length_text(left)}"
    return SessionNotice(session=session.id, title=title, text=text, kind=kind, hibernated=left is None)


def reason_before(kind: StopKind, seconds: float, *, kept: bool, web: bool) -> str:
    """Return why a stop is announced.

    Parameters
    ----------
    kind
        Which.
    seconds
        What the setting says: so long idle, or so long at most.
    kept
        Whether variables will be kept.
    web
        Whether it is a tool of its own, and no JupyterLab.
    """
    what = f"{what_is_kept(kept=kept, web=web, done=True)}."
    if kind is StopKind.AGE:
        return f"It has run for {length_text(seconds)}, as long as a session may here. {what}"
    return f"Nothing went on in it for {length_text(seconds)}. {what}"


def reason_after(kind: StopKind, seconds: float, what: str, *, by: str | None, told: str) -> str:
    """Return why a session was hibernated.

    Parameters
    ----------
    kind, seconds
        As for `reason_before`.
    what
        What is kept.
    by
        Who wished it; nothing where nobody did.
    told
        What was announced.
    """
    what = what[0].lower() + what[1:]
    if by is not None and kind is StopKind.HIBERNATE:
        return f"Hibernated by {by}: {what}; {_WAKE}"
    if kind is StopKind.MAINTENANCE:
        return f"{told} {what[0].upper()}{what[1:]}; {_WAKE}"
    if kind is StopKind.AGE:
        return f"Hibernated after {length_text(seconds)}, as long as a session may run here: {what}; {_WAKE}"
    return f"Hibernated after {length_text(seconds)} without activity: {what}; {_WAKE}"


def what_is_kept(*, kept: bool, web: bool, done: bool, told: SnapshotTold | None = None) -> str:
    """Return what is there after the stop, and what is not.

    Parameters
    ----------
    kept, web
        As for `reason_before`.
    done
        Whether the variables are, or will be, written down whole.
    told
        What the session said of it.
    """
    if web:
        return "Files that were saved are kept, and what is only open in the tool is not"
    if not kept:
        return "Notebooks that were saved are kept, and their variables are not"
    if not done:
        return "Its notebooks are kept, and its variables as far as they could be written down in time"
    if told is not None and told.left:
        return f"Its notebooks and variables are kept, but for {told.left} that cannot be written down"
    return "Its notebooks and variables are kept"
