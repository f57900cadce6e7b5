"""What the hub's spawner asks and tells; nobody else gets in."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Depends, Request

from cupola.exceptions import NotAllowedError
from cupola.models.activity import NewMaintenance, PlannedStop
from cupola.models.session import Plan, Session, SessionReport
from cupola.platform.handlers.dependencies import FactoryIn, header_token

__all__ = ["router"]


def internal_only(request: Request, factory: FactoryIn) -> None:
    """Let in only who knows the internal token."""
    sent = header_token(request) or ""
    if not hmac.compare_digest(sent.encode(), factory.hub_settings.internal_token.encode()):
        raise NotAllowedError("This address is for the hub alone: use /api instead.")


router = APIRouter(include_in_schema=False, dependencies=[Depends(internal_only)])


@router.get("/sessions/{session}/plan")
async def get_plan(session: str, factory: FactoryIn) -> Plan:
    """Return what a session starts from."""
    return await factory.sessions.plan(session)


@router.post("/sessions/{session}/reports")
async def add_report(session: str, report: SessionReport, factory: FactoryIn) -> Session:
    """Take what the spawner tells about a session, and return how it is known now."""
    return await factory.sessions.report(session, report)


@router.put("/maintenance")
async def announce_maintenance(new: NewMaintenance, factory: FactoryIn) -> PlannedStop:
    """Announce the end of the platform, for whoever operates its machine."""
    return await factory.maintenances.announce_by(factory.config.owner, new)


@router.delete("/maintenance", status_code=204)
async def withdraw_maintenance(factory: FactoryIn) -> None:
    """Withdraw the announcement."""
    await factory.maintenances.withdraw_it()


@router.get("/sessions")
async def active_sessions(factory: FactoryIn) -> list[str]:
    """Return which sessions have not ended, of everybody."""
    return await factory.sessions.active()
