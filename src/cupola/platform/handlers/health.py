"""Whether the portal lives."""

from __future__ import annotations

from fastapi import APIRouter

from cupola.platform.handlers.dependencies import FactoryIn

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/health")
async def get_health(factory: FactoryIn) -> dict[str, str]:
    """Answer once the database does."""
    await factory.check()
    return {"status": "ok"}
