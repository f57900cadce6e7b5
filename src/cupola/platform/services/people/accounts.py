"""Accounts: by which numbers files of people and teams are known to the file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cupola.models.containers import Account

if TYPE_CHECKING:
    from cupola.models.person import Person
    from cupola.platform.storage.database.accounts import AccountStore

__all__ = ["Account", "AccountService"]


class AccountService:
    """Gives people and teams their numbers.

    Parameters
    ----------
    store
        Keeps them.
    root
        Whether the platform may hand files to others; else all files are its own account's.
    """

    def __init__(self, store: AccountStore, *, root: bool | None = None) -> None:
        self._store = store
        self._root = os.geteuid() == 0 if root is None else root

    async def account(self, person: Person) -> Account:
        """Return the numbers of a person and of the person's teams.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        if not self._root:
            return Account(user=os.geteuid(), group=os.getegid())
        number = await self._store.number("person", person.name)
        groups = {team: await self._store.number("team", team) for team in sorted(person.teams)}
        return Account(user=number, group=number, groups=groups)

    async def team(self, name: str) -> int | None:
        """Return the number of a team; nothing where all files are the platform's own account's.

        Raises
        ------
        UnavailableError
            If the database does not answer.
        """
        return await self._store.number("team", name) if self._root else None
