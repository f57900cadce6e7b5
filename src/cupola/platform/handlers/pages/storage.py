"""Storage: the bar that says how full your home is; other pages ask for it when they are shown."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import answer_part, part

__all__ = ["router"]

router = APIRouter()


@router.get("/storage/live")
async def storage_live(request: Request, person: PersonIn, factory: FactoryIn, seen: str = "") -> Response:
    """Return the bars alone, if they are others than those `seen`."""
    usages = await factory.quotas.usages(person)
    body = part(
        request,
        "parts/storage.html",
        person=person,
        name="storage",
        address="storage/live",
        every="30s",
        usages=usages,
    )
    return answer_part(body, seen)
