"""Which versions of datalabs somebody counts on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from cupola.platform.storage.database.tables import jobs, sessions

if TYPE_CHECKING:
    from cupola.platform.storage.database.connection import Database

__all__ = ["VersionUses"]


class VersionUses:
    """Looks them up in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_use(self) -> set[str]:
        """Return the digests of all versions that a session or a job was made with, also one that has ended.

        An ended session can be launched again as it was, and a job's products say which version made them; who wants neither
        forgets the session or the job.
        """
        found: set[str] = set()
        async with self._database.reading() as connection:
            for table in (sessions, jobs):
                rows = await connection.execute(select(table.c.version).distinct())
                found.update(str(version) for version in rows.scalars())
        return found
