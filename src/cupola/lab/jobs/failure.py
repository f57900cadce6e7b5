"""What a person reads when their function failed: the error, their own line, their own frames first."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import traceback

__all__ = ["Failure", "ToldError", "describe", "remember_sources"]

LONGEST_MESSAGE = 2_000
LONGEST_TRACEBACK = 20_000


class Failure(NamedTuple):
    """Why one input failed; the fields of `cupola.models.job.TaskFailure` that the function decides.

    The model itself is not imported here: loading pydantic costs more than most tasks. No dataclass either, nor `traceback`
    before something has failed: each is a tenth of what starting a task costs.
    """

    error: str
    message: str
    line: str = ""
    traceback: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields by name."""
        return self._asdict()


class ToldError(Exception):
    """A failure that is told in its own words: no line of the user's raised it.

    Parameters
    ----------
    message
        What went wrong, for people.
    line
        What failures that are alike have in common.
    """

    def __init__(self, message: str, line: str) -> None:
        super().__init__(message)
        self.line = line


def remember_sources(sources: dict[str, str]) -> None:
    """Make the text of notebook cells known, so that a traceback can show the user's lines.

    Parameters
    ----------
    sources
        Text by the file name that the compiled code carries. A notebook's cell has no such file.
    """
    if not sources:
        return
    import linecache

    for name, text in sources.items():
        # No modification time: linecache then never looks for the file.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def describe(error: BaseException) -> Failure:
    """Tell what went wrong in the user's function.

    Parameters
    ----------
    error
        What was raised, with its traceback.
    """
    if isinstance(error, ToldError):
        return Failure(type(error).__qualname__, _message(error), error.line)
    import traceback

    story = traceback.TracebackException.from_exception(error)
    _drop_own_frames(story)
    frames = story.stack
    own = [frame for frame in frames if _is_users(frame.filename)]
    last = own[-1] if own else (frames[-1] if frames else None)
    return Failure(
        error=type(error).__qualname__,
        message=_message(error),
        line=f"{last.name}:{last.lineno}: {(last.line or '').strip()}" if last else "",
        traceback=_text(story, whole=len(own) == len(frames)),
    )


def _message(error: BaseException) -> str:
    """Return the text of `error`, even where its own ``__str__`` is broken."""
    if isinstance(error, SystemExit):
        return f"the function called sys.exit({error.code!r})"
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - any class of the user's may be behind it
        text = f"(its text cannot be shown: {type(broken).__name__})"
    return _shortened(text, LONGEST_MESSAGE)


def _text(story: traceback.TracebackException, *, whole: bool) -> str:
    """Return the traceback: the user's frames, then (where there are others) all of them."""
    everything = "".join(story.format())
    if whole:
        return _shortened(everything, LONGEST_TRACEBACK)
    _keep_users_frames(story)
    own = "".join(story.format())
    return _shortened(f"{own}\nWith the frames of libraries:\n\n{everything}", LONGEST_TRACEBACK)


def _shortened(text: str, longest: int) -> str:
    """Cut the middle out of a text that is too long: its end says most."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - longest} characters left out ...]\n{text[-half:]}"


def _drop_own_frames(story: traceback.TracebackException) -> None:
    """Take the frames of the task runner away: they say nothing about the failure."""
    from traceback import StackSummary

    for part in _parts(story):
        frames = list(part.stack)
        while frames and frames[0].filename.startswith(_RUNNER):
            frames.pop(0)
        part.stack = StackSummary.from_list(frames)


def _keep_users_frames(story: traceback.TracebackException) -> None:
    from traceback import StackSummary

    for part in _parts(story):
        part.stack = StackSummary.from_list([f for f in part.stack if _is_users(f.filename)])


def _parts(story: traceback.TracebackException) -> list[traceback.TracebackException]:
    """Return `story` and every exception it was raised from."""
    found: list[traceback.TracebackException] = []
    todo = [story]
    while todo:
        part = todo.pop()
        if any(part is known for known in found):
            continue
        found.append(part)
        causes = (part.__cause__, part.__context__, *(part.exceptions or ()))
        todo += [cause for cause in causes if cause is not None]
    return found


def _is_users(filename: str) -> bool:
    return not filename.startswith((*_libraries(), "<frozen"))


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders whose code is not the user's: the standard library, packages and Cupola."""
    # Looked at only when something has failed: a task must start quickly.
    import sysconfig

    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    return tuple(sorted({f"{path}{os.sep}" for path in paths if path} | {_PACKAGE}))


_PACKAGE = f"{os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))}{os.sep}"
_RUNNER = tuple(f"{_PACKAGE}{name}" for name in (f"lab{os.sep}task.py", f"lab{os.sep}pool.py"))
