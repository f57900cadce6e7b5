"""Notifications: the mark in the frame, the list of what ended, and how one wants to be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cupola.exceptions import CupolaError
from cupola.models.notification import Channel, Ends, NotificationChange, Sent
from cupola.models.person import Person
from cupola.platform.factory import Factory
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, PersonIn
from cupola.platform.handlers.pages.render import page

__all__ = ["router"]

router = APIRouter(prefix="/notifications")

_SAID = {
    "read": "All is marked as read.",
    "saved": "Saved.",
    "asked": "Saved. A link was mailed to the new address: open it to confirm that it is yours.",
    "confirmed": "The address is confirmed.",
}
_WAYS = {Channel.MAIL: "mail", Channel.WEBHOOK: "webhook"}

Short = Annotated[str, Form(max_length=300)]
Long = Annotated[str, Form(max_length=2000)]


@router.get("")
async def notifications(
    request: Request, person: PersonIn, factory: FactoryIn, cursor: Cursor = None, said: str = ""
) -> HTMLResponse:
    """Show what ended."""
    found = await factory.notifications.everything(person, cursor=cursor)
    return page(
        request,
        "notifications.html",
        person=person,
        notifications=found.items,
        next=found.next,
        first=cursor is None,
        ways=_WAYS,
        said=_SAID.get(said, ""),
    )


@router.get("/mark")
async def mark(
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    after: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    shown: Annotated[int, Query(ge=-1, lt=2**31)] = -1,
) -> Response:
    """Return the mark of the frame, with what came since the one that the page has; 204 where it shows just this."""
    unread = await factory.notifications.unread(person)
    if unread.count == shown and unread.newest == after:
        return Response(status_code=204)
    fresh = after is not None and unread.newest > after
    return page(
        request,
        "parts/mark.html",
        person=person,
        unread=unread,
        fresh=await factory.notifications.since(person, after or 0) if fresh else [],
    )


@router.post("/read")
async def read(person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Mark all as read."""
    await factory.notifications.read(person)
    return _to(factory, "?said=read")


@router.get("/{number:int}")
async def follow(number: int, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Go to the job or the session that one is about, which is then read."""
    about = await factory.notifications.read(person, min(number, 2**31 - 1))
    return RedirectResponse(f"{factory.hub_settings.prefix}{about}", 303)


@router.get("/settings")
async def settings(request: Request, person: PersonIn, factory: FactoryIn, said: str = "") -> HTMLResponse:
    """Show how one is told."""
    return await _settings(request, person, factory, said=_SAID.get(said, ""))


@router.post("/settings")
async def save(  # noqa: PLR0913, PLR0917 - the fields of its form
    request: Request,
    person: PersonIn,
    factory: FactoryIn,
    ends: Annotated[Ends, Form()] = Ends.ALL,
    minutes: Annotated[int, Form(ge=0, le=100_000)] = 10,
    mail: Short = "",
    address: Annotated[str | None, Form(max_length=300)] = None,
    webhook: Short = "",
    webhook_address: Long = "",
    secret: Short = "",
    forget: Short = "",
) -> Response:
    """Keep what one wants; the page says why where that cannot be."""
    # What is secret is never in the form: an empty field leaves it as it is, a box takes it away.
    gone = "" if forget else None
    shown = await factory.notifications.settings(person)
    # The address in the field may be the one that waits to be confirmed: it is not asked for again.
    same = address is None or address.strip() == (shown.awaiting or shown.address or "")
    change = {
        "ends": ends,
        "minutes": minutes,
        "mail": bool(mail) if shown.can_mail else None,
        "address": None if same else address,
        "webhook": bool(webhook) and not forget if shown.can_webhook else None,
        "webhook_address": gone if forget else webhook_address.strip() or None,
        "secret": gone if forget else secret or None,
    }
    try:
        after = await factory.notifications.change(person, NotificationChange.model_validate(change))
    except CupolaError as error:
        return await _settings(request, person, factory, problem=str(error), status=error.status)
    except ValueError:
        return await _settings(
            request, person, factory, problem="One of the fields is too long: shorten it.", status=422
        )
    asked = after.awaiting is not None and after.awaiting != shown.awaiting
    return _to(factory, f"/settings?said={'asked' if asked else 'saved'}")


@router.post("/test")
async def test(request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Send a test, and say how it went."""
    try:
        sent = await factory.notifications.test(person)
    except CupolaError as error:
        return await _settings(request, person, factory, problem=str(error), status=error.status)
    return await _settings(request, person, factory, sent=sent)


@router.get("/confirm/{token}")
async def asked(token: str, request: Request, person: PersonIn, factory: FactoryIn) -> HTMLResponse:
    """Ask whether an address is one's own; programs that look at links in mail change nothing."""
    address = await factory.notifications.asked_address(person, token)
    # The address of this page is a secret: it goes to nobody else.
    headers = {"Referrer-Policy": "strict-origin"}
    return page(
        request,
        "notifications-confirm.html",
        person=person,
        headers=headers,
        address=address,
        token=token,
    )


@router.post("/confirm/{token}")
async def confirm(token: str, person: PersonIn, factory: FactoryIn) -> RedirectResponse:
    """Take an address as one's own."""
    await factory.notifications.confirm(person, token)
    return _to(factory, "/settings?said=confirmed")


def _to(factory: Factory, path: str) -> RedirectResponse:
    return RedirectResponse(f"{factory.hub_settings.prefix}notifications{path}", 303)


async def _settings(  # noqa: PLR0913 - what the page says beside the form
    request: Request,
    person: Person,
    factory: Factory,
    *,
    said: str = "",
    problem: str = "",
    sent: list[Sent] | None = None,
    status: int = 200,
) -> HTMLResponse:
    return page(
        request,
        "notifications-settings.html",
        person=person,
        status=status,
        settings=await factory.notifications.settings(person),
        ways=_WAYS,
        said=said,
        problem=problem,
        sent=sent or [],
    )
