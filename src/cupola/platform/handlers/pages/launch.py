"""Launch links: a filled-in form behind an address. Nothing is ever launched by opening one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import TypeAdapter

from cupola.exceptions import InputError
from cupola.models.base import Time
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.forms import (
    Choices,
    choices_of_query,
    choices_of_session,
    digest_of_item,
    read_form,
)
from cupola.platform.handlers.pages.render import page
from cupola.platform.handlers.pages.wizard import adapted, wizard

__all__ = ["router"]

router = APIRouter()

_LARGEST_ITEM = 2**20
"""In bytes; items are a few KiB."""
_UTC: TypeAdapter[datetime] = TypeAdapter(Time)
Text = Annotated[str, Query(max_length=200)]


@router.get("/launch")
async def launch_link(  # noqa: PLR0913, PLR0917 - what a link can be about
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    datalab: Text = "",
    session: Text = "",
    product: Text = "",
    made: Text = "",
    shared: bool = False,
) -> HTMLResponse:
    """Show the form with the choices of a link, of an earlier session, or of what made a product."""
    if product:
        return await _rerun(request, person, factory, product, datalab or None, made)
    if session:
        before = await factory.sessions.session(person, session)
        chosen, notes = choices_of_session(before), list[str]()
        shown = await factory.catalogue.datalab(before.datalab)
    elif datalab:
        chosen, notes = choices_of_query(request.query_params)
        shown = await factory.catalogue.datalab(datalab)
    else:
        return page(request, "launch.html", person=person)
    fits, more = await adapted(person, factory, shown, chosen)
    link = _address(factory, chosen, shown.name) if shared else ""
    return await wizard(request, person, factory, shown, fits, notes=notes + more, link=link)


@router.post("/launch")
async def make_link(request: Request, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Turn the choices of a form into the link that carries them."""
    del person
    form = read_form(await request.form())
    query = form.choices().query(form.datalab)
    return RedirectResponse(f"{factory.hub_settings.prefix}launch?{query}&shared=true#link", 303)


@router.post("/launch/product")
async def find_product(
    request: Request, person: PersonIn, factory: FactoryIn, item: UploadFile
) -> RedirectResponse:
    """Read from a product's item which version made it, and go to that version's form."""
    del request, person
    text = await item.read(_LARGEST_ITEM + 1)
    if len(text) > _LARGEST_ITEM:
        raise InputError(
            "This file is too large for an item: choose the .json file that lies beside the product."
        )
    digest, made = digest_of_item(text)
    query = {"product": digest} | ({"made": made} if made else {})
    return RedirectResponse(f"{factory.hub_settings.prefix}launch?{urlencode(query)}", 303)


async def _rerun(  # noqa: PLR0913, PLR0917 - who asks, and what is known of the product
    request: Request, person: PersonIn, factory: FactoryIn, digest: str, datalab: str | None, made: str
) -> HTMLResponse:
    found = await factory.reruns.find(digest, datalab=datalab, made=_time(made))
    choices = Choices(version=digest)
    if found.version is not None:
        note = f"This is exactly the version that you asked for: {found.version.label}, {digest[7:19]}."
        if not found.version.ready:
            note += " It must be fetched before it can start."
        return await wizard(request, person, factory, found.datalab, choices, notes=[note])
    gone = f"The version {digest[7:19]} of {found.datalab.title} is gone"
    if found.nearest is None:
        note = f"{gone}, and no other one can start here now."
    else:
        choices.version = found.nearest.digest
        note = f"{gone}: chosen is {found.nearest.label}, which comes nearest to it. Results may differ."
    return await wizard(request, person, factory, found.datalab, choices, notes=[note])


def _address(factory: FactoryIn, choices: Choices, datalab: str) -> str:
    return f"{factory.config.address}{factory.hub_settings.prefix}launch?{choices.query(datalab)}"


def _time(text: str) -> datetime | None:
    """Return the time that a product's item says, or nothing if it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _UTC.validate_python(found)
