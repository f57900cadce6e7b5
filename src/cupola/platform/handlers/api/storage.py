"""How full your home and the volumes of your teams are."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.base import Page
from cupola.models.storage import StorageUsage
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(tags=["people"])


@router.get("/me/storage", summary="How full my home is")
async def storage(person: PersonIn, factory: FactoryIn) -> Page[StorageUsage]:
    """Return what your home and the volumes of your teams hold and may hold, in bytes."""
    return Page(items=await factory.quotas.usages(person))
