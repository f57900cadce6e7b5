"""Data areas."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from cupola.models.base import Page
from cupola.models.volume import Volume
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/volumes", tags=["volumes"])


@router.get("", summary="All volumes")
async def volumes(person: PersonIn, factory: FactoryIn) -> Page[Volume]:
    """Return the volumes you may use, with the collections that lie in them."""
    return Page(items=await factory.volumes.volumes(person))


@router.get("/{name}", summary="One volume")
async def volume(
    name: Annotated[str, Path(examples=["sample-archive"])], person: PersonIn, factory: FactoryIn
) -> Volume:
    """Return a volume with the collections that lie in it."""
    return await factory.volumes.volume(person, name)
