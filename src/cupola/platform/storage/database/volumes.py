"""The table of the volumes that people added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping, delete, func, insert, select, union_all, update

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.volume import Volume
from cupola.platform.storage.database.tables import teams, volumes

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.platform.storage.database.connection import Database

__all__ = ["VolumeStore"]

_LOOKED_UP = {"collections", "looking", "unavailable", "size_bytes", "size_exact", "limit_bytes"}
"""What an answer has and the table has not."""


class VolumeStore:
    """Keeps volumes of people in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, volume: Volume, *, check: Callable[[int], None]) -> None:
        """Keep a new volume.

        Parameters
        ----------
        volume
            With its owner and the time it was added.
        check
            Gets the number of volumes that the owner has and raises if that forbids one more. Nothing comes between the
            count and the insert.

        Raises
        ------
        ConflictError
            If a volume or a team has its name.
        """
        async with self._database.writing() as connection:
            taken = union_all(
                select(volumes.c.name).where(volumes.c.name == volume.name),
                select(teams.c.name).where(teams.c.name == volume.name),
            )
            if (await connection.execute(taken)).first() is not None:
                raise ConflictError(f"The name {volume.name} is taken: choose another one.")
            mine = select(func.count()).select_from(volumes).where(volumes.c.owner == volume.owner)
            check((await connection.execute(mine)).scalar_one())
            await connection.execute(insert(volumes).values(**_to_row(volume)))

    async def get(self, name: str) -> Volume | None:
        """Return the volume of this name, or nothing."""
        async with self._database.reading() as connection:
            query = select(volumes).where(volumes.c.name == name)
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _from_row(row)

    async def all(self) -> list[Volume]:
        """Return everybody's volumes, by name."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(volumes).order_by(volumes.c.name))).mappings().all()
        return [_from_row(row) for row in rows]

    async def change(self, name: str, change: Callable[[Volume], Volume]) -> Volume:
        """Change a volume in one transaction and return it.

        Raises
        ------
        NotFoundError
            If it was removed meanwhile.
        """
        async with self._database.writing() as connection:
            query = select(volumes).where(volumes.c.name == name)
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise NotFoundError(f"There is no volume {name!r}: it may have been removed.")
            after = change(_from_row(row))
            await connection.execute(update(volumes).where(volumes.c.name == name).values(**_to_row(after)))
        return after

    async def delete(self, name: str) -> bool:
        """Forget a volume; returns whether there was one."""
        async with self._database.writing() as connection:
            done = await connection.execute(delete(volumes).where(volumes.c.name == name))
            return done.rowcount > 0


def _to_row(volume: Volume) -> dict[str, Any]:
    return {
        "name": volume.name,
        "owner": volume.owner,
        "team": volume.team,
        "visibility": volume.visibility,
        "created": volume.created,
        "content": volume.model_dump(mode="json", exclude=_LOOKED_UP),
    }


def _from_row(row: RowMapping) -> Volume:
    return Volume.model_validate(row["content"])
