"""The catalogue, and the page of one datalab."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from cupola.models.datalab import Datalab, Version
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.forms import Choices
from cupola.platform.handlers.pages.render import page
from cupola.platform.handlers.pages.wizard import wizard

__all__ = ["router"]

router = APIRouter()


@router.get("/")
async def catalogue(request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show what can be run, and on top what runs."""
    datalabs = await factory.catalogue.datalabs()
    chosen = {datalab.name: _played(datalab) for datalab in datalabs}
    sessions = (await factory.sessions.sessions(person)).items
    return page(
        request,
        "catalogue.html",
        person=person,
        # What runs here first; in either part as the catalogue has them.
        datalabs=sorted(datalabs, key=lambda datalab: datalab.unavailable is not None),
        running=[session for session in sessions if session.state.active],
        chosen=chosen,
        runnable=sum(
            datalab.unavailable is None and chosen[datalab.name] is not None for datalab in datalabs
        ),
        # One per shown page: a second click on play is the same wish.
        key=secrets.token_hex(8),
    )


@router.get("/datalabs/{name}")
async def datalab(name: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show one datalab with its versions, and a launch with choices."""
    shown = await factory.catalogue.datalab(name)
    return await wizard(request, person, factory, shown, Choices())


@router.get("/datalabs/{name}/icon.svg")
async def picture(name: str, person: PersonIn, factory: FactoryIn) -> Response:
    """Return the picture of a datalab; the content policy of all answers keeps scripts in it from running."""
    del person  # whoever is signed in sees the catalogue
    content = await factory.catalogue.picture(name)
    return Response(content, media_type="image/svg+xml", headers={"Cache-Control": "private, max-age=600"})


def _played(datalab: Datalab) -> Version | None:
    """Return the version that play starts, if there is any."""
    recommended = (version for version in datalab.versions if version.digest == datalab.recommended)
    return next(recommended, datalab.versions[0] if datalab.versions else None)
