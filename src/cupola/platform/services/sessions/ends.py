"""Why a session ended, as a sentence with the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.models.session import EndCause, SessionState
from cupola.platform.services.amounts import memory_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.models.session import Session, SessionEnd, SessionReport

__all__ = ["final_state", "loss_inside", "sentence", "starved"]

_LOG_TELLS = "its last lines of output say more"


def sentence(report: SessionReport) -> str:
    """Return why the session of the last `report` ended."""
    if report.end is None:
        return report.message
    told = _SENTENCES.get(report.end.cause)
    return report.message if told is None else told(report.end)


def final_state(report: SessionReport) -> SessionState:
    """Return the state that `report` leads to: an end that nobody asked for is a failure."""
    end = report.end
    if end is None or report.state.active or end.cause is EndCause.ASKED:
        return report.state
    if end.cause is EndCause.CRASH and end.exit_code == 0 and end.signal is None:
        return report.state  # its owner shut it down from within
    return SessionState.FAILED


_STARVED = "A program in it, such as a notebook's kernel, was ended: "
"""How the sentence begins that a session keeps among its notices."""


def loss_inside(end: SessionEnd) -> str:
    """Return what happened to a program in a session that goes on."""
    limit = memory_text(end.memory_limit_mib) if end.memory_limit_mib else "memory"
    return (
        f"{_STARVED}the session had used up all of the {limit} that it may have. "
        "Work on less at a time, or restart the session bigger."
    )


def starved(session: Session) -> bool:
    """Return whether a running session has lost a program for lack of memory."""
    return any(notice.startswith(_STARVED) for notice in session.notices)


def _out_of_memory(end: SessionEnd) -> str:
    limit = f"the {memory_text(end.memory_limit_mib)} it may have" if end.memory_limit_mib else "it may have"
    peak = f" (it had {memory_text(end.peak_memory_mib)})" if end.peak_memory_mib else ""
    return f"It was ended because it needed more memory than {limit}{peak}: restart it bigger, or work on less at a time."


def _crash(end: SessionEnd) -> str:
    if end.signal:
        return f"Its program was ended by the signal {end.signal}: {_LOG_TELLS}."
    if end.exit_code == 0:
        return "It was shut down from within: start it again when you need it."
    code = "" if end.exit_code is None else f" with exit code {end.exit_code}"
    return f"Its program ended by itself{code}: {_LOG_TELLS}."


_SENTENCES: dict[EndCause, Callable[[SessionEnd], str]] = {
    EndCause.OUT_OF_MEMORY: _out_of_memory,
    EndCause.CRASH: _crash,
    EndCause.NO_IMAGE: lambda _: (
        "The image of its version is not on this machine and cannot be had: choose another version."
    ),
    EndCause.QUOTA: lambda _: (
        "A disk or your quota was full, so that it could not start: delete files you do not need, then restart it."
    ),
    EndCause.TIMEOUT: lambda _: (
        f"It did not answer in time: restart it; if that happens again, {_LOG_TELLS}."
    ),
    EndCause.LOST: lambda _: (
        "It was gone when the platform looked after it, as after a restart of the machine: restart it; what you saved "
        "is in your home."
    ),
}
"""What is not here (asked for, refused) is told in the words of the report."""
