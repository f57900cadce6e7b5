"""Packages that you installed in your sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from cupola.models.packages import PackageHint
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(tags=["people"])

DatalabName = Annotated[str, Query(description="The datalab's name.", examples=["lab"])]
VersionDigest = Annotated[
    str | None, Query(description="The version's digest; nothing for the recommended one.", max_length=100)
]


@router.get("/me/packages", summary="What becomes of my packages")
async def packages(
    person: PersonIn, factory: FactoryIn, datalab: DatalabName, version: VersionDigest = None
) -> PackageHint:
    """Return what becomes of the packages you installed in a session on this version."""
    built = await factory.catalogue.version(datalab, version)
    hint: PackageHint = await factory.packages.hint(person, built.version.digest)
    return hint
