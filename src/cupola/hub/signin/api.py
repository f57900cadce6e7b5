"""What the portal's page People asks of the hub; nobody else may."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.orm import Service
from tornado import web
from typing_extensions import override

from cupola.exceptions import ConflictError, CupolaError, InputError
from cupola.hub.signin.names import LONGEST_LOGIN, is_name

if TYPE_CHECKING:
    from cupola.hub.signin.admission import Admission
    from cupola.hub.signin.people import Known, Request

__all__ = ["PORTAL", "ROUTES", "act", "add", "change_role", "describe", "remove"]

PORTAL = "cupola"
_LARGEST = 10_000


def describe(admission: Admission) -> dict[str, Any]:
    """Return who is known and who waits, as plain data."""
    return {
        "people": [_person(admission, known) for known in admission.people.everybody()],
        "requests": [_request(request) for request in admission.people.requests()],
        "allow_list": str(admission.list.path) if admission.list.path else None,
        "problem": admission.list.problem,
        "others": admission.others,
    }


def _person(admission: Admission, known: Known) -> dict[str, Any]:
    listed = [admission.list.current.admin(identity) is not None for identity in known.identities]
    source = (
        "owner"
        if known.name == admission.owner
        else "removed"
        if known.removed
        else "list"
        if any(listed)
        else "administrator"
        if known.admitted
        else known.rule or "nothing"
    )
    return {
        "name": known.name,
        "admin": admission.admin(known),
        "standing": admission.standing(known).value,
        "source": source,
        "since": known.since.isoformat(),
        "logins": [f"{identity.method}:{identity.login}" for identity in known.identities],
    }


def _request(request: Request) -> dict[str, Any]:
    return {
        "method": request.identity.method,
        "login": request.identity.login,
        "name": request.name,
        "asked": request.asked.isoformat(),
    }


class PeopleHandler(APIHandler):  # type: ignore[misc]
    """Who is known (GET), and one change (POST: ``{"do": ..., "name": ...}``)."""

    @override
    async def prepare(self) -> None:
        await super().prepare()
        caller = self.current_user
        if not isinstance(caller, Service) and getattr(caller, "kind", "") != "service":
            raise web.HTTPError(HTTPStatus.NOT_FOUND)
        if caller.name != PORTAL:
            raise web.HTTPError(HTTPStatus.NOT_FOUND)

    @property
    def admission(self) -> Admission:
        """Decides who may come in."""
        admission: Admission = self.authenticator.admission
        return admission

    def get(self) -> None:
        """Answer all."""
        self.admission.list.refresh()
        self.finish(describe(self.admission))

    async def post(self) -> None:
        """Do one thing, and answer all as it is then."""
        try:
            if len(self.request.body) > _LARGEST:
                raise InputError("The request is too large.")
            wanted = json.loads(self.request.body)
            act(self.admission, {key: str(value) for key, value in wanted.items()})
        except (ValueError, AttributeError) as exc:
            raise web.HTTPError(HTTPStatus.BAD_REQUEST, "no JSON object") from exc
        except CupolaError as exc:
            self.set_status(exc.status)
            self.finish({"status": exc.status, "message": str(exc)})
            return
        if self.authenticator.guard is not None:
            await self.authenticator.guard.look()
        self.finish(describe(self.admission))


class MailHandler(PeopleHandler):
    """The address that somebody's provider has verified (POST: ``{"name": ...}``)."""

    @override
    def get(self) -> None:
        """Answer nothing: a name in an address ends up in logs."""
        raise web.HTTPError(HTTPStatus.METHOD_NOT_ALLOWED)

    @override
    async def post(self) -> None:
        """Answer one address, empty where none is known."""
        try:
            name = str(json.loads(self.request.body)["name"])
        except (ValueError, KeyError, TypeError) as exc:
            raise web.HTTPError(HTTPStatus.BAD_REQUEST, "no name") from exc
        self.finish({"mail": self.admission.people.mail_of(name)})


def act(admission: Admission, wanted: dict[str, str]) -> None:
    """Do what an administrator wants: ``do`` with ``name``, or with ``method`` and ``login`` of who waits.

    Raises
    ------
    CupolaError
        It cannot be done; the text says why.
    """
    people, name = admission.people, wanted.get("name", "")
    match wanted.get("do"):
        case "approve":
            admission.approve(people.request(wanted.get("method", ""), wanted.get("login", "")), name)
        case "refuse":
            people.forget(people.request(wanted.get("method", ""), wanted.get("login", "")).identity)
        case "add":
            add(admission, name)
        case "remove":
            remove(admission, name)
        case "admin" | "member" as role:
            change_role(admission, name, admin=role == "admin")
        case other:
            raise InputError(f'there is no "{str(other)[:40]}" to do')


def add(admission: Admission, name: str, *, admin: bool | None = None) -> bool:
    """Let `name` in by an administrator's word; say whether the name is new.

    Raises
    ------
    ConflictError
        It cannot be a name, or nobody but the owner may come in.
    """
    if len(name) > LONGEST_LOGIN or not is_name(name):
        raise ConflictError(
            f'"{name[:64]}" cannot be a user name: take small letters, digits, dots and hyphens, at most 64'
        )
    if not admission.others and name != admission.owner:
        raise ConflictError(
            "with `compute: process` nobody but the owner may come in, because all sessions run as one system account; "
            "set `compute: docker`"
        )
    return admission.people.admit(name, admin=admin)


def remove(admission: Admission, name: str) -> None:
    """Let `name` in no more.

    Raises
    ------
    ConflictError
        They are the owner.
    NotFoundError
        Nobody has the name.
    """
    if name == admission.owner:
        raise ConflictError(
            f"{name} is the owner, who cannot be removed; name another `owner` in cupola.yaml"
        )
    admission.people.remove(name)


def change_role(admission: Admission, name: str, *, admin: bool) -> None:
    """Make `name` an administrator, or no longer.

    Raises
    ------
    ConflictError
        They are the owner, or the allow-list says what they are.
    NotFoundError
        Nobody has the name.
    """
    known = admission.people.find(name)
    if name == admission.owner:
        raise ConflictError(f"{name} is the owner, who is an administrator always")
    if known and any(admission.list.current.admin(identity) is not None for identity in known.identities):
        raise ConflictError(
            f"{name} is on the allow-list, which says who is an administrator; change it there"
        )
    admission.people.set_admin(name, admin=admin)


ROUTES = [(r"/api/cupola/people", PeopleHandler), (r"/api/cupola/mail", MailHandler)]
