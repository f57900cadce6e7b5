"""Data: the volumes, what lies in them and how to open it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from cupola.models.volume import Volume, VolumeKind
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter()


@router.get("/data")
async def data(request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show the volumes."""
    volumes = await factory.volumes.volumes(person)
    return page(
        request,
        "data.html",
        person=person,
        volumes=volumes,
        places={volume.name: _place(volume) for volume in volumes},
        snippets={volume.name: _snippet(volume) for volume in volumes},
    )


def _place(volume: Volume) -> str:
    """Return where a session finds the volume."""
    return "~" if volume.kind is VolumeKind.HOME else f"~/volumes/{volume.name}"


def _snippet(volume: Volume) -> str:
    """Return Python that opens the volume, for a notebook."""
    if volume.kind is VolumeKind.HOME:
        return ""
    if not volume.collections:
        return f'from pathlib import Path\n\nfiles = sorted(Path.home().glob("volumes/{volume.name}/**/*"))'
    collection = volume.collections[0]
    lines = ["import cupola", "", f'images = cupola.open("{collection.id}")']
    if collection.bands:
        lines += ["m = cupola.Map()", f'm.add(images["{collection.bands[0]}"])', "m"]
    return "\n".join(lines)
