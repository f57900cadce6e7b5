"""Teams: groups of users that share volumes and sessions."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.models.base import Model, Slug, Time

__all__ = [
    "Acceptance",
    "Invitation",
    "Member",
    "NewInvitation",
    "NewRole",
    "NewTeam",
    "Role",
    "Team",
    "TeamText",
]


class Role(StrEnum):
    """What a member may do."""

    OWNER = "owner"
    """Also invite, remove, change roles, delete the team."""
    MEMBER = "member"
    """Read and write the team's volume."""
    READER = "reader"
    """Read it."""


class Member(Model):
    """A person in a team."""

    person: str
    role: Role
    since: Time


class Team(Model):
    """A group of people."""

    name: Slug
    """Also the name of its group at the hub and of its volume."""
    title: str
    description: str = ""
    created: Time
    members: list[Member]


class NewTeam(Model):
    """What a person gives to make a team; the person becomes its owner."""

    name: Slug
    title: str = Field(min_length=1, max_length=100)
    description: str = ""


class NewInvitation(Model):
    """An invitation, to one person or to whoever is given its link."""

    person: str | None = None
    """Nothing: a link."""
    role: Role = Role.MEMBER
    days: int = Field(default=7, ge=1, le=90)


class Invitation(Model):
    """An open invitation."""

    id: str
    team: Slug
    team_title: str
    person: str | None
    role: Role
    by: str
    created: Time
    expires: Time
    link: str | None = None
    """The page where it is accepted; only in the answer to the one who made it."""


class TeamText(Model):
    """What a team is called and about."""

    title: str = Field(min_length=1, max_length=100)
    description: str = ""


class NewRole(Model):
    """Another role for a member."""

    role: Role


class Acceptance(Model):
    """Which invitation is accepted: one of the two."""

    id: str | None = Field(default=None, max_length=40)
    """Of an invitation to oneself."""
    token: str | None = Field(default=None, max_length=100)
    """The last part of a link."""
