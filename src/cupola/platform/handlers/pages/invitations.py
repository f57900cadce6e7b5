"""The page behind an invitation's link, and the answers to invitations."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter()


@router.get("/invitations/{token}")
async def invitation(token: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show what a link invites to; looking at it changes nothing."""
    found = await factory.teams.invitation(person, token)
    # The address is a secret: it goes to nobody else. ("no-referrer" would take the origin from our own form too.)
    headers = {"Referrer-Policy": "strict-origin"}
    roles = await factory.teams.roles_of(person.name)
    return page(
        request,
        "team-invitation.html",
        person=person,
        headers=headers,
        invitation=found,
        token=token,
        inside=found.team in roles,
    )


@router.post("/invitations/{token}")
async def accept(token: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Come into a team by a link."""
    team = await factory.teams.accept(person, token=token)
    return RedirectResponse(f"{factory.hub_settings.prefix}teams/{team.name}?said=joined", 303)


@router.post("/teams/invitations/{invitation_id}/accept")
async def accept_mine(invitation_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Accept an invitation to you."""
    team = await factory.teams.accept(person, invitation=invitation_id)
    return RedirectResponse(f"{factory.hub_settings.prefix}teams/{team.name}?said=joined", 303)


@router.post("/teams/invitations/{invitation_id}/decline")
async def decline(invitation_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Turn down an invitation to you."""
    await factory.teams.decline(person, invitation_id)
    return RedirectResponse(f"{factory.hub_settings.prefix}teams?said=declined", 303)
