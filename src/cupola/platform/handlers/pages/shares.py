"""Sharing a session, and the sessions that others share with you."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import ValidationError

from cupola.exceptions import ConflictError, InputError, LimitError, NotFoundError
from cupola.models.person import Person
from cupola.models.session import SessionState
from cupola.models.share import NewShare
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import answer_part, page, part

__all__ = ["router"]

router = APIRouter()

_SAID = {
    "shared": "The session is shared. The others find it on their page Sessions.",
    "revoked": "The share has ended. What they have open is closed within a minute.",
}

Text = Annotated[str, Form(max_length=300)]


@router.get("/sessions/{session_id}/shares")
async def shares(
    session_id: str, request: Request, person: PersonIn, factory: FactoryIn, said: str = ""
) -> HTMLResponse:
    """Show with whom a session is shared."""
    return await _page(request, person, factory, session_id, said=_SAID.get(said, ""))


@router.get("/sessions/{session_id}/shares/live")
async def shares_live(
    session_id: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return the list alone, if it is another than the one `seen`."""
    return answer_part(await _shares_part(request, person, factory, session_id), seen)


@router.post("/sessions/{session_id}/shares")
async def share(  # noqa: PLR0913, PLR0917 - the fields of its form
    session_id: str,
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    who: Text = "",
    team: Text = "",
    access: Text = "view",
    hours: Text = "8",
) -> Response:
    """Share a session; the form is shown again where that cannot be."""
    wish = {"person": who.strip() or None, "team": team or None, "access": access, "hours": hours}
    try:
        await factory.shares.share(person, session_id, NewShare.model_validate(wish))
    except (ValidationError, ConflictError, InputError, LimitError, NotFoundError) as error:
        problem = (
            "Choose a person or a team, what they may do, and for how long."
            if isinstance(error, ValidationError)
            else str(error)
        )
        return await _page(request, person, factory, session_id, status=422, problem=problem, who=who)
    return _to(factory, f"sessions/{session_id}/shares?said=shared")


@router.post("/sessions/{session_id}/shares/{share_id}/revoke")
async def revoke(session_id: str, share_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """End a share."""
    await factory.shares.revoke(person, session_id, share_id)
    return _to(factory, f"sessions/{session_id}/shares?said=revoked")


@router.get("/shared/live")
async def shared_live(request: Request, person: PersonIn, factory: FactoryIn, seen: str = "") -> Response:
    """Return the sessions of others that you may open, if they are others than the ones `seen`."""
    sessions = await factory.shares.shared_with(person)
    text = part(
        request,
        "parts/shared-sessions.html",
        person=person,
        name="shared-with-me",
        address="shared/live",
        every="8s",
        shared=sessions,
        icons={datalab.name: datalab.icon for datalab in await factory.catalogue.datalabs()},
    )
    return answer_part(text, seen)


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


async def _shares_part(request: Request, person: Person, factory: Factory, session: str) -> Markup:
    return part(
        request,
        "parts/shares.html",
        person=person,
        name="shares",
        address=f"sessions/{session}/shares/live",
        every="8s",
        session=await factory.sessions.session(person, session),
        shares=await factory.shares.shares(person, session),
    )


async def _page(  # noqa: PLR0913 - what can be shown on it
    request: Request,
    person: Person,
    factory: Factory,
    session_id: str,
    *,
    status: int = 200,
    said: str = "",
    problem: str = "",
    who: str = "",
) -> HTMLResponse:
    session = await factory.sessions.session(person, session_id)
    return page(
        request,
        "shares.html",
        person=person,
        status=status,
        session=session,
        runs=session.state is SessionState.READY,
        viewable=await factory.shares.can_be_viewed(session_id),
        live=await _shares_part(request, person, factory, session_id),
        teams=await factory.teams.teams(person),
        said=said,
        problem=problem,
        who=who,
    )
