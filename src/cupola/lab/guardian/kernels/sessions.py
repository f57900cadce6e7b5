"""Which notebook has which kernel, kept over crashes of the Jupyter server; a full or damaged disk keeps nobody from working."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from jupyter_server.services.sessions.sessionmanager import SessionManager
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["SurvivingSessions", "is_usable"]

_COLUMNS = {"session_id", "path", "name", "type", "kernel_id"}
_UNMENDABLE = ("full", "readonly", "read-only", "disk I/O", "unable to open", "malformed", "not a database")


def is_usable(place: Path) -> bool:
    """Whether `place` can be written to; a damaged file, or one of another version, is moved aside."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_sound(place):
            return True
        aside = place.with_suffix(".damaged")
        place.replace(aside)
    except OSError as error:
        _say(f"which notebook has which kernel is not kept: {place}: {error.strerror or error}")
        return False
    _say(
        f"{place} was damaged and is now {aside.name}: kernels run on, they are listed under Running Terminals and Kernels"
    )
    return True


def _is_sound(place: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(place, timeout=2)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # it must be writable, too
            connection.rollback()
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return False
            columns = {row[1] for row in connection.execute("PRAGMA table_info(session)")}
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error
    except sqlite3.DatabaseError:
        return False
    return not columns or columns == _COLUMNS


class _Cursor:
    """A cursor that goes on in memory when the disk does not.

    Parameters
    ----------
    manager
        Whose it is.
    """

    def __init__(self, manager: SurvivingSessions) -> None:
        self._manager = manager

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        values = tuple(values)
        try:
            return self._manager.plain.execute(statement, values)
        except sqlite3.DatabaseError as error:
            if not any(word in str(error) for word in _UNMENDABLE):
                raise
            self._manager.go_on_in_memory(error)
            return self._manager.plain.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        """Do anything else as the cursor does."""
        return getattr(self._manager.plain, name)


class SurvivingSessions(SessionManager):
    """The sessions of notebooks and consoles."""

    _wrapped: _Cursor | None = None

    @property
    def plain(self) -> sqlite3.Cursor:
        """The cursor of the database as it is now."""
        if self._cursor is None:
            # A crash of the machine ends the kernels too: then there is nothing to find again.
            self.connection.execute("PRAGMA synchronous=OFF")
            self.connection.execute("PRAGMA journal_mode=MEMORY")
        return super().cursor  # type: ignore[no-any-return]

    @property
    @override
    def cursor(self) -> Any:
        """What Jupyter works with."""
        if self._wrapped is None:
            self._wrapped = _Cursor(self)
        return self._wrapped

    def go_on_in_memory(self, error: Exception) -> None:
        """Leave the file as it is and keep what it says in memory from now on."""
        self.log.warning("cupola: which notebook has which kernel is no longer kept: %s", error)
        memory = sqlite3.connect(":memory:", isolation_level=None)
        memory.row_factory = sqlite3.Row
        with contextlib.suppress(sqlite3.DatabaseError):
            self.connection.backup(memory)
        with contextlib.suppress(sqlite3.DatabaseError):
            self.connection.close()
        self._connection, self._cursor = memory, None

    @override
    def __del__(self) -> None:
        """Close the file."""
        with contextlib.suppress(Exception):
            super().__del__()


def _say(text: str) -> None:
    sys.stderr.write(f"[cupola] {text}\n")
    sys.stderr.flush()
