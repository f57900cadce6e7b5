"""Capacity."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.resources import Capacity
from cupola.platform.handlers.dependencies import FactoryIn

__all__ = ["router"]

router = APIRouter(prefix="/capacity", tags=["sessions"])


@router.get("", summary="What is free")
async def capacity(factory: FactoryIn) -> Capacity:
    """Return what sessions may use together, and what is free of it now."""
    return await factory.capacity.capacity()
