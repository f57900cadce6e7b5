"""Who is signed in."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.person import Person
from cupola.platform.handlers.dependencies import PersonIn

__all__ = ["router"]

router = APIRouter(tags=["people"])


@router.get("/me", summary="Who am I")
async def me(person: PersonIn) -> Person:
    """Return the person whose token this is, with what the person may use."""
    return person
