"""Who may come in: administrators look and decide, the hub's sign-in keeps it and ends what must end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, NotAllowedError
from cupola.models.admission import AdmissionAction

if TYPE_CHECKING:
    from cupola.models.admission import AdmissionChange, Admissions
    from cupola.models.person import Person
    from cupola.platform.services.people.people import PeopleService
    from cupola.platform.storage.hub.people import HubPeople

__all__ = ["AdmissionService"]

_AWAY = {AdmissionAction.REMOVE, AdmissionAction.MEMBER}


class AdmissionService:
    """Lets people in and out.

    Parameters
    ----------
    hub
        Keeps who may come in.
    people
        Remembers tokens for a while, and forgets them when their people go.
    """

    def __init__(self, *, hub: HubPeople, people: PeopleService) -> None:
        self._hub = hub
        self._people = people

    async def all(self, person: Person) -> Admissions:
        """Return everybody who is known, and who waits.

        Raises
        ------
        NotAllowedError
            If `person` is no administrator.
        """
        _only_for_administrators(person)
        return await self._hub.all()

    async def change(self, person: Person, change: AdmissionChange) -> Admissions:
        """Change something, and return everybody as it is then.

        Raises
        ------
        NotAllowedError
            If `person` is no administrator.
        ConflictError
            If that cannot be.
        """
        _only_for_administrators(person)
        if change.do in _AWAY and change.name == person.name:
            raise ConflictError("Nobody does this to themselves: ask another administrator.")
        found = await self._hub.change(change)
        self._people.forget_person(change.name)
        return found


def _only_for_administrators(person: Person) -> None:
    if not person.admin:
        raise NotAllowedError("Who may come in is the business of the administrators.")
