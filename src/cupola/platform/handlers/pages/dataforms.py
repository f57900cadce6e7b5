"""Adding, changing and removing volumes; what is wrong is said at its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from cupola.exceptions import ConflictError, InputError, LimitError, NotAllowedError, UnavailableError
from cupola.models.person import Person
from cupola.models.volume import NewVolume, Volume, VolumeChange
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter()

_TOLD = ("title", "description", "mission", "instrument", "body", "licence", "citation", "example")
_PLACES = {
    "bucket": ("endpoint", "bucket", "prefix", "region"),
    "export": ("server", "export_path", "options"),
    "path": ("path",),
}
_SECRET = {"key_id", "key_secret"}
_SENTENCES = {
    "name": "Give small letters, digits and single hyphens, a letter first, at most 40 of them.",
    "title": "Give a title of at most 100 letters.",
}


@router.get("/volumes/add")
async def add_form(request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show the empty form."""
    return _form(request, person, factory, {"place": "bucket", "keys": "no", "visibility": "owner"})


@router.post("/volumes/add")
async def add(request: Request, person: PersonIn, factory: FactoryIn) -> Response:
    """Add a volume, or show the form again with what is wrong."""
    given = await _given(request)
    try:
        new = _new(given)
        volume = await factory.volumes.add(person, new)
    except ValidationError as error:
        return _form(request, person, factory, given, _wrong(error))
    except (InputError, ConflictError, LimitError, NotAllowedError, UnavailableError) as error:
        return _form(request, person, factory, given, _fields(error))
    return _to(factory, f"data/{volume.name}?said=added")


@router.get("/data/{name}/change")
async def change_form(name: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show the form with what is known."""
    volume = await factory.volumes.volume(person, name)
    given = {field: str(getattr(volume, field) or "") for field in _TOLD}
    given |= {
        "tags": ", ".join(volume.tags),
        "visibility": volume.visibility.value,
        "team": volume.team or "",
    }
    return _form(request, person, factory, given, volume=volume)


@router.post("/data/{name}/change")
async def change(name: str, request: Request, person: PersonIn, factory: FactoryIn) -> Response:
    """Change a volume, or show the form again with what is wrong."""
    volume = await factory.volumes.volume(person, name)
    given = await _given(request)
    told: dict[str, Any] = {field: given.get(field, "") for field in _TOLD}
    told |= {
        "tags": _tags(given),
        "visibility": given.get("visibility", "owner"),
        "team": given.get("team") or None,
    }
    told |= {field: given[field] for field in _SECRET if given.get(field)}
    try:
        await factory.volumes.change(person, name, VolumeChange.model_validate(told))
    except ValidationError as error:
        return _form(request, person, factory, given, _wrong(error), volume=volume)
    except (InputError, NotAllowedError, UnavailableError) as error:
        return _form(request, person, factory, given, _fields(error), volume=volume)
    return _to(factory, f"data/{name}?said=changed")


@router.post("/data/{name}/approve")
async def approve(name: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Offer a volume to everybody, as its owner asked."""
    await factory.volumes.change(person, name, VolumeChange(approve=True))
    return _to(factory, f"data/{name}?said=approved")


@router.post("/data/{name}/remove")
async def remove(name: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Remove a volume."""
    await factory.volumes.remove(person, name)
    return _to(factory, "data?said=removed")


async def _given(request: Request) -> dict[str, str]:
    form = await request.form()
    return {
        name: value.strip() if name not in _SECRET else value
        for name, value in form.items()
        if isinstance(value, str) and name != FIELD
    }


def _new(given: dict[str, str]) -> NewVolume:
    told: dict[str, Any] = {field: given.get(field, "") for field in _TOLD}
    place = given.get("place", "bucket")
    keys = given.get("keys") == "yes"
    if place == "bucket":
        told["bucket"] = {field: given.get(field, "") for field in _PLACES["bucket"]} | {
            "anonymous": not keys
        }
        if keys:
            told |= {field: given.get(field) or None for field in _SECRET}
    elif place == "export":
        told["export"] = {
            "server": given.get("server", ""),
            "path": given.get("export_path", ""),
            "options": given.get("options", ""),
        }
    else:
        told["path"] = Path(given.get("path", ""))
    told |= {
        "name": given.get("name", ""),
        "tags": _tags(given),
        "example": given.get("example") or None,
        "team": given.get("team") or None,
        "visibility": given.get("visibility", "owner"),
    }
    return NewVolume.model_validate(told)


def _tags(given: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in given.get("tags", "").split(",") if word.strip()))


def _wrong(error: ValidationError) -> dict[str, str]:
    """Return by field what is wrong."""
    fields = {str(one["loc"][-1] if len(one["loc"]) == 1 else one["loc"][1]) for one in error.errors()}
    return {field: _SENTENCES.get(field, "This is too long, or not what is meant here.") for field in fields}


def _fields(error: Exception) -> dict[str, str]:
    """Return by field what a service complains about; an empty name stands for the form as a whole."""
    fields = getattr(error, "fields", None)
    if isinstance(fields, dict):
        return fields
    return {"name": str(error)} if isinstance(error, ConflictError) else {"": str(error)}


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


def _form(  # noqa: PLR0913, PLR0917 - a form is what was given and what is wrong with it
    request: Request,
    person: Person,
    factory: Factory,
    given: dict[str, str],
    wrong: dict[str, str] | None = None,
    volume: Volume | None = None,
) -> HTMLResponse:
    # Keys are asked for again: they are never sent back to a browser.
    kept = {name: value for name, value in given.items() if name not in _SECRET}
    return page(
        request,
        "data-form.html",
        person=person,
        status=422 if wrong else 200,
        given=kept,
        wrong=wrong or {},
        volume=volume,
        teams=person.teams,
        places=_PLACES if person.admin else {"bucket": _PLACES["bucket"]},
        allowed=person.admin or factory.config.custom_volumes.enabled,
    )
