"""Shares of sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from cupola.models.base import Page
from cupola.models.session import Session
from cupola.models.share import NewShare, Share, Visit
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(tags=["shares"])

SessionId = Annotated[str, Path(description="The session's id.", examples=["lab-7k2m9xq4"], max_length=40)]
ShareId = Annotated[str, Path(description="The share's id.", max_length=40)]
Visitor = Annotated[
    str, Query(alias="person", description="The name of who wants in.", min_length=1, max_length=255)
]


@router.get("/sessions/{session_id}/shares", summary="With whom a session is shared")
async def shares(session_id: SessionId, person: PersonIn, factory: FactoryIn) -> Page[Share]:
    """Return the shares of one of your sessions that have not ended."""
    return Page(items=await factory.shares.shares(person, session_id))


@router.post("/sessions/{session_id}/shares", status_code=201, summary="Share a session")
async def share(session_id: SessionId, new: NewShare, person: PersonIn, factory: FactoryIn) -> Share:
    """Let a person or a team into your running session for some hours. They open its own address with their own sign-in."""
    return await factory.shares.share(person, session_id, new)


@router.delete("/sessions/{session_id}/shares/{share_id}", status_code=204, summary="End a share")
async def revoke(session_id: SessionId, share_id: ShareId, person: PersonIn, factory: FactoryIn) -> None:
    """End a share at once. What they have open is closed within a minute."""
    await factory.shares.revoke(person, session_id, share_id)


@router.get("/sessions/{session_id}/access", summary="What a visitor may do in a session")
async def access(session_id: SessionId, visitor: Visitor, person: PersonIn, factory: FactoryIn) -> Visit:
    """Tell what somebody may do in your session just now; sessions ask this for who comes to them."""
    allowed = await factory.shares.access_asked_by(person, session_id, visitor)
    return Visit(person=visitor, access=allowed)


@router.get("/shared", summary="Sessions shared with you")
async def shared(person: PersonIn, factory: FactoryIn) -> Page[Session]:
    """Return the running sessions of others that you may open."""
    return Page(items=await factory.shares.shared_with(person))
