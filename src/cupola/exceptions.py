"""Every error that Cupola raises on purpose.

::

    CupolaError
     ├─ ConfigError            cupola.yaml is wrong; says file, line and what was meant
     ├─ InputError             a request or an argument is wrong
     │   ├─ BandError          a collection has no such band
     │   ├─ ImageError         a file is no image we can read
     │   └─ BodyError          data of one body on the grid of another
     ├─ NotSignedInError       no token or cookie, or one that has ended
     ├─ NotAllowedError        signed in, but not for this
     ├─ NotFoundError          no such datalab, session, volume, job ...
     ├─ ConflictError          the thing is in a state in which this cannot be done
     ├─ LimitError             a profile or a resource does not allow it
     ├─ UnavailableError       another part (hub, portal, engine) does not answer
     ├─ StartError             the platform or a session could not start
     ├─ TaskError              the user's function raised for an input of a job
     └─ ProgramError           a program of somebody else's (ISIS, Ames Stereo Pipeline) failed

Each class carries a machine ``code`` (stable: clients may compare it) and the HTTP ``status`` the portal
answers with. The text is one sentence for a person, with the way out.
"""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = [
    "BandError",
    "BodyError",
    "ConfigError",
    "ConflictError",
    "CupolaError",
    "ImageError",
    "InputError",
    "LimitError",
    "NotAllowedError",
    "NotFoundError",
    "NotSignedInError",
    "ProgramError",
    "StartError",
    "TaskError",
    "UnavailableError",
    "error_class",
]


_CELLS = re.compile(r"ipykernel_|ipython-input-")
"""What the files of a notebook's cells are called."""


class CupolaError(Exception):
    """The root: catch this to catch all that Cupola raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the person's own lines and the sentence; ``%xmode Verbose`` shows all."""
        import traceback

        if _wants_all():
            return traceback.format_exception(self)
        lines = []
        for frame in traceback.extract_tb(self.__traceback__):
            if not _is_of_a_library(frame.filename):
                where = "This cell" if _CELLS.search(frame.filename) else frame.filename
                lines.append(f"{where}, line {frame.lineno}: {frame.line}")
        return [*lines, f"{type(self).__name__}: {self}"]


def _wants_all() -> bool:
    """Tell whether the person asked IPython for everything it knows of an error."""
    import sys

    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and shell.InteractiveTB.mode == "Verbose"


def _is_of_a_library(path: str) -> bool:
    """Tell whether a file belongs to Cupola, to Python or to a package, rather than to a person."""
    import sysconfig
    from pathlib import Path

    place = Path(path)
    homes = (Path(__file__).parent, sysconfig.get_path("stdlib"))
    return "site-packages" in place.parts or any(place.is_relative_to(home) for home in homes)


class ConfigError(CupolaError):
    """``cupola.yaml`` is wrong. The text names file, line and what was probably meant."""

    code = "bad-configuration"
    title = "The configuration is wrong"


class InputError(CupolaError):
    """An argument or a request is wrong."""

    code = "bad-input"
    status = 422
    title = "The input is wrong"


class BandError(InputError):
    """A collection or an image has no band of that name."""

    code = "no-such-band"
    title = "No such band"


class ImageError(InputError):
    """A file cannot be read as an image."""

    code = "no-image"
    title = "Not an image"


class BodyError(InputError):
    """Data of one celestial body was asked for on the grid of another."""

    code = "wrong-body"
    title = "Another celestial body"


class NotSignedInError(CupolaError):
    """There is no token or cookie, or it has ended."""

    code = "not-signed-in"
    status = 401
    title = "Sign in first"


class NotAllowedError(CupolaError):
    """The person is known but may not do this."""

    code = "not-allowed"
    status = 403
    title = "Not allowed"


class NotFoundError(CupolaError):
    """There is no such thing, or it is not the caller's."""

    code = "not-found"
    status = 404
    title = "Not found"


class ConflictError(CupolaError):
    """The thing is in a state in which this cannot be done."""

    code = "conflict"
    status = 409
    title = "Not now"


class LimitError(CupolaError):
    """A profile or a resource does not allow it."""

    code = "limit"
    status = 429
    title = "A limit is reached"


class UnavailableError(CupolaError):
    """Another part (hub, portal, engine) does not answer."""

    code = "unavailable"
    status = 503
    title = "Not available now"


class StartError(CupolaError):
    """The platform or a session could not be started."""

    code = "cannot-start"
    title = "Could not start"


class TaskError(CupolaError):
    """The user's function raised for an input of a job; the text is its traceback."""

    code = "task-failed"
    title = "A task failed"


class ProgramError(CupolaError):
    """A program of somebody else's (ISIS, Ames Stereo Pipeline) failed or is not there; the text says why."""

    code = "program-failed"
    title = "A program failed"


def error_class(code: str) -> type[CupolaError]:
    """Return the class with the machine code `code`, the root for an unknown one."""
    todo: list[type[CupolaError]] = [CupolaError]
    while todo:
        cls = todo.pop()
        if cls.code == code:
            return cls
        todo.extend(cls.__subclasses__())
    return CupolaError
