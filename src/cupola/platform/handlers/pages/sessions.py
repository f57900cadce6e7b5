"""Sessions: the list, the page that watches one start, and what can be done with them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from pydantic import ValidationError

from cupola.exceptions import ConflictError, CupolaError, InputError, LimitError, NotFoundError
from cupola.models.person import Person
from cupola.models.resources import Resources
from cupola.models.session import Session, SessionState
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, PersonIn
from cupola.platform.handlers.pages.forms import read_form
from cupola.platform.handlers.pages.render import answer_part, page, part
from cupola.platform.handlers.pages.wizard import wizard

__all__ = ["router"]

router = APIRouter()

_SAID = {
    "stopping": "The session is being stopped.",
    "deleted": "The session is forgotten.",
    "renamed": "The session has its new title.",
    "kept": "The session goes on.",
    "hibernating": "The session writes down its variables, then it stops. Wake it here when you need it.",
}
_LAST_LINES = 40
_WAITS = {SessionState.REQUESTED, SessionState.STARTING}


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
async def launch(request: Request, person: PersonIn, factory: FactoryIn) -> Response:
    """Begin a session and show how it starts; the wizard is shown again where it is refused."""
    form = read_form(await request.form())
    wish = form.request()
    try:
        session = await factory.sessions.launch(person, wish, key=form.key)
    except (ConflictError, InputError, LimitError, NotFoundError) as error:
        if not form.chosen:
            raise
        datalab = await factory.catalogue.datalab(form.datalab)
        return await wizard(
            request, person, factory, datalab, form.choices(), problem=str(error), status=error.status
        )
    return _to(factory, f"sessions/{session.id}/starting")


@router.get("/sessions/{session_id}")
async def session(
    session_id: str, request: Request, person: PersonIn, factory: FactoryIn, said: str = ""
) -> HTMLResponse:
    """Show one session: its choices, what it uses and costs, what happened to it, and what can be done."""
    shown = await factory.sessions.session(person, session_id)
    live = await _session_part(request, person, factory, shown)
    return page(request, "session.html", person=person, session=shown, live=live, said=_SAID.get(said, ""))


@router.get("/sessions/{session_id}/live")
async def session_live(
    session_id: str, request: Request, person: PersonIn, factory: FactoryIn, seen: str = ""
) -> Response:
    """Return the changing part of the page alone, if it is another than the one `seen`."""
    shown = await factory.sessions.session(person, session_id)
    return answer_part(await _session_part(request, person, factory, shown), seen)


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


@router.post("/sessions/{session_id}/restart")
async def restart(
    session_id: str, request: Request, person: PersonIn, factory: FactoryIn
) -> RedirectResponse:
    """Begin a session with the same choices, in another size where the form says one."""
    form = await request.form()
    size = {name: form[name] for name in ("cores", "memory_mib", "gpus") if name in form}
    try:
        resources = Resources.model_validate(size) if size else None
    except ValidationError as error:
        raise InputError("This size is none: press one of the buttons on the page of the session.") from error
    new = await factory.sessions.restart(person, session_id, resources)
    return _to(factory, f"sessions/{new.id}/starting")


@router.post("/sessions/{session_id}/keep")
async def keep(session_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Put off the announced stop of a session."""
    await factory.idle.keep(person, session_id)
    return _to(factory, f"sessions/{session_id}?said=kept")


@router.post("/sessions/{session_id}/hibernate")
async def hibernate(session_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Begin to hibernate a session."""
    await factory.idle.hibernate(person, session_id)
    return _to(factory, "sessions?said=hibernating")


@router.post("/sessions/{session_id}/wake")
async def wake(session_id: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Let a hibernated session begin anew, and show how it starts."""
    new = await factory.idle.wake(person, session_id)
    return _to(factory, f"sessions/{new.id}/starting")


@router.post("/sessions/{session_id}/rename")
async def rename(
    session_id: str, person: PersonIn, factory: FactoryIn, title: Annotated[str, Form(max_length=100)]
) -> RedirectResponse:
    """Give a session another title."""
    await factory.sessions.rename(person, session_id, title)
    return _to(factory, f"sessions/{session_id}?said=renamed")


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
    ended = [session for session in found.items if not session.state.active]
    hibernated = [session for session in ended if session.hibernated]
    changing = any(session.state is not SessionState.READY for session in active)
    return part(
        request,
        "parts/sessions.html",
        person=person,
        name="sessions",
        address="sessions/live" + (f"?cursor={cursor}" if cursor else ""),
        every="2s" if changing else "8s",
        active=active,
        ended=[session for session in ended if not session.hibernated],
        hibernated=hibernated,
        uses=await factory.sessions.usages(active),
        computing=factory.computing.of(active),
        keeping=factory.sessions.keeping(active),
        bigger=await factory.sessions.bigger(person, found.items),
        titles={datalab.name: datalab.title for datalab in datalabs},
        icons={datalab.name: datalab.icon for datalab in datalabs},
        labels={version.digest: version.label for lab in datalabs for version in lab.versions},
        currency=factory.prices.currency,
        first=cursor is None,
        next=found.next,
    )


async def _session_part(request: Request, person: Person, factory: Factory, session: Session) -> Markup:
    datalabs = {datalab.name: datalab for datalab in await factory.catalogue.datalabs()}
    datalab = datalabs.get(session.datalab)
    log = await factory.sessions.log(person, session.id)
    return part(
        request,
        "parts/session.html",
        person=person,
        name="session",
        address=f"sessions/{session.id}/live",
        every=None if not session.state.active else "8s" if session.state is SessionState.READY else "2s",
        session=session,
        computing=factory.computing.of([session]),
        keeping=factory.sessions.keeping([session]),
        version=next((v for v in datalab.versions if v.digest == session.version), None) if datalab else None,
        datalab_title=datalab.title if datalab else session.datalab,
        limited=factory.capacity.limited,
        bigger=(await factory.sessions.bigger(person, [session])).get(session.id),
        history=await factory.sessions.history(person, session.id),
        log="\n".join(log.splitlines()[-_LAST_LINES:]),
        currency=factory.prices.currency,
    )


async def _steps_part(request: Request, person: Person, factory: Factory, session: Session) -> Markup:
    lines: list[str] = []
    if session.state is SessionState.FAILED:
        lines = (await factory.sessions.log(person, session.id)).splitlines()[-_LAST_LINES:]
        lines = lines or (session.end.log if session.end else [])
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
        bigger=(await factory.sessions.bigger(person, [session])).get(session.id),
    )


async def _icon(factory: Factory, name: str) -> str:
    try:
        return (await factory.catalogue.datalab(name)).icon
    except CupolaError:  # the datalab was taken out of the catalogue while its session ran
        return "datalab"
