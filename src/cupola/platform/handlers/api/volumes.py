"""Data areas."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path

from cupola.models.base import Page
from cupola.models.volume import NewVolume, Volume, VolumeChange, VolumeUse
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn

__all__ = ["router"]

router = APIRouter(prefix="/volumes", tags=["volumes"])

Name = Annotated[str, Path(description="The volume's name.", examples=["sample-archive"])]
Added = Annotated[
    NewVolume,
    Body(
        openapi_examples={
            "bucket": {
                "summary": "A bucket that everybody may read",
                "value": {
                    "name": "hst-acs",
                    "title": "Hubble ACS, public",
                    "bucket": {"endpoint": "https://s3.example.org", "bucket": "hst-public", "prefix": "acs"},
                    "mission": "Hubble Space Telescope",
                    "instrument": "ACS",
                },
            },
            "shared": {
                "summary": "A bucket with keys, for a team",
                "value": {
                    "name": "dust-maps",
                    "title": "Dust maps",
                    "bucket": {"endpoint": "https://s3.example.org", "bucket": "dust", "anonymous": False},
                    "key_id": "AKIA...",
                    "key_secret": "...",
                    "example": "examples/first-look.ipynb",
                    "visibility": "team",
                    "team": "dust",
                },
            },
        }
    ),
]
Changed = Annotated[
    VolumeChange,
    Body(
        openapi_examples={
            "everybody": {
                "summary": "Offer it to everybody",
                "value": {"visibility": "everybody", "example": "examples/first-look.ipynb"},
            }
        }
    ),
]


@router.get("", summary="All volumes")
async def volumes(person: PersonIn, factory: FactoryIn) -> Page[Volume]:
    """Return the volumes you may use, with the collections that lie in them."""
    return Page(items=await factory.volumes.volumes(person))


@router.post("", status_code=201, summary="Add a volume")
async def add_volume(new: Added, person: PersonIn, factory: FactoryIn) -> Volume:
    """Add a bucket; administrators can add exports and folders too. Keys are kept and never shown again."""
    return await factory.volumes.add(person, new)


@router.get("/{name}", summary="One volume")
async def volume(name: Name, person: PersonIn, factory: FactoryIn) -> Volume:
    """Return a volume with the collections that lie in it."""
    return await factory.volumes.inspect(person, name)


@router.patch("/{name}", summary="Change a volume")
async def change_volume(name: Name, change: Changed, person: PersonIn, factory: FactoryIn) -> Volume:
    """Change a volume that you have added; administrators can change everybody's, and approve."""
    return await factory.volumes.change(person, name, change)


@router.delete("/{name}", status_code=204, summary="Remove a volume")
async def remove_volume(name: Name, person: PersonIn, factory: FactoryIn) -> None:
    """Remove a volume that you have added, if no session uses it; its files stay where they are."""
    await factory.volumes.remove(person, name)


@router.get("/{name}/uses", summary="Who uses a volume")
async def volume_uses(name: Name, person: PersonIn, factory: FactoryIn) -> Page[VolumeUse]:
    """Return the running sessions that mount a volume."""
    return Page(items=await factory.volumes.uses(person, name))


@router.post("/{name}/measure", status_code=202, summary="Count its size")
async def measure_volume(name: Name, person: PersonIn, factory: FactoryIn) -> None:
    """Begin to count the size of a volume; it is in the volume when it is known."""
    await factory.volumes.measure(person, name)
