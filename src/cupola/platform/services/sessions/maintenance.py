"""The end of the whole platform, announced by an administrator: every session warns, is snapshotted, and stops."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cupola.exceptions import NotAllowedError
from cupola.models.activity import PlannedStop, StopKind
from cupola.models.base import now
from cupola.platform.services.sessions.stops import Announced
from cupola.platform.storage.database.stops import StoredMaintenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cupola.models.activity import NewMaintenance
    from cupola.models.person import Person
    from cupola.platform.storage.database.stops import StopStore

__all__ = ["Maintenances"]

_OVER_S = 120.0
"""So long after its time whatever still starts is stopped too; then the platform is taken to go on."""
_USUAL = "The platform stops for maintenance."


class Maintenances:
    """Knows whether the platform is going to end.

    Parameters
    ----------
    stops
        Where it is written down.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, *, stops: StopStore, clock: Callable[[], float]) -> None:
        self._stops = stops
        self._clock = clock
        self._announced: Announced | None = None

    async def announce(self, person: Person, new: NewMaintenance) -> PlannedStop:
        """Announce the end of the platform to all sessions; it takes the place of an earlier announcement.

        Raises
        ------
        NotAllowedError
            If `person` is no administrator.
        """
        _only_for_administrators(person)
        return await self.announce_by(person.name, new)

    async def announce_by(self, name: str, new: NewMaintenance) -> PlannedStop:
        """Announce the end of the platform in the name of whoever operates it."""
        moment, reason = now(), " ".join(new.reason.split())
        reason = f"{_USUAL[:-1]}: {reason.rstrip('.')}." if reason else _USUAL
        at = moment + timedelta(seconds=new.seconds)
        await self._stops.set_maintenance(StoredMaintenance(reason=reason, by=name, announced=moment, at=at))
        self._announced = Announced(
            StopKind.MAINTENANCE, reason, due=self._clock() + new.seconds, keepable=False
        )
        return self._announced.shown(self._clock())

    async def withdraw(self, person: Person) -> None:
        """Take the announcement back; none is no error.

        Raises
        ------
        NotAllowedError
            If `person` is no administrator.
        """
        _only_for_administrators(person)
        await self.withdraw_it()

    async def withdraw_it(self) -> None:
        """Take the announcement back."""
        await self._stops.set_maintenance(None)
        self._announced = None

    def shown(self) -> PlannedStop | None:
        """Return the announced end of the platform, if there is one."""
        return None if self._announced is None else self._announced.shown(self._clock())

    async def restore(self, clock: float, moment: datetime) -> None:
        """Take up what an earlier portal announced; what has passed since is over: the platform was started again."""
        row = await self._stops.maintenance()
        if row is None:
            return
        left = min((row.at - moment).total_seconds(), (row.at - row.announced).total_seconds())
        if left <= 0:
            await self.withdraw_it()
            return
        self._announced = Announced(StopKind.MAINTENANCE, row.reason, due=clock + left, keepable=False)

    async def due(self, clock: float) -> Announced | None:
        """Return what is announced, until a while after its time."""
        if self._announced is not None and clock > self._announced.due + _OVER_S:
            await self.withdraw_it()
        return self._announced


def _only_for_administrators(person: Person) -> None:
    if not person.admin:
        raise NotAllowedError("When the platform stops is the business of the administrators.")
