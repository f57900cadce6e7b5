"""Who may come in to the platform, and who waits for it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from cupola.models.base import Model, Time

__all__ = ["AdmissionAction", "AdmissionChange", "Admissions", "AdmittedPerson", "Waiting"]


class AdmittedPerson(Model):
    """Somebody whose name is taken."""

    name: str
    admin: bool
    standing: str
    """``inside``, ``lapsed`` (has to sign in again) or ``outside``."""
    source: str
    """Why: ``owner``, ``list``, ``administrator``, the name of a method whose rule fits, ``removed`` or ``nothing``."""
    since: Time
    logins: list[str] = Field(default_factory=list)
    """Their accounts, as ``METHOD:LOGIN``."""


class Waiting(Model):
    """Somebody who came and was not let in."""

    method: str
    login: str
    name: str
    """The user name they would get."""
    asked: Time


class Admissions(Model):
    """Everybody who is known, and everybody who waits."""

    people: list[AdmittedPerson] = Field(default_factory=list)
    requests: list[Waiting] = Field(default_factory=list)
    allow_list: str | None = None
    """The file of the allow-list."""
    problem: str = ""
    """What is wrong with it now."""
    others: bool = True
    """Whether anybody but the owner may come in with this way of running sessions."""


class AdmissionAction(StrEnum):
    """What an administrator does with somebody."""

    APPROVE = "approve"
    REFUSE = "refuse"
    ADD = "add"
    REMOVE = "remove"
    ADMIN = "admin"
    MEMBER = "member"


class AdmissionChange(Model):
    """One change."""

    do: AdmissionAction
    name: str = Field(default="", max_length=200)
    """The user name; for ``approve`` another one than they would get, if any."""
    method: str = Field(default="", max_length=20)
    login: str = Field(default="", max_length=200)
    """Who waits, for ``approve`` and ``refuse``."""
