"""Invitations to teams, as the invited see them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from cupola.exceptions import InputError
from cupola.models.base import Page
from cupola.models.team import Acceptance, Invitation, Team
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/invitations", tags=["teams"])

InvitationId = Annotated[str, Path(description="The invitation's id.", max_length=40)]


@router.get("", summary="Invitations to you")
async def invitations_to_me(person: PersonIn, factory: FactoryIn) -> Page[Invitation]:
    """Return the teams that you are invited to by name."""
    return Page(items=await factory.teams.invitations_to(person))


@router.post("/accept", summary="Come into a team")
async def accept(which: Acceptance, person: PersonIn, factory: FactoryIn) -> Team:
    """Accept an invitation, by its id or by the token of its link."""
    if (which.id is None) == (which.token is None):
        raise InputError("Give the id of an invitation to you, or the token of a link.")
    return await factory.teams.accept(person, invitation=which.id, token=which.token)


@router.delete("/{invitation_id}", status_code=204, summary="Turn down an invitation")
async def decline(invitation_id: InvitationId, person: PersonIn, factory: FactoryIn) -> None:
    """Turn down an invitation to you."""
    await factory.teams.decline(person, invitation_id)
