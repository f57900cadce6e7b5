"""The table of numbers: by which people and teams are known to the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from cupola.platform.storage.database.tables import accounts

if TYPE_CHECKING:
    from cupola.platform.storage.database.connection import Database

__all__ = ["FIRST_NUMBER", "AccountStore"]

FIRST_NUMBER = 20_000
"""Far above the accounts of the host itself, and below what it hands out for containers of its own accounts."""


class AccountStore:
    """Keeps numbers in `database`. A number is given once and for ever: files outlive people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def number(self, kind: str, name: str) -> int:
        """Return the number of a person or a team; who has none gets the next one.

        Parameters
        ----------
        kind
            ``person`` or ``team``: a team may be named like a person.
        name
            Whose.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        mine = select(accounts.c.number).where(accounts.c.kind == kind, accounts.c.name == name)
        async with self._database.reading() as connection:
            number = (await connection.execute(mine)).scalar()
        if number is not None:
            return int(number)
        async with self._database.writing() as connection:
            # Asked again: two may come for the first time at once.
            number = (await connection.execute(mine)).scalar()
            if number is not None:
                return int(number)
            highest = (await connection.execute(select(func.max(accounts.c.number)))).scalar()
            number = FIRST_NUMBER if highest is None else int(highest) + 1
            await connection.execute(insert(accounts).values(kind=kind, name=name, number=number))
        return number
