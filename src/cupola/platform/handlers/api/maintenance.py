"""The announced end of the whole platform."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.activity import NewMaintenance, PlannedStop
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/maintenance", tags=["sessions"])


@router.get("", summary="Is the platform going to stop")
async def maintenance(person: PersonIn, factory: FactoryIn) -> PlannedStop | None:
    """Return the announced end of the platform, if there is one."""
    del person
    return factory.maintenances.shown()


@router.put("", summary="Announce the end of the platform")
async def announce_maintenance(new: NewMaintenance, person: PersonIn, factory: FactoryIn) -> PlannedStop:
    """Announce to all sessions that they are hibernated at a time; for administrators."""
    return await factory.maintenances.announce(person, new)


@router.delete("", status_code=204, summary="Withdraw the announcement")
async def withdraw_maintenance(person: PersonIn, factory: FactoryIn) -> None:
    """Let all sessions know that the platform does not stop; for administrators."""
    await factory.maintenances.withdraw(person)
