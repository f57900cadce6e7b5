"""Notifications: what a person was told, how they want to be told, and what proves that an address is theirs."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from cupola.exceptions import (
    CupolaError,
    InputError,
    LimitError,
    NotAllowedError,
    NotFoundError,
    UnavailableError,
)
from cupola.models.base import Page, now
from cupola.models.notification import (
    Channel,
    Notification,
    NotificationChange,
    NotificationSettings,
    Sent,
    Unread,
)
from cupola.platform.storage.mail import as_address
from cupola.platform.storage.webhooks import Hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cupola.models.person import Person
    from cupola.platform.services.notices.deliveries import Messenger
    from cupola.platform.storage.database.notifications import Anything, NotificationStore, StoredSettings

__all__ = ["Allowance", "NotificationService"]

_HOLDS = timedelta(hours=24)
"""So long the link that confirms an address works."""
_HOUR = 3600.0


class Allowance:
    """Lets something happen so often, and no more often.

    Parameters
    ----------
    most
        How often within `seconds`.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._times: dict[str, deque[float]] = {}

    def take(self, key: str) -> bool:
        """Return whether it may happen once more for `key`, and count it."""
        moment = self._clock()
        for other in [other for other, times in self._times.items() if times[-1] < moment - self._seconds]:
            del self._times[other]
        times = self._times.setdefault(key, deque(maxlen=self._most))
        if len(times) == self._most and times[0] > moment - self._seconds:
            return False
        times.append(moment)
        return True


class NotificationService:
    """Everything a person can do with notifications.

    Parameters
    ----------
    store
        The tables.
    messenger
        Sends tests and questions.
    sign_in_address
        Returns the verified mail address that a person's sign-in gave, if any.
    """

    def __init__(
        self,
        *,
        store: NotificationStore,
        messenger: Messenger,
        sign_in_address: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self._store = store
        self._messenger = messenger
        self._sign_in_address = sign_in_address
        self._changing = asyncio.Lock()
        self._tests = Allowance(10, _HOUR)
        # A platform must not be what fills somebody else's mailbox.
        self._questions = Allowance(5, _HOUR)
        self._asked = Allowance(2, _HOUR)

    async def page(self, person: Person, *, cursor: str | None = None, limit: int = 50) -> Page[Notification]:
        """Return one page of the ends of jobs that a person was told, the newest first."""
        return await self._store.page(person.name, cursor=cursor, limit=limit)

    async def everything(self, person: Person, *, cursor: str | None = None) -> Page[Anything]:
        """Return one page of what a person was told, of sessions too, the newest first."""
        return await self._store.everything(person.name, cursor=cursor)

    async def unread(self, person: Person, *, everything: bool = True) -> Unread:
        """Return how much a person has not read: of sessions too, or of the ends of jobs alone."""
        return await self._store.unread(person.name, everything=everything)

    async def since(self, person: Person, number: int) -> list[Anything]:
        """Return the newest of what came after a number and was not read."""
        return await self._store.since(person.name, number)

    async def read(self, person: Person, number: int | None = None) -> str | None:
        """Mark one, or all, as read; return what the one is about, such as ``jobs/ID``.

        Raises
        ------
        NotFoundError
            The person has no such notification.
        """
        about = await self._store.read(person.name, number)
        if number is not None and about is None:
            raise NotFoundError(f"You have no notification {number}: it may be older than 90 days.")
        return about

    async def settings(self, person: Person) -> NotificationSettings:
        """Return how a person wants to be told."""
        return await self._shown(person.name, await self._store.settings(person.name))

    async def change(self, person: Person, change: NotificationChange) -> NotificationSettings:
        """Change how a person wants to be told.

        Raises
        ------
        InputError
            An address is none, or something is switched on that has none.
        NotAllowedError
            The webhook lies where none may lie, or the platform has no mail.
        LimitError
            Too many addresses were to be confirmed.
        UnavailableError
            The question could not be mailed, or the webhook not be kept.
        """
        async with self._changing:
            before = await self._store.settings(person.name)
            updates = change.model_dump(include={"mail", "webhook", "ends", "minutes"}, exclude_none=True)
            updates |= await self._change_address(person.name, before, change.address)
            updates |= await self._change_hook(person.name, change)
            after = before.model_copy(update=updates)
            shown = await self._shown(person.name, after)
            if change.mail and not (shown.address or shown.awaiting):
                raise InputError("Mail needs an address: give one.")
            if change.webhook and not shown.webhook_host:
                raise InputError("The webhook needs an address: paste the one that the chat gave you.")
            await self._store.change(person.name, lambda now_: now_.model_copy(update=updates))
        return shown

    async def asked_address(self, person: Person, token: str) -> str:
        """Return the address that a link confirms.

        Raises
        ------
        NotFoundError
            The link has ended, or is for somebody else.
        """
        return _address_of(await self._store.settings(person.name), token)

    async def confirm(self, person: Person, token: str) -> None:
        """Take an address as confirmed.

        Raises
        ------
        NotFoundError
            The link has ended, or is for somebody else.
        """

        def confirmed(settings: StoredSettings) -> StoredSettings:
            address = _address_of(settings, token)
            return settings.model_copy(update={"address": address, **_NOT_ASKED})

        async with self._changing:
            await self._store.change(person.name, confirmed)

    async def test(self, person: Person) -> list[Sent]:
        """Send a test by all channels that lead somewhere.

        Raises
        ------
        InputError
            None does.
        LimitError
            Too many tests.
        """
        settings = await self.settings(person)
        channels = [Channel.MAIL] if settings.can_mail and settings.address else []
        channels += [Channel.WEBHOOK] if settings.can_webhook and settings.webhook_host else []
        if not channels:
            raise InputError("There is nothing to test: give a mail address or a webhook, and save it.")
        if not self._tests.take(person.name):
            raise LimitError("You have sent 10 tests within an hour: try again later.")
        return list(await asyncio.gather(*(self._test(channel, person.name) for channel in channels)))

    async def _test(self, channel: Channel, person: str) -> Sent:
        try:
            await self._messenger.test(channel, person, f"test-{secrets.token_hex(6)}")
        except CupolaError as error:
            return Sent(channel=channel, problem=str(error))
        return Sent(channel=channel)

    async def _shown(self, person: str, stored: StoredSettings) -> NotificationSettings:
        about = {name: getattr(stored, name) for name in NotificationSettings.model_fields}
        given = None if stored.address else await self._given(person)
        return NotificationSettings.model_validate(
            about
            | {
                "address": stored.address or given,
                "from_sign_in": given is not None,
                "can_mail": self._messenger.mailer is not None,
                "can_webhook": self._messenger.caller is not None,
            }
        )

    async def _given(self, person: str) -> str | None:
        """Return the address of the sign-in; a hub that is away must not hide the settings."""
        try:
            found = await self._sign_in_address(person)
            return as_address(found) if found else None
        except CupolaError:
            return None

    async def _change_address(
        self, person: str, before: StoredSettings, text: str | None
    ) -> dict[str, object]:
        if text is None or (text.strip() == before.address and text):
            return {}
        if not text.strip():
            return {"address": None, **_NOT_ASKED}
        address = as_address(text)
        if address == await self._given(person):
            # The provider has verified it.
            return {"address": None, **_NOT_ASKED}
        if self._messenger.mailer is None:
            raise NotAllowedError("This platform sends no mail, so that no address can be confirmed.")
        if not (self._questions.take(person) and self._asked.take(address.lower())):
            raise LimitError("Too many links were mailed within an hour: look for them, or try again later.")
        token = secrets.token_urlsafe(24)
        await self._messenger.confirm(person, address, token)
        return {"awaiting": address, "token_hash": _hash(token), "token_expires": now() + _HOLDS}

    async def _change_hook(self, person: str, change: NotificationChange) -> dict[str, object]:
        if change.webhook_address is None and change.secret is None:
            return {}
        caller, hooks = self._messenger.caller, self._messenger.hooks
        if caller is None:
            raise NotAllowedError("This platform calls no webhooks.")
        kept = await asyncio.to_thread(hooks.read, person)
        address = (change.webhook_address or "").strip()
        if change.webhook_address is None:
            address = kept.address if kept else ""
        hook, host = None, None
        if address:
            host = await caller.inspect(address)
            secret = change.secret if change.secret is not None else (kept.secret if kept else "")
            hook = Hook(address=address, secret=secret)
        elif change.secret:
            raise InputError("A secret needs a webhook that it signs for: give its address too.")
        try:
            await asyncio.to_thread(hooks.write, person, hook)
        except OSError as error:
            raise UnavailableError(f"The webhook cannot be kept now ({error.strerror}).") from error
        off = {} if hook else {"webhook": False}
        return {"webhook_host": host, "signed": bool(hook and hook.secret), **off}


_NOT_ASKED = {"awaiting": None, "token_hash": None, "token_expires": None}


def _address_of(settings: StoredSettings, token: str) -> str:
    expected, expires = settings.token_hash, settings.token_expires
    if (
        settings.awaiting is None
        or expected is None
        or expires is None
        or expires < now()
        or not hmac.compare_digest(expected, _hash(token))
    ):
        raise NotFoundError(
            "This link has ended, or is for somebody else: give your address again on the page Notifications."
        )
    return settings.awaiting


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
