"""Notifications: what ended, and how one wants to be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, status

from cupola.exceptions import NotAllowedError
from cupola.models.base import Page
from cupola.models.notification import (
    Notification,
    NotificationChange,
    NotificationSettings,
    Sent,
    Unread,
)
from cupola.platform.handlers.dependencies import Cursor, FactoryIn, Limit, PersonIn, header_token

__all__ = ["router"]

router = APIRouter(prefix="/notifications", tags=["notifications"])


@router.get("")
async def list_notifications(
    person: PersonIn, factory: FactoryIn, cursor: Cursor = None, limit: Limit = 50
) -> Page[Notification]:
    """List the ends of jobs that you were told, the newest first. What happens to sessions is on their pages."""
    return await factory.notifications.page(person, cursor=cursor, limit=limit)


@router.get("/unread")
async def unread_notifications(person: PersonIn, factory: FactoryIn) -> Unread:
    """Tell how many you have not read."""
    return await factory.notifications.unread(person, everything=False)


@router.post("/read", status_code=status.HTTP_204_NO_CONTENT)
async def read_notifications(
    person: PersonIn,
    factory: FactoryIn,
    number: Annotated[int | None, Query(alias="id", ge=1, lt=2**31)] = None,
) -> None:
    """Mark one as read, or all."""
    await factory.notifications.read(person, number)


@router.get("/settings")
async def notification_settings(
    request: Request, person: PersonIn, factory: FactoryIn
) -> NotificationSettings:
    """Return how you are told; not for sessions, whose guests need not know your address."""
    token = header_token(request)
    if token is not None and await factory.people.is_session(token):
        raise NotAllowedError("A session cannot see these settings: use a token of your own.")
    return await factory.notifications.settings(person)


@router.patch("/settings")
async def change_notification_settings(
    change: NotificationChange, person: PersonIn, factory: FactoryIn
) -> NotificationSettings:
    """Change how you are told; a new mail address gets a link that confirms it."""
    return await factory.notifications.change(person, change)


@router.post("/test")
async def test_notifications(person: PersonIn, factory: FactoryIn) -> list[Sent]:
    """Send a test by mail and webhook, where they lead somewhere, and tell how it went."""
    return await factory.notifications.test(person)
