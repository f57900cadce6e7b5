"""Sessions: the list, the page that watches one start, and what can be done with them."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import Field, ValidationError

from cupola.exceptions import CupolaError, InputError
from cupola.models.person import Person
from cupola.models.session import LaunchRequest, Session, SessionState
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, PersonIn
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.handlers.pages.render import answer_part, page, part

__all__ = ["router"]

router = APIRouter()

_SAID = {"stopping": "The session is being stopped.", "deleted": "The session is forgotten."}
_LAST_LINES = 40
_WAITS = {SessionState.REQUESTED, SessionState.STARTING}


class LaunchForm(LaunchRequest):
    """A launch as the forms of the pages send it."""

    key: str | None = Field(default=None, max_length=64)
    chosen: bool = False
    """Whether the form had boxes for volumes: none ticked then means none."""

    def request(self) -> LaunchRequest:
        """Return what the service takes."""
        volumes = (self.volumes or []) if self.chosen else None
        return LaunchRequest(
            datalab=self.datalab, version=self.version or None, volumes=volumes, clean=self.clean
        )


@router.get("/sessions")
async def sessions(
    request: Request, person: PersonIn, factory: FactoryIn, cursor: Cursor = None, said: str = ""
) -> HTMLResponse:
    """Show your sessions."""
    live = await _sessions_part(request, person, factory, cursor)
    return page(request, "sessions.html", person=person, live=live, said=_SAID.get(said, ""))


@router.get("/sessions/live")
async def sessions_live(
    request: Request, person: PersonIn, factory: FactoryIn, cursor: Cursor = None, seen: str = ""
) -> Response:
    """Return the list alone, if it is another than the one `seen`."""
    return answer_part(await _sessions_part(request, person, factory, cursor), seen)


@router.post("/sessions")
async def launch(request: Request, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Begin a session and show how it starts."""
    form = await request.form()
    fields: dict[str, object] = {
        name: value for name, value in form.items() if name not in {"volumes", FIELD}
    }
    if "volumes" in form:
        fields["volumes"] = form.getlist("volumes")
    try:
        wish = LaunchForm.model_validate(fields)
    except ValidationError as error:
        raise InputError("This form was not filled in as the catalogue does it: press play there.") from error
    session = await factory.sessions.launch(person, wish.request(), key=wish.key)
    return _to(factory, f"sessions/{session.id}/starting")


@router.get("/sessions/{session_id}/starting")
async def starting(session_id: str, request: Request, person: PersonIn, factory: FactoryIn) -> Response:
    """Show how a session starts, and go there when it is ready."""
    session = await factory.sessions.session(person, session_id)
    if session.state is SessionState.READY and session.url:
        return RedirectResponse(session.url, 303)
    steps = await _steps_part(request, person, factory, session)
    return page(request, "starting.html", person=person, session=session, steps=steps)


@router.get("/sessions/{session_id}/steps")
async def steps(session_id: str, request: Request, person: PersonIn, factory: FactoryIn) -> Response:
    """Return the steps alone, or send the browser to the session that is ready."""
    session = await factory.sessions.session(person, session_id)
    if session.state is SessionState.READY and session.url:
        return Response(headers={"HX-Redirect": session.url})
    if session.state not in _WAITS:
        # The whole page anew: it also closes the connection for the events.
        return Response(headers={"HX-Refresh": "true"})
    return HTMLResponse(await _steps_part(request, person, factory, session))


@router.post("/sessions/{session_id}/stop")
async def stop(session_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Begin to stop a session."""
    await factory.sessions.stop(person, session_id)
    return _to(factory, "sessions?said=stopping")


@router.post("/sessions/{session_id}/delete")
async def delete(session_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Forget a session that ended."""
    await factory.sessions.delete(person, session_id)
    return _to(factory, "sessions?said=deleted")


@router.get("/sessions/{session_id}/log")
async def log(session_id: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Show what a session's process printed."""
    session = await factory.sessions.session(person, session_id)
    text = await factory.sessions.log(person, session_id)
    return page(request, "session-log.html", person=person, session=session, text=text)


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(factory.hub_settings.prefix + path, 303)


async def _sessions_part(request: Request, person: Person, factory: Factory, cursor: str | None) -> Markup:
    found = await factory.sessions.sessions(person, cursor=cursor)
    datalabs = await factory.catalogue.datalabs()
    active = [session for session in found.items if session.state.active]
    changing = any(session.state is not SessionState.READY for session in active)
    return part(
        request,
        "parts/sessions.html",
        person=person,
        name="sessions",
        address="sessions/live" + (f"?cursor={cursor}" if cursor else ""),
        every="2s" if changing else "8s",
        active=active,
        ended=[session for session in found.items if not session.state.active],
        titles={datalab.name: datalab.title for datalab in datalabs},
        icons={datalab.name: datalab.icon for datalab in datalabs},
        labels={version.digest: version.label for lab in datalabs for version in lab.versions},
        first=cursor is None,
        next=found.next,
    )


async def _steps_part(request: Request, person: Person, factory: Factory, session: Session) -> Markup:
    lines: list[str] = []
    if session.state is SessionState.FAILED:
        lines = (await factory.sessions.log(person, session.id)).splitlines()[-_LAST_LINES:]
    return part(
        request,
        "parts/steps.html",
        person=person,
        name="steps",
        address=f"sessions/{session.id}/steps",
        # The events say when to look; this is for a browser whose connection for them broke.
        every="4s, sse:session-event" if session.state in _WAITS else "4s" if session.state.active else None,
        session=session,
        history=await factory.sessions.history(person, session.id),
        log="\n".join(lines),
        icon=await _icon(factory, session.datalab),
        key=secrets.token_hex(8),
    )


async def _icon(factory: Factory, name: str) -> str:
    try:
        return (await factory.catalogue.datalab(name)).icon
    except CupolaError:  # the datalab was taken out of the catalogue while its session ran
        return "datalab"
