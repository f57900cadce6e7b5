"""Who may come in, for administrators."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.models.admission import AdmissionChange, Admissions
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(tags=["people"])


@router.get("/people", summary="Who may come in, and who waits")
async def admissions(person: PersonIn, factory: FactoryIn) -> Admissions:
    """Return everybody; for administrators."""
    return await factory.admissions.all(person)


@router.post("/people", summary="Let somebody in or out")
async def change_admission(change: AdmissionChange, person: PersonIn, factory: FactoryIn) -> Admissions:
    """Change one thing and return everybody as it is then; for administrators."""
    return await factory.admissions.change(person, change)
