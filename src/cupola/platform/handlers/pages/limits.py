"""Limits: what your profile lets you use, and how much of that your jobs and those of your teams have used."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup

from cupola.models.person import Person
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import answer_part, page, part

__all__ = ["router"]

router = APIRouter()


@router.get("/limits")
async def limits(request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show what you may use."""
    return page(request, "limits.html", person=person, live=await _part(request, person, factory))


@router.get("/limits/live")
async def limits_live(request: Request, person: PersonIn, factory: FactoryIn, seen: str = "") -> Response:
    """Return what is used alone, if it is other than what was `seen`."""
    return answer_part(await _part(request, person, factory), seen)


async def _part(request: Request, person: Person, factory: Factory) -> Markup:
    return part(
        request,
        "parts/limits.html",
        person=person,
        name="limits",
        address="limits/live",
        every="10s",
        uses=await factory.jobs.shares.uses(person),
        engines=await factory.engines.engines(person.profile),
    )
