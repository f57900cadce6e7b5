"""The batch engines."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.base import Page
from cupola.models.engine import EngineInfo
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/engines", tags=["jobs"])


@router.get("", summary="The batch engines")
async def engines(person: PersonIn, factory: FactoryIn) -> Page[EngineInfo]:
    """Return the batch engines, the default one first, with what each has now and a task of yours may have of it.

    One that hangs is told as not answering.
    """
    return Page(items=await factory.engines.engines(person.profile))
