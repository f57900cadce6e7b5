"""What is sent when a job has ended, and the deliverer that sends what waits: again and again, for a day.

A message waits in the table from the moment in which the job's row ends, so that no crash loses it; it is marked as sent
after it was sent, so that a crash between the two sends it twice rather than never. Both carry the same number then.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from cupola.exceptions import ConfigError, CupolaError, InputError, NotAllowedError, UnavailableError
from cupola.models.base import now
from cupola.models.notification import Channel, Delivery, DeliveryState
from cupola.platform.storage.mail import Letter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cupola.models.notification import JobEnd
    from cupola.platform.storage.database.notifications import Due, NotificationStore
    from cupola.platform.storage.mail import Mailer
    from cupola.platform.storage.webhooks import HookStore, WebhookCaller

__all__ = ["AGAIN", "Deliverer", "Messenger"]

log = structlog.get_logger("cupola.portal")

AGAIN = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=3))
"""How long after each try the next one comes; the last one holds for all further ones."""
_GIVE_UP = timedelta(days=1)
_KEPT = timedelta(days=90)
_TIDY_S = 3600.0
_AT_ONCE = {Channel.MAIL: 2, Channel.WEBHOOK: 8}
"""Messages on their way at a time, and never two of one person by one channel: who names a slow server waits alone."""
_LOOK_S = 20.0
_SOON_S = 0.5


class Messenger:
    """Says what happened, by mail or by webhook.

    Parameters
    ----------
    mailer, caller
        The ways; nothing: this platform has none.
    hooks
        People's webhooks.
    address_of
        Returns where mail for a person goes; nothing: nobody knows.
    title
        The platform's name.
    pages
        The address of its pages, with a slash at the end.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        mailer: Mailer | None,
        caller: WebhookCaller | None,
        hooks: HookStore,
        address_of: Callable[[str], Awaitable[str | None]],
        title: str,
        pages: str,
    ) -> None:
        self.mailer = mailer
        self.caller = caller
        self.hooks = hooks
        self._address_of = address_of
        self._title = title
        self._pages = pages

    async def tell(self, channel: Channel, person: str, end: JobEnd) -> None:
        """Tell a person that a job has ended.

        Raises
        ------
        InputError, NotAllowedError
            That will never work as things are set.
        UnavailableError
            It does not work now.
        """
        link = f"{self._pages}jobs/{end.job}"
        key = f"{end.job}-{end.attempt}"
        if channel is Channel.WEBHOOK:
            job = end.model_dump(mode="json") | {"id": end.job, "owner": person, "url": link}
            del job["job"]
            await self.call(person, f"{end.title}.", link, {"event": "job-ended", "job": job}, key)
            return
        lines = [f"{end.title}."]
        if end.reason and end.reason not in lines[0]:
            lines.append(end.reason)
        took = _span(end.took)
        lines.append(f"It took {took} on {end.engine} and ended at {end.ended:%Y-%m-%d %H:%M} UTC.")
        await self.write(person, end.title, lines, link, "Open the job", key)

    async def test(self, channel: Channel, person: str, key: str) -> None:
        """Tell a person nothing, to see whether it arrives; raises what `tell` raises."""
        text = f"This is a test: {self._title} reaches you."
        link = f"{self._pages}notifications/settings"
        if channel is Channel.WEBHOOK:
            await self.call(person, text, link, {"event": "test"}, key)
        else:
            await self.write(person, f"Test from {self._title}", [text], link, "Your notifications", key)

    async def confirm(self, person: str, address: str, token: str) -> None:
        """Ask whoever reads an address whether it is that of a person; raises what `tell` raises."""
        link = f"{self._pages}notifications/confirm/{token}"
        line = (
            f"{person} wants to be told at this address when jobs at {self._title} end. If that is you, open the link and "
            "confirm it; if not, do nothing: nothing more comes."
        )
        await self._send(
            address, f"Confirm your address for {self._title}", [line], link, "Confirm it", token[:12]
        )

    async def write(  # noqa: PLR0913, PLR0917 - a letter has these parts
        self, person: str, subject: str, lines: Sequence[str], link: str, link_text: str, key: str
    ) -> None:
        """Write to a person."""
        address = await self._address_of(person)
        if address is None:
            # It is sent as soon as there is one.
            raise UnavailableError(
                "No address is known or confirmed: give one in the settings of notifications."
            )
        why = f"You asked for this mail; change that at {self._pages}notifications/settings"
        await self._send(address, subject, lines, link, link_text, key, footer=why)

    async def _send(  # noqa: PLR0913, PLR0917 - a letter has these parts
        self,
        address: str,
        subject: str,
        lines: Sequence[str],
        link: str,
        link_text: str,
        key: str,
        *,
        footer: str = "",
    ) -> None:
        if self.mailer is None:
            raise NotAllowedError("This platform sends no mail.")
        letter = Letter(
            to=address,
            subject=subject,
            lines=list(lines),
            link=link,
            link_text=link_text,
            footer=footer,
            id=f"cupola-{key}",
            time=now(),
        )
        try:
            await self.mailer.send(letter)
        except ConfigError as error:
            # It names files of the operator.
            log.warning("mail-settings-wrong", error=str(error))
            raise UnavailableError(
                "The mail settings of this platform are wrong: tell an administrator."
            ) from error

    async def call(self, person: str, text: str, link: str, about: dict[str, Any], key: str) -> None:
        """Call the webhook of a person."""
        if self.caller is None:
            raise NotAllowedError("This platform calls no webhooks.")
        hook = await asyncio.to_thread(self.hooks.read, person)
        if hook is None:
            raise NotAllowedError("No webhook is set: give one in the settings of notifications.")
        # Chats take <...> for commands, such as one that calls everybody.
        plain = text.translate({ord("<"): "\u2039", ord(">"): "\u203a"})
        content = {"text": f"{plain} {link}", "platform": self._title, **about}
        await self.caller.call(hook, content, f"cupola-{key}")


class Deliverer:
    """Sends what waits.

    Parameters
    ----------
    store
        The tables.
    messenger
        Sends.
    again
        How long after each try the next one comes.
    """

    def __init__(
        self, store: NotificationStore, messenger: Messenger, *, again: Sequence[timedelta] = AGAIN
    ) -> None:
        self._store = store
        self._messenger = messenger
        self._again = again
        self._wake = asyncio.Event()
        self._on_their_way: dict[tuple[Channel, str], asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look at once what waits."""
        self._wake.set()

    async def run(self) -> None:
        """Send what waits until cancelled; no failure ends it."""
        loop = asyncio.get_running_loop()
        tidied = loop.time() - _TIDY_S
        try:
            while True:
                self._wake.clear()
                pause = _LOOK_S
                try:
                    await self._begin()
                    pause = await self._pause()
                    if loop.time() - tidied >= _TIDY_S:
                        tidied = loop.time()
                        await self._store.forget(now() - _KEPT)
                except CupolaError as error:
                    log.warning("notifications-not-looked-at", error=str(error))
                except Exception:
                    log.exception("notifications-not-looked-at")
                await self._sleep(pause)
        finally:
            tasks = list(self._on_their_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _begin(self) -> None:
        """Begin to send as much as may be on its way at a time."""
        for channel, most in _AT_ONCE.items():
            busy = [person for way, person in self._on_their_way if way is channel]
            if len(busy) >= most:
                continue
            for due in await self._store.due(channel, busy, most - len(busy)):
                key = (channel, due.person)
                self._on_their_way[key] = asyncio.create_task(self._deliver(key, due))

    async def _pause(self) -> float:
        """Return how many seconds there is nothing to do."""
        due = await self._store.next_due()
        if due is None:
            return _LOOK_S
        left = (due - now()).total_seconds()
        if left > 0:
            return min(_LOOK_S, left)
        # It waits for another one, whose end wakes us.
        return _LOOK_S if self._on_their_way else _SOON_S

    async def _deliver(self, key: tuple[Channel, str], due: Due) -> None:
        try:
            await self._store.tried(due, await self._try(due))
        except CupolaError as error:
            # It waits on, and is sent again.
            log.warning("delivery-not-written-down", error=str(error))
            await asyncio.sleep(_LOOK_S)
        finally:
            del self._on_their_way[key]
            self._wake.set()

    async def _try(self, due: Due) -> Delivery:
        """Send one message, and return how that went."""
        tries = due.tries + 1
        try:
            await self._messenger.tell(due.channel, due.person, due.end)
        except (InputError, NotAllowedError) as error:
            problem, more = str(error), False
        except CupolaError as error:
            problem, more = str(error), True
        except Exception:
            log.exception("delivery-failed", job=due.end.job, channel=due.channel)
            problem, more = "Something went wrong here: tell an administrator.", True
        else:
            return Delivery(channel=due.channel, state=DeliveryState.SENT, tries=tries, sent=now())
        log.info("delivery-failed", job=due.end.job, channel=due.channel, tries=tries)
        again = now() + self._again[min(tries, len(self._again)) - 1]
        if not more or again > due.created + _GIVE_UP:
            return Delivery(channel=due.channel, state=DeliveryState.GIVEN_UP, tries=tries, problem=problem)
        return Delivery(channel=due.channel, tries=tries, next=again, problem=problem)


def _span(length: timedelta) -> str:
    seconds = round(length.total_seconds())
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - two hours
