"""People: who may come in, who waits, who is an administrator; for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from cupola.exceptions import ConflictError, NotFoundError
from cupola.models.admission import AdmissionAction, AdmissionChange
from cupola.models.person import Person
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter()

_SAID = {
    AdmissionAction.APPROVE: "They may come in now.",
    AdmissionAction.REFUSE: "The request is forgotten.",
    AdmissionAction.ADD: "They may come in now.",
    AdmissionAction.REMOVE: "Their access ends within a minute; their files are kept.",
    AdmissionAction.ADMIN: "They are an administrator now.",
    AdmissionAction.MEMBER: "They are no longer an administrator.",
}
_WHY = {
    "owner": "owner of the platform",
    "list": "on the allow-list",
    "administrator": "let in by an administrator",
    "removed": "removed",
    "nothing": "not let in",
}

Text = Annotated[str, Form(max_length=200)]


@router.get("/people")
async def people(request: Request, person: PersonIn, factory: FactoryIn, said: str = "") -> HTMLResponse:
    """Show everybody."""
    known = said in set(AdmissionAction)
    return await _show(request, person, factory, said=_SAID[AdmissionAction(said)] if known else "")


@router.post("/people")
async def change(  # noqa: PLR0913, PLR0917 - the fields of its forms
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    do: Text = "",
    name: Text = "",
    method: Text = "",
    login: Text = "",
) -> Response:
    """Change one thing; the page says why where that cannot be."""
    try:
        wanted = AdmissionChange(do=AdmissionAction(do), name=name.strip(), method=method, login=login)
        await factory.admissions.change(person, wanted)
    except (ValidationError, ValueError):
        return await _show(
            request, person, factory, problem="This is nothing that can be done: try again.", status=422
        )
    except (ConflictError, NotFoundError) as error:
        return await _show(request, person, factory, problem=str(error), status=error.status)
    return RedirectResponse(f"{factory.hub_settings.prefix}people?said={wanted.do}", 303)


async def _show(  # noqa: PLR0913 - what the page says beside the list
    request: Request,
    person: Person,
    factory: Factory,
    *,
    said: str = "",
    problem: str = "",
    status: int = 200,
) -> HTMLResponse:
    found = await factory.admissions.all(person)
    order = {"inside": 0, "lapsed": 1, "outside": 2}
    return page(
        request,
        "people.html",
        person=person,
        status=status,
        admissions=found,
        people=sorted(found.people, key=lambda one: (order.get(one.standing, 3), one.name)),
        why=lambda source: _WHY.get(source, f"by a rule of {source}"),
        said=said,
        problem=problem,
    )
