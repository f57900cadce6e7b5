"""Teams: the list, the page of each, and what can be done there."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from cupola.exceptions import ConflictError, InputError, LimitError
from cupola.models.person import Person
from cupola.models.team import Invitation, NewInvitation, NewTeam, Role, Team
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter()

_SAID = {
    "made": "The team is made. Invite the others below.",
    "joined": "You are in the team.",
    "described": "The team's text is changed.",
    "invited": "The invitation is made; it is on the person's page Teams.",
    "withdrawn": "The invitation is withdrawn.",
    "role": "The role is changed.",
    "removed": "The person is no longer in the team.",
    "left": "You have left the team.",
    "declined": "The invitation is turned down.",
}
_ROLES = {
    Role.OWNER: "Owner: also invites, removes and changes roles",
    Role.MEMBER: "Member: reads and writes the team's volume",
    Role.READER: "Reader: reads it",
}
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")

Text = Annotated[str, Form(max_length=10_000)]


@router.get("/teams")
async def teams(request: Request, person: PersonIn, factory: FactoryIn, said: str = "") -> HTMLResponse:
    """Show your teams, and what you are invited to."""
    return await _list(request, person, factory, said=_SAID.get(said, ""))


@router.post("/teams")
async def make_team(  # noqa: PLR0913, PLR0917 - the fields of its form
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    title: Text = "",
    name: Text = "",
    description: Text = "",
) -> Response:
    """Make a team and show it; the form is shown again where that cannot be."""
    try:
        # The name follows from the title where nobody chose one.
        new = NewTeam(
            name=name.strip() or _name_from(title), title=title.strip(), description=description.strip()
        )
        team = await factory.teams.create(person, new)
    except (ValidationError, ConflictError, LimitError) as error:
        problem = (
            "A team needs a title, and a short name of small letters, digits and single hyphens."
            if isinstance(error, ValidationError)
            else str(error)
        )
        form = {"title": title, "name": name or _name_from(title), "description": description}
        return await _list(request, person, factory, status=422, problem=problem, form=form)
    return _to(factory, f"teams/{team.name}?said=made")


@router.get("/teams/{team_name}")
async def team(
    team_name: str, request: Request, person: PersonIn, factory: FactoryIn, said: str = ""
) -> HTMLResponse:
    """Show one team."""
    return await _one(request, person, factory, team_name, said=_SAID.get(said, ""))


@router.post("/teams/{team_name}/describe")
async def describe(
    team_name: str, person: PersonIn, factory: FactoryIn, title: Text = "", description: Text = ""
) -> RedirectResponse:
    """Give a team another title and description."""
    if not 1 <= len(title.strip()) <= 100:  # noqa: PLR2004 - as in the model
        raise InputError("A team needs a title of at most 100 characters.")
    await factory.teams.describe(person, team_name, title=title.strip(), description=description.strip())
    return _to(factory, f"teams/{team_name}?said=described")


@router.post("/teams/{team_name}/invitations")
async def invite(  # noqa: PLR0913, PLR0917 - the fields of its form
    team_name: str,
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    invited: Text = "",
    role: Text = "member",
    days: Text = "7",
) -> Response:
    """Invite a person, or show a new link; it is shown only this once."""
    try:
        new = NewInvitation.model_validate({"person": invited.strip() or None, "role": role, "days": days})
        made = await factory.teams.invite(person, team_name, new)
    except (ValidationError, ConflictError, InputError, LimitError) as error:
        problem = "Choose a role and 1 to 90 days." if isinstance(error, ValidationError) else str(error)
        return await _one(request, person, factory, team_name, status=422, problem=problem, invited=invited)
    if made.link is None:
        return _to(factory, f"teams/{team_name}?said=invited")
    return await _one(request, person, factory, team_name, made=made)


@router.post("/teams/{team_name}/invitations/{invitation_id}/withdraw")
async def withdraw(
    team_name: str, invitation_id: str, person: PersonIn, factory: FactoryIn
) -> RedirectResponse:
    """Withdraw an invitation."""
    await factory.teams.withdraw(person, team_name, invitation_id)
    return _to(factory, f"teams/{team_name}?said=withdrawn")


@router.post("/teams/{team_name}/members/{member}/role")
async def change_role(
    team_name: str, member: str, person: PersonIn, factory: FactoryIn, role: Text = ""
) -> RedirectResponse:
    """Give a member another role."""
    if role not in set(Role):
        raise InputError("There is no such role: choose one on the team's page.")
    await factory.teams.change_role(person, team_name, member, Role(role))
    return _to(factory, f"teams/{team_name}?said=role")


@router.post("/teams/{team_name}/members/{member}/remove")
async def remove(team_name: str, member: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Remove a member."""
    await factory.teams.remove(person, team_name, member)
    return _to(factory, f"teams/{team_name}?said=removed")


@router.post("/teams/{team_name}/leave")
async def leave(team_name: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Leave a team."""
    await factory.teams.leave(person, team_name)
    return _to(factory, "teams?said=left")


@router.post("/teams/{team_name}/delete")
async def delete(team_name: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Delete a team and say where its files stay."""
    return await _list(request, person, factory, said=await factory.teams.delete(person, team_name))


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


def _name_from(title: str) -> str:
    return _NOT_IN_NAMES.sub("-", title.lower()).lstrip("-0123456789")[:40].rstrip("-")


async def _list(  # noqa: PLR0913 - what can be shown on it
    request: Request,
    person: Person,
    factory: Factory,
    *,
    status: int = 200,
    said: str = "",
    problem: str = "",
    form: dict[str, str] | None = None,
) -> HTMLResponse:
    return page(
        request,
        "teams.html",
        person=person,
        status=status,
        teams=await factory.teams.teams(person),
        invitations=await factory.teams.invitations_to(person),
        said=said,
        problem=problem,
        form=form or {"title": "", "name": "", "description": ""},
    )


async def _one(  # noqa: PLR0913 - what can be shown on it
    request: Request,
    person: Person,
    factory: Factory,
    name: str,
    *,
    status: int = 200,
    said: str = "",
    problem: str = "",
    invited: str = "",
    made: Invitation | None = None,
) -> HTMLResponse:
    found = await factory.teams.team(person, name)
    mine = _role(found, person.name)
    manages = person.admin or mine is Role.OWNER
    mounting = await factory.teams.affected(person, name)
    return page(
        request,
        "team.html",
        person=person,
        status=status,
        team=found,
        mine=mine,
        manages=manages,
        alone=sum(member.role is Role.OWNER for member in found.members) == 1,
        roles=_ROLES,
        invitations=await factory.teams.invitations(person, name) if manages else [],
        running={
            member.person: sum(session.owner == member.person for session in mounting)
            for member in found.members
        },
        said=said,
        problem=problem,
        invited=invited,
        made=made,
    )


def _role(team: Team, person: str) -> Role | None:
    return next((member.role for member in team.members if member.person == person), None)
