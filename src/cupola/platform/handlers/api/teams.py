"""Teams, their members and invitations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from cupola.models.base import Page
from cupola.models.team import Invitation, NewInvitation, NewRole, NewTeam, Team, TeamText
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/teams", tags=["teams"])

TeamName = Annotated[str, Path(description="The team's name.", examples=["mars-crew"], max_length=40)]
MemberName = Annotated[str, Path(description="A member's user name.", examples=["maria"], max_length=255)]
InvitationId = Annotated[str, Path(description="The invitation's id.", max_length=40)]


@router.get("", summary="Your teams")
async def teams(person: PersonIn, factory: FactoryIn) -> Page[Team]:
    """Return the teams that you are in, by name."""
    return Page(items=await factory.teams.teams(person))


@router.post("", status_code=201, summary="Make a team")
async def make_team(new: NewTeam, person: PersonIn, factory: FactoryIn) -> Team:
    """Make a team with a volume of the same name. You become its owner."""
    return await factory.teams.create(person, new)


@router.get("/{team_name}", summary="One team")
async def team(team_name: TeamName, person: PersonIn, factory: FactoryIn) -> Team:
    """Return one of your teams with its members."""
    return await factory.teams.team(person, team_name)


@router.patch("/{team_name}", summary="Describe a team")
async def describe_team(team_name: TeamName, text: TeamText, person: PersonIn, factory: FactoryIn) -> Team:
    """Give a team another title and description. For its owners."""
    return await factory.teams.describe(person, team_name, title=text.title, description=text.description)


@router.delete("/{team_name}", status_code=204, summary="Delete a team")
async def delete_team(team_name: TeamName, person: PersonIn, factory: FactoryIn) -> None:
    """Delete a team and stop the sessions that mount its volume. Its files stay on the server. For its owners."""
    await factory.teams.delete(person, team_name)


@router.get("/{team_name}/members", summary="Who is in a team")
async def members(team_name: TeamName, person: PersonIn, factory: FactoryIn) -> Team:
    """Return the team with its members."""
    return await factory.teams.team(person, team_name)


@router.patch("/{team_name}/members/{member}", summary="Change a role")
async def change_role(
    team_name: TeamName, member: MemberName, new: NewRole, person: PersonIn, factory: FactoryIn
) -> Team:
    """Give a member another role. Who may only read now has sessions stopped that could write. For its owners."""
    return await factory.teams.change_role(person, team_name, member, new.role)


@router.delete("/{team_name}/members/{member}", status_code=204, summary="Remove a member, or leave")
async def remove_member(
    team_name: TeamName, member: MemberName, person: PersonIn, factory: FactoryIn
) -> None:
    """Remove a member, for the team's owners; or leave, with your own name. Sessions that mount its volume are stopped."""
    if member == person.name:
        await factory.teams.leave(person, team_name)
    else:
        await factory.teams.remove(person, team_name, member)


@router.get("/{team_name}/invitations", summary="A team's open invitations")
async def invitations(team_name: TeamName, person: PersonIn, factory: FactoryIn) -> Page[Invitation]:
    """Return who is invited, and the links that still work (not the links themselves). For its owners."""
    return Page(items=await factory.teams.invitations(person, team_name))


@router.post("/{team_name}/invitations", status_code=201, summary="Invite")
async def invite(team_name: TeamName, new: NewInvitation, person: PersonIn, factory: FactoryIn) -> Invitation:
    """Invite a person, or make a link for whoever is given it: it is shown only now. For the team's owners."""
    return await factory.teams.invite(person, team_name, new)


@router.delete("/{team_name}/invitations/{invitation_id}", status_code=204, summary="Withdraw an invitation")
async def withdraw(
    team_name: TeamName, invitation_id: InvitationId, person: PersonIn, factory: FactoryIn
) -> None:
    """From now on nobody comes in by it. For the team's owners."""
    await factory.teams.withdraw(person, team_name, invitation_id)
