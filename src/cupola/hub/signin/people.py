"""Who is known: the one place that binds a user name to whom a provider calls so.

A name belongs for ever to the first identity that came in with it: a person who is removed and comes back finds their
files, and nobody else ever does. The table's own constraints see to that, also for two who come at once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, LimitError, NotFoundError, UnavailableError
from cupola.hub.files import make_private
from cupola.hub.signin.names import Identity
from cupola.models.base import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Known", "People", "Request"]

MOST_REQUESTS = 500
"""Strangers that may wait at a time; the oldest that has no account here gives way."""
_WAIT_S = 10.0
_VERSION = 2
_SCHEMA = """
CREATE TABLE people (
    name TEXT PRIMARY KEY,
    admin INTEGER NOT NULL DEFAULT 0,
    admitted INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    rule TEXT NOT NULL DEFAULT '',
    checked TEXT NOT NULL DEFAULT '',
    since TEXT NOT NULL
) STRICT;
CREATE TABLE identities (
    method TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    login TEXT NOT NULL,
    name TEXT NOT NULL REFERENCES people (name),
    PRIMARY KEY (method, issuer, subject)
) STRICT;
CREATE INDEX identities_of ON identities (name);
CREATE TABLE requests (
    method TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    login TEXT NOT NULL,
    name TEXT NOT NULL,
    asked TEXT NOT NULL,
    PRIMARY KEY (method, issuer, subject)
) STRICT;
PRAGMA user_version = 1;
"""


_MAILS = """
CREATE TABLE mails (name TEXT PRIMARY KEY REFERENCES people (name), mail TEXT NOT NULL) STRICT;
PRAGMA user_version = 2;
"""
"""What came later: the addresses that providers have verified."""


@dataclass(frozen=True)
class Known:
    """Somebody whose name is taken."""

    name: str
    admin: bool
    """As said on the page People or by a group of administrators; the allow-list has its own word."""
    admitted: bool
    """Let in by an administrator."""
    removed: bool
    rule: str
    """The rule that let them in the last time; empty for none."""
    checked: datetime | None
    """When it was looked at."""
    since: datetime
    identities: tuple[Identity, ...] = ()


@dataclass(frozen=True)
class Request:
    """Somebody who came and was not let in, or who asked for an account."""

    identity: Identity
    name: str
    """The name they would get."""
    asked: datetime


class People:
    """The people of one platform, in a file of their own.

    Parameters
    ----------
    file
        An SQLite file; made at first use, for this account only.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    @contextlib.contextmanager
    def _open(self, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            if not self.file.exists():
                make_private(self.file.parent)
                os.close(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(self.file, timeout=_WAIT_S, isolation_level=None)
            connection.execute("PRAGMA foreign_keys = ON")
            if connection.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
                self._make(connection)
            connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as exc:
            if isinstance(exc, sqlite3.IntegrityError):
                raise
            raise UnavailableError(
                f"the list of people {self.file} cannot be used: {exc}; look at the disk"
            ) from exc
        finally:
            if connection is not None:
                connection.close()  # rolls back what was not committed

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute("PRAGMA user_version").fetchone()[0]  # somebody may have been quicker
        for statement in ";".join([_SCHEMA, _MAILS][found:]).split(";"):
            connection.execute(statement)
        connection.execute("COMMIT")

    def everybody(self) -> list[Known]:
        """Return all whose names are taken, by name."""
        with self._open() as connection:
            identities: dict[str, list[Identity]] = {}
            for *identity, name in connection.execute(
                "SELECT method, issuer, subject, login, name FROM identities ORDER BY method, login"
            ):
                identities.setdefault(name, []).append(Identity(*identity))
            rows = connection.execute(f"{_SELECT} ORDER BY name").fetchall()
        return [_known(row, identities.get(row[0], [])) for row in rows]

    def find(self, name: str) -> Known | None:
        """Return who has `name`."""
        with self._open() as connection:
            return self._find(connection, name)

    def _find(self, connection: sqlite3.Connection, name: str) -> Known | None:
        row = connection.execute(f"{_SELECT} WHERE name = ?", [name]).fetchone()
        if row is None:
            return None
        found = connection.execute(
            "SELECT method, issuer, subject, login FROM identities WHERE name = ? ORDER BY method, login",
            [name],
        )
        return _known(row, [Identity(*each) for each in found])

    def of(self, identity: Identity) -> Known | None:
        """Return who `identity` is."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT name FROM identities WHERE method = ? AND issuer = ? AND subject = ?", identity.key
            ).fetchone()
            return self._find(connection, row[0]) if row else None

    def bind(self, identity: Identity, name: str, *, create: bool = True) -> Known:
        """Bind `identity` to `name` for ever.

        Parameters
        ----------
        identity
            Who comes.
        name
            A user name.
        create
            Whether the name must be new; else it must be there.

        Raises
        ------
        ConflictError
            The name or the identity is somebody else's.
        NotFoundError
            Nobody has the name, and none was to be created.
        """
        with self._open(writing=True) as connection:
            bound = connection.execute(
                "SELECT name FROM identities WHERE method = ? AND issuer = ? AND subject = ?", identity.key
            ).fetchone()
            if bound is not None:
                if bound[0] != name:
                    raise ConflictError(
                        f'{identity.method}:{identity.login} is "{bound[0]}" already; one person has one name.'
                    )
            else:
                if create:
                    self._create(connection, identity, name)
                elif self._find(connection, name) is None:
                    raise NotFoundError(
                        f'there is nobody named "{name}"; add them with `cupola users add {name}`'
                    )
                connection.execute(
                    "INSERT INTO identities VALUES (?, ?, ?, ?, ?)", [*identity.key, identity.login, name]
                )
            self._forget(connection, identity)
            known = self._find(connection, name)
        assert known is not None  # noqa: S101 - it was just written
        return known

    def _create(self, connection: sqlite3.Connection, identity: Identity, name: str) -> None:
        waits = connection.execute(
            "SELECT 1 FROM requests WHERE name = ? AND method = 'local' AND NOT (method = ? AND subject = ?)",
            [name, identity.method, identity.subject],
        ).fetchone()
        if waits or self._find(connection, name) is not None:
            raise ConflictError(
                f'the name "{name}" belongs to somebody else; an administrator can tell that it is you: '
                f"`cupola users bind {identity.method}:{identity.login} {name}`"
            )
        connection.execute("INSERT INTO people (name, since) VALUES (?, ?)", [name, now().isoformat()])

    def seen(self, identity: Identity) -> None:
        """Remember the login that `identity` has now: people rename their accounts."""
        with self._open(writing=True) as connection:
            connection.execute(
                "UPDATE identities SET login = ? WHERE method = ? AND issuer = ? AND subject = ?",
                [identity.login, *identity.key],
            )

    def admit(self, name: str, *, admin: bool | None = None) -> bool:
        """Let `name` in by an administrator's word; a name that is new is taken. Say whether it was new."""
        with self._open(writing=True) as connection:
            new = self._find(connection, name) is None
            if new:
                connection.execute(
                    "INSERT INTO people (name, since) VALUES (?, ?)", [name, now().isoformat()]
                )
            connection.execute("UPDATE people SET admitted = 1, removed = 0 WHERE name = ?", [name])
            if admin is not None:
                connection.execute("UPDATE people SET admin = ? WHERE name = ?", [int(admin), name])
        return new

    def let_in_by_rule(self, name: str, rule: str, *, admin: bool | None) -> None:
        """Remember that `rule` holds for `name` now; `admin`: what it says of administrators, if anything."""
        with self._open(writing=True) as connection:
            connection.execute(
                "UPDATE people SET rule = ?, checked = ? WHERE name = ?", [rule, now().isoformat(), name]
            )
            if admin is not None:
                connection.execute("UPDATE people SET admin = ? WHERE name = ?", [int(admin), name])

    def set_admin(self, name: str, *, admin: bool) -> None:
        """Make `name` an administrator, or no longer.

        Raises
        ------
        NotFoundError
            Nobody has the name.
        """
        self._change(name, "UPDATE people SET admin = ? WHERE name = ?", [int(admin), name])

    def remove(self, name: str) -> None:
        """Let `name` in no more, whatever list or rule says; the name stays theirs.

        Raises
        ------
        NotFoundError
            Nobody has the name.
        """
        self._change(
            name,
            "UPDATE people SET admitted = 0, admin = 0, removed = 1, rule = '', checked = '' WHERE name = ?",
            [name],
        )

    def keep_mail(self, name: str, mail: str) -> None:
        """Keep the address that a provider has verified."""
        with self._open(writing=True) as connection:
            connection.execute(
                "INSERT INTO mails VALUES (?, ?) ON CONFLICT DO UPDATE SET mail = excluded.mail", [name, mail]
            )

    def mail_of(self, name: str) -> str:
        """Return the address that a provider has verified; empty where none told one."""
        with self._open() as connection:
            row = connection.execute("SELECT mail FROM mails WHERE name = ?", [name]).fetchone()
        return str(row[0]) if row else ""

    def _change(self, name: str, statement: str, values: list[object]) -> None:
        with self._open(writing=True) as connection:
            if connection.execute(statement, values).rowcount == 0:
                raise NotFoundError(f'there is nobody named "{name}"; `cupola users list` shows all')

    def ask(self, identity: Identity, name: str) -> None:
        """Remember that somebody came who is not let in.

        Raises
        ------
        ConflictError
            The name of a local account is taken.
        LimitError
            Too many wait for an account.
        """
        with self._open(writing=True) as connection:
            if identity.method == "local":
                same = connection.execute(
                    "SELECT 1 FROM requests WHERE method = 'local' AND name = ?", [name]
                )
                if same.fetchone() or self._find(connection, name):
                    raise ConflictError(f'The name "{name}" is taken: choose another one.')
            self._make_room(connection)
            connection.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET login = excluded.login, name = excluded.name, asked = excluded.asked",
                [*identity.key, identity.login, name, now().isoformat()],
            )

    def _make_room(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM requests").fetchone()[0] < MOST_REQUESTS:
            return
        gone = connection.execute(
            "DELETE FROM requests WHERE rowid = (SELECT rowid FROM requests WHERE method <> 'local' ORDER BY asked LIMIT 1)"
        )
        if gone.rowcount == 0:
            raise LimitError("Too many accounts wait for approval now: try again tomorrow.")

    def requests(self) -> list[Request]:
        """Return who waits, the oldest first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT method, issuer, subject, login, name, asked FROM requests ORDER BY asked"
            ).fetchall()
        return [Request(Identity(*row[:4]), row[4], datetime.fromisoformat(row[5])) for row in rows]

    def request(self, method: str, login: str) -> Request:
        """Return the request of who has `login` at `method`.

        Raises
        ------
        NotFoundError
            Nobody waits under it.
        """
        for each in self.requests():
            if each.identity.method == method and each.identity.login == login:
                return each
        raise NotFoundError(f"{method}:{login} has not asked to be let in; `cupola users list` shows who has")

    def forget(self, identity: Identity) -> None:
        """Forget that `identity` asked."""
        with self._open(writing=True) as connection:
            self._forget(connection, identity)

    def _forget(self, connection: sqlite3.Connection, identity: Identity) -> None:
        connection.execute(
            "DELETE FROM requests WHERE method = ? AND issuer = ? AND subject = ?", identity.key
        )


_SELECT = "SELECT name, admin, admitted, removed, rule, checked, since FROM people"


def _known(row: tuple[str, int, int, int, str, str, str], identities: list[Identity]) -> Known:
    name, admin, admitted, removed, rule, checked, since = row
    return Known(
        name=name,
        admin=bool(admin),
        admitted=bool(admitted),
        removed=bool(removed),
        rule=rule,
        checked=datetime.fromisoformat(checked) if checked else None,
        since=datetime.fromisoformat(since),
        identities=tuple(identities),
    )
