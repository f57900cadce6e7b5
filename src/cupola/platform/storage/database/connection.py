"""The connection to the database: short transactions, for reading or for writing."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cupola.config.database import PORTAL_SCHEMA, postgresql_address, schema_url
from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cupola.config import Config

__all__ = ["Database"]

_WRITERS = 0x63757031
"""The lock of PostgreSQL that all writers of this database take."""
_BUSY_MS = 10_000
"""How long a transaction waits for another process that writes."""


class Database:
    """One database.

    Parameters
    ----------
    url
        Where it is, as SQLAlchemy writes it, with an asyncio driver.
    """

    def __init__(self, url: str) -> None:
        # A connection that PostgreSQL closed meanwhile is found out before it is used.
        self._engine: AsyncEngine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        # SQLite lets one writer in at a time and others poll for it; waiting here is fair and costs nothing.
        self._writer = asyncio.Lock()
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        if self._is_sqlite:
            _prepare_sqlite(self._engine)

    @classmethod
    def at(cls, path: Path) -> Database:
        """Return the SQLite database in the file `path`, whose folder is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(f"sqlite+aiosqlite:///{path}")

    @classmethod
    def of(cls, config: Config) -> Database:
        """Return the portal's database: a schema of PostgreSQL where the configuration names one, else a file.

        Raises
        ------
        ConfigError
            The file with PostgreSQL's address is wrong.
        """
        address = postgresql_address(config)
        if address is None:
            return cls.at(config.paths.portal_database)
        return cls(schema_url(address, PORTAL_SCHEMA))

    async def migrate(self) -> None:
        """Bring the tables to what this code expects; an empty database gets all of them."""
        async with self.writing() as connection:
            if not self._is_sqlite:
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {PORTAL_SCHEMA}"))
            await connection.run_sync(_upgrade)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one moment and changes nothing.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        try:
            async with self._engine.connect() as plain:
                connection = plain
                if not self._is_sqlite:
                    connection = await plain.execution_options(isolation_level="REPEATABLE READ")
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise _unavailable(error) from error

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that no other writer runs beside: what it counts stays true until it commits.

        Raises
        ------
        UnavailableError
            If the database does not answer or its disk is full; nothing was changed then.
        """
        try:
            async with self._writer, self._engine.connect() as plain:
                connection = await plain.execution_options(cupola_write=True)
                async with connection.begin():
                    if not self._is_sqlite:
                        # As SQLite does by itself. Each later statement sees what the writer before committed, so
                        # that nothing has to be tried again, as it would in PostgreSQL's own serializable mode.
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITERS})"))
                    yield connection
        except (OperationalError, InterfaceError) as error:
            raise _unavailable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _unavailable(error: DBAPIError) -> UnavailableError:
    said = " ".join(str(error.orig).split())
    return UnavailableError(
        f"The portal's database does not answer ({said[:200]}): check that it runs and its disk has room, then try "
        "again."
    )


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # We begin transactions ourselves: Python's own way would begin a write as a read, which cannot wait.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        _write_ahead(cursor)
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("cupola_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _write_ahead(cursor: Any) -> None:
    """Let readers and a writer work side by side; another process that does so at this moment is waited for."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:  # at once: SQLite itself waits for anything but this
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _upgrade(connection: Connection) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
