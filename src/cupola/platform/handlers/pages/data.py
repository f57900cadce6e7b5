"""Data: finding a volume, and a page for each with all that is known of it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from cupola.models.person import Person
from cupola.models.session import LaunchRequest, Session, SessionState
from cupola.models.volume import Volume, VolumeKind
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.datasearch import Search, Wish
from cupola.platform.handlers.pages.render import answer_part, page, part

__all__ = ["router"]

router = APIRouter()

_SAID = {
    "added": "The volume is added.",
    "changed": "The volume is changed.",
    "removed": "The volume is removed; its files stay where they are.",
    "approved": "Everybody finds the volume now.",
    "measuring": "Its size is being counted: it appears here when it is known.",
}
_LAB = "lab"
_WAITS = {SessionState.REQUESTED, SessionState.STARTING}


@router.get("/data")
async def data(
    request: Request, person: PersonIn, factory: FactoryIn, wish: Annotated[Wish, Query()], said: str = ""
) -> HTMLResponse:
    """Show the volumes, or those that are looked for."""
    search = Search.of(wish, await factory.volumes.volumes(person))
    base = factory.hub_settings.prefix
    return page(
        request,
        "data.html",
        person=person,
        search=search,
        older=f"{base}data?{urlencode(search.query(wish.page + 1))}" if search.more else "",
        newer=f"{base}data?{urlencode(search.query(wish.page - 1))}" if wish.page > 1 else "",
        said=_SAID.get(said, ""),
    )


@router.get("/data/{name}")
async def volume_page(
    name: str, request: Request, person: PersonIn, factory: FactoryIn, said: str = ""
) -> HTMLResponse:
    """Show one volume."""
    volume = await factory.volumes.inspect(person, name)
    return page(
        request,
        "data-volume.html",
        person=person,
        volume=volume,
        place=_place(volume),
        snippet=_snippet(volume),
        mine=_may_change(person, volume),
        live=await _live_part(request, person, factory, volume),
        said=_SAID.get(said, ""),
    )


@router.get("/data/{name}/live")
async def volume_live(
    name: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return what changes by itself, if it is another than the one `seen`."""
    volume = await factory.volumes.inspect(person, name)
    return answer_part(await _live_part(request, person, factory, volume), seen)


@router.post("/data/{name}/measure")
async def measure(name: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Begin to count the size of a volume."""
    await factory.volumes.measure(person, name)
    return _to(factory, f"data/{name}?said=measuring")


@router.post("/data/{name}/example")
async def example(name: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Open the example notebook: in a Lab that runs and has the volume, else in a new one."""
    volume = await factory.volumes.volume(person, name)
    sessions = (await factory.sessions.sessions(person, limit=200)).items
    for session in sessions:
        if session.datalab == _LAB and session.state is SessionState.READY and name in session.volumes:
            return RedirectResponse(_notebook(session, volume), 303)
    others = await factory.volumes.chosen(
        person, (await factory.catalogue.datalab(_LAB)).volumes or [], skip_missing=True
    )
    names = [one.name for one in others.volumes if one.kind is not VolumeKind.HOME]
    wish = LaunchRequest(datalab=_LAB, volumes=list(dict.fromkeys([*names, name])))
    started = await factory.sessions.launch(person, wish)
    return _to(factory, f"data/{name}/example/{started.id}")


@router.get("/data/{name}/example/{session_id}")
async def example_opens(
    name: str, session_id: str, request: Request, person: PersonIn, factory: FactoryIn
) -> Response:
    """Show how the Lab for an example starts, and go to the notebook when it is ready."""
    session = await factory.sessions.session(person, session_id)
    volume = await factory.volumes.volume(person, name)
    if session.state is SessionState.READY:
        return RedirectResponse(_notebook(session, volume), 303)
    if session.state not in _WAITS:
        return _to(factory, f"sessions/{session.id}/starting")
    live = await _opening_part(request, person, factory, session, volume)
    return page(request, "data-opening.html", person=person, volume=volume, live=live)


@router.get("/data/{name}/example/{session_id}/live")
async def example_live(  # noqa: PLR0913, PLR0917 - the volume and the session that is to show it
    name: str, session_id: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return how far the Lab is, or send the browser to the notebook."""
    session = await factory.sessions.session(person, session_id)
    volume = await factory.volumes.volume(person, name)
    if session.state is SessionState.READY:
        return Response(headers={"HX-Redirect": _notebook(session, volume)})
    if session.state not in _WAITS:
        return Response(headers={"HX-Refresh": "true"})
    return answer_part(await _opening_part(request, person, factory, session, volume), seen)


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


async def _live_part(request: Request, person: Person, factory: Factory, volume: Volume) -> Markup:
    return part(
        request,
        "parts/data-live.html",
        person=person,
        name="volume-live",
        address=f"data/{volume.name}/live",
        every="2s" if volume.looking else "15s",
        volume=volume,
        uses=await factory.volumes.uses(person, volume.name),
    )


async def _opening_part(
    request: Request, person: Person, factory: Factory, session: Session, volume: Volume
) -> Markup:
    history = await factory.sessions.history(person, session.id)
    return part(
        request,
        "parts/data-opening.html",
        person=person,
        name="opening",
        address=f"data/{volume.name}/example/{session.id}/live",
        every="2s",
        session=session,
        last=history[-1] if history else None,
    )


def _may_change(person: Person, volume: Volume) -> bool:
    return volume.kind is VolumeKind.CUSTOM and (person.admin or volume.owner == person.name)


def _notebook(session: Session, volume: Volume) -> str:
    """Return where the example of a volume is open in a session, as a path on the platform's address."""
    url = (session.url or "").rstrip("/")
    if not volume.example:
        return url
    return f"{url}/tree/volumes/{volume.name}/{volume.example}"


def _place(volume: Volume) -> str:
    """Return where a session finds the volume."""
    return "~" if volume.kind is VolumeKind.HOME else f"~/volumes/{volume.name}"


def _snippet(volume: Volume) -> str:
    """Return Python that opens the volume, for a notebook."""
    if volume.kind is VolumeKind.HOME:
        return ""
    if not volume.collections:
        return f'from pathlib import Path\n\nfiles = sorted(Path.home().glob("volumes/{volume.name}/*"))'
    collection = volume.collections[0]
    lines = ["import cupola", "", f'images = cupola.open("{collection.id}")']
    if collection.bands:
        lines += ["m = cupola.Map()", f'm.add(images["{collection.bands[0]}"])', "m"]
    return "\n".join(lines)
