"""Under which session a kernel speaks.

JupyterLab takes a message of another session for one of a kernel that is gone, and drops it together with its neighbours.
So whatever a server says in the place of a kernel must say that it is of the kernel's session.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["Voice"]


class Voice:
    """The session of one kernel's messages; kept on disk for the server that comes after this one.

    Parameters
    ----------
    folder
        Of the kernel.
    """

    def __init__(self, folder: KernelFolder) -> None:
        self._place = folder.path / "voice"
        self.session = ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self.session = self._place.read_text(encoding="ascii").strip()
        self._mark = self.session.encode()

    def hear(self, header: bytes) -> None:
        """Take note of the header of one of its messages."""
        # Most are of the session that is known: they are not taken apart.
        if self._mark and self._mark in header:
            return
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            self._change(str(json.loads(header)["session"]))

    def _change(self, session: str) -> None:
        self.session, self._mark = session, session.encode()
        part = self._place.with_name("voice.part")
        with contextlib.suppress(OSError):
            part.write_text(session, encoding="ascii")
            part.replace(self._place)

    def sign(self, message: dict[str, Any]) -> None:
        """Make a message one of the kernel's."""
        if self.session:
            message["header"]["session"] = self.session
