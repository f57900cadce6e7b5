"""The connection to the database: short transactions, for reading or for writing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Database"]

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
        self._engine: AsyncEngine = create_async_engine(url)
        # SQLite lets one writer in at a time and others poll for it; waiting here is fair and costs nothing.
        self._writer = asyncio.Lock()
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)

    @classmethod
    def at(cls, path: Path) -> Database:
        """Return the SQLite database in the file `path`, whose folder is made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(f"sqlite+aiosqlite:///{path}")

    async def migrate(self) -> None:
        """Bring the tables to what this code expects; an empty database gets all of them."""
        async with self.writing() as connection:
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
            async with self._engine.connect() as connection:
                yield connection
        except OperationalError as error:
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
                level = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "SERIALIZABLE"}
                connection = await plain.execution_options(cupola_write=True, **level)
                async with connection.begin():
                    yield connection
        except OperationalError as error:
            raise _unavailable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _unavailable(error: OperationalError) -> UnavailableError:
    return UnavailableError(
        f"The portal's database does not answer ({error.orig}): check that its disk has room, then try again."
    )


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # We begin transactions ourselves: Python's own way would begin a write as a read, which cannot wait.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("cupola_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: Connection) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
