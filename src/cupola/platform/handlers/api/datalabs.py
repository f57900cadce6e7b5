"""The catalogue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from cupola.models.base import Page
from cupola.models.datalab import Datalab
from cupola.platform.handlers.dependencies import FactoryIn

__all__ = ["router"]

router = APIRouter(prefix="/datalabs", tags=["datalabs"])


@router.get("", summary="All datalabs")
async def datalabs(factory: FactoryIn) -> Page[Datalab]:
    """Return the catalogue; what cannot run here says why in `unavailable`."""
    return Page(items=await factory.catalogue.datalabs())


@router.get("/{name}", summary="One datalab")
async def datalab(name: Annotated[str, Path(examples=["lab"])], factory: FactoryIn) -> Datalab:
    """Return a datalab with its versions."""
    return await factory.catalogue.datalab(name)
