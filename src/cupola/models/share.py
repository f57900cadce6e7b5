"""Shares: a running session that others may open."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.models.base import Model, Slug, Time

__all__ = ["NewShare", "Share", "ShareAccess", "Visit"]


class ShareAccess(StrEnum):
    """What the others may do in the session."""

    VIEW = "view"
    """See files and the state of kernels; change and run nothing."""
    FULL = "full"
    """All that the owner can do in it: it is the owner's account that acts."""


class NewShare(Model):
    """Who is to be let in; exactly one of `person` and `team`."""

    person: str | None = None
    team: Slug | None = None
    access: ShareAccess = ShareAccess.VIEW
    hours: float = Field(default=8, gt=0, le=24 * 30)
    """It ends by itself after this time."""


class Share(Model):
    """One share of a session."""

    id: str
    session: Slug
    owner: str
    person: str | None
    team: Slug | None
    access: ShareAccess
    created: Time
    expires: Time


class Visit(Model):
    """What a session is told about somebody who wants in."""

    person: str
    access: ShareAccess | None
    """Nothing: nobody let them in, or not any more."""
