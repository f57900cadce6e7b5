"""The design system on one page."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from cupola.platform.handlers.dependencies import PersonIn
from cupola.platform.handlers.pages.render import STATIC, page

__all__ = ["router"]

router = APIRouter()

_COLOUR = re.compile(r"^\s*--([a-z-]+):\s*(?:light-dark\(\s*#|#)", re.MULTILINE)


@router.get("/design")
async def design(request: Request, person: PersonIn) -> HTMLResponse:
    """Show every colour, size and component."""
    colours = _COLOUR.findall((STATIC / "css" / "tokens.css").read_text("utf-8"))
    runs = [("done", 140), ("failed", 2), ("done", 31), ("running", 6), ("lost", 1), ("queued", 120)]
    return page(
        request,
        "design.html",
        person=person,
        colours=colours,
        runs=",".join(f"{state} {length}" for state, length in runs),
        tasks=sum(length for _, length in runs),
    )
