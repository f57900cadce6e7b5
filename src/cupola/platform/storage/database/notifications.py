"""The tables of notifications: what happened, who wants to know it how, and what waits to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError
from sqlalchemy import RowMapping, and_, delete, exists, func, insert, or_, select, update

from cupola.exceptions import InputError
from cupola.models.base import Model, Page, Time, now
from cupola.models.job import JobState
from cupola.models.notification import (
    Channel,
    Delivery,
    DeliveryState,
    JobEnd,
    Notification,
    NotificationSettings,
    SessionNotice,
    SessionNotification,
    Unread,
)
from cupola.platform.storage.database.tables import (
    deliveries,
    jobs,
    notification_settings,
    notifications,
    sessions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from cupola.models.job import Job
    from cupola.models.session import Session
    from cupola.platform.storage.database.connection import Database

__all__ = ["Anything", "Due", "NotificationStore", "StoredSettings"]

_MOST_DUE = 200
"""Rows looked at in one round; those of people who are being served already are left out before."""


Anything = Notification | SessionNotification
"""What the pages list."""
_JOB, _SESSION = "job", "session"


class StoredSettings(NotificationSettings):
    """A person's settings with what confirms an address."""

    token_hash: str | None = None
    token_expires: Time | None = None


class Due(Model):
    """A message that is to be sent now."""

    notification: int
    person: str
    created: Time
    end: JobEnd
    channel: Channel
    tries: int


class NotificationStore:
    """Keeps notifications in `database`.

    Parameters
    ----------
    database
        Where.
    wake
        Called after a job's end was written down.
    """

    def __init__(self, database: Database, wake: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self.wake = wake

    async def job_ended(self, connection: AsyncConnection, job: Job) -> None:
        """Write down that `job` ended, for its owner, and what is to be sent; a second time does nothing."""
        told = select(notifications.c.id).where(
            notifications.c.job == job.id, notifications.c.attempt == job.attempt
        )
        if (await connection.execute(told)).first() is not None:
            return
        moment = now()
        end = JobEnd.of(job, moment)
        values = {
            "person": job.owner,
            "job": job.id,
            "attempt": job.attempt,
            "created": moment,
            "content": end.model_dump(mode="json"),
        }
        number = (await connection.execute(insert(notifications).values(**values))).inserted_primary_key
        try:
            settings = await _settings(connection, job.owner)
        except ValidationError:
            # A row that a later version wrote, for instance: it must not keep the job from ending.
            structlog.get_logger().exception("notification-settings-not-understood", person=job.owner)
            settings = StoredSettings()
        for channel in settings.told(end, job.notify):
            waits = {"channel": channel, "state": DeliveryState.WAITING, "next": moment}
            await connection.execute(insert(deliveries).values(notification=number and number[0], **waits))

    def committed(self) -> None:
        """Let what waits be sent."""
        self.wake()

    async def session_told(self, session: Session, about: SessionNotice) -> None:
        """Write down what happens to a session, for its owner: on the pages alone, since it comes too late by mail."""
        moment = now()
        latest = select(func.coalesce(func.max(notifications.c.attempt), 0)).where(
            notifications.c.job == session.id
        )
        async with self._database.writing() as connection:
            values = {
                "kind": _SESSION,
                "person": session.owner,
                "job": session.id,
                "attempt": (await connection.scalar(latest) or 0) + 1,
                "created": moment,
                "content": about.model_dump(mode="json"),
            }
            await connection.execute(insert(notifications).values(**values))

    async def page(self, person: str, *, cursor: str | None = None, limit: int = 50) -> Page[Notification]:
        """Return one page of the ends of jobs that a person was told, the newest first.

        Raises
        ------
        InputError
            If `cursor` is none that this method handed out.
        """
        found = await self.everything(person, cursor=cursor, limit=limit, kinds=(_JOB,))
        return Page(items=[one for one in found.items if isinstance(one, Notification)], next=found.next)

    async def everything(
        self,
        person: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        kinds: Collection[str] = (_JOB, _SESSION),
    ) -> Page[Anything]:
        """Return one page of what a person was told, of sessions too, the newest first.

        Raises
        ------
        InputError
            If `cursor` is none that this method handed out.
        """
        query = _with_job().where(notifications.c.person == person, notifications.c.kind.in_(kinds))
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):  # noqa: PLR2004 - 64 bits
                raise InputError("The cursor is none of ours: use the `next` of the page before.")
            query = query.where(notifications.c.id < int(cursor))
        query = query.order_by(notifications.c.id.desc()).limit(limit + 1)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
            sent = await _deliveries(connection, [row["id"] for row in rows])
        found = [_from_row(row, sent.get(row["id"], [])) for row in rows]
        return Page[Anything](
            items=found[:limit], next=str(found[limit - 1].id) if len(found) > limit else None
        )

    async def since(self, person: str, number: int, most: int = 3) -> list[Anything]:
        """Return what a person has not read of what came after a number, the newest first."""
        query = _with_job().where(
            notifications.c.person == person, notifications.c.id > number, notifications.c.read.is_(False)
        )
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(notifications.c.id.desc()).limit(most))
        return [_from_row(row, []) for row in found.mappings()]

    async def unread(self, person: str, *, everything: bool = True) -> Unread:
        """Return what the mark shows: of sessions too, or of the ends of jobs alone."""
        kinds = (_JOB, _SESSION) if everything else (_JOB,)
        query = select(
            func.count().filter(notifications.c.read.is_(False)).label("count"),
            func.coalesce(func.max(notifications.c.id), 0).label("newest"),
        ).where(notifications.c.person == person, notifications.c.kind.in_(kinds))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().one()
        return Unread.model_validate(dict(row))

    async def read(self, person: str, number: int | None = None) -> str | None:
        """Mark one, or all, as read; return what the one is about, such as ``jobs/ID``."""
        chosen = [notifications.c.person == person]
        if number is not None:
            chosen.append(notifications.c.id == number)
        async with self._database.writing() as connection:
            await connection.execute(
                update(notifications).where(*chosen, notifications.c.read.is_(False)).values(read=True)
            )
            if number is None:
                return None
            about = select(notifications.c.kind, notifications.c.job).where(*chosen)
            row = (await connection.execute(about)).first()
        return None if row is None else f"{row.kind}s/{row.job}"

    async def settings(self, person: str) -> StoredSettings:
        """Return how a person wants to be told."""
        async with self._database.reading() as connection:
            return await _settings(connection, person)

    async def change(self, person: str, change: Callable[[StoredSettings], StoredSettings]) -> StoredSettings:
        """Replace a person's settings by what `change` makes of them, in one transaction."""
        async with self._database.writing() as connection:
            after = change(await _settings(connection, person))
            kept = set(notification_settings.c.keys()) - {"person"}
            row = after.model_dump(include=kept)
            await connection.execute(
                delete(notification_settings).where(notification_settings.c.person == person)
            )
            await connection.execute(insert(notification_settings).values(person=person, **row))
        return after

    async def due(self, channel: Channel, busy: Collection[str], most: int) -> list[Due]:
        """Return what is to be sent now, one message per person, the one that waits longest first.

        Parameters
        ----------
        channel
            By which way.
        busy
            People whose last message is still on its way.
        most
            How many at most.
        """
        query = (
            select(
                deliveries.c.notification,
                deliveries.c.channel,
                deliveries.c.tries,
                notifications.c.person,
                notifications.c.created,
                notifications.c.content.label("end"),
            )
            .join(notifications, notifications.c.id == deliveries.c.notification)
            .where(
                deliveries.c.state == DeliveryState.WAITING,
                deliveries.c.channel == channel,
                deliveries.c.next <= now(),
                notifications.c.person.notin_(busy),
            )
            .order_by(deliveries.c.next, deliveries.c.notification)
            .limit(_MOST_DUE)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        first: dict[str, Due] = {}
        for row in rows:
            first.setdefault(row["person"], Due.model_validate(dict(row)))
        return list(first.values())[:most]

    async def next_due(self) -> datetime | None:
        """Return when the next message is to be sent; nothing where none waits."""
        query = select(func.min(deliveries.c.next)).where(deliveries.c.state == DeliveryState.WAITING)
        async with self._database.reading() as connection:
            found: datetime | None = await connection.scalar(query)
        return found

    async def tried(self, due: Due, outcome: Delivery) -> None:
        """Write down how a try went."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(deliveries)
                .where(deliveries.c.notification == due.notification, deliveries.c.channel == due.channel)
                .values(**outcome.model_dump(exclude={"channel"}))
            )

    async def forget(self, before: datetime) -> None:
        """Forget what is older than `before`."""
        async with self._database.writing() as connection:
            await connection.execute(delete(notifications).where(notifications.c.created < before))


async def _settings(connection: AsyncConnection, person: str) -> StoredSettings:
    query = select(notification_settings).where(notification_settings.c.person == person)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return StoredSettings()
    return StoredSettings.model_validate({key: value for key, value in row.items() if key != "person"})


def _with_job() -> Any:
    # What a deleted job has used may be kept, with a state that is none.
    job = exists().where(jobs.c.id == notifications.c.job, jobs.c.state.in_(list(JobState)))
    there = or_(job, exists().where(sessions.c.id == notifications.c.job))
    return select(notifications, (~there).label("gone"))


async def _deliveries(connection: AsyncConnection, numbers: list[int]) -> dict[int, list[Delivery]]:
    query = select(deliveries).where(and_(deliveries.c.notification.in_(numbers)))
    found: dict[int, list[Delivery]] = {}
    for row in (await connection.execute(query.order_by(deliveries.c.channel))).mappings():
        about = {key: value for key, value in row.items() if key != "notification"}
        found.setdefault(row["notification"], []).append(Delivery.model_validate(about))
    return found


def _from_row(row: RowMapping, sent: list[Delivery]) -> Anything:
    if row["kind"] == _SESSION:
        return SessionNotification(
            id=row["id"],
            created=row["created"],
            read=row["read"],
            about=SessionNotice.model_validate(row["content"]),
            gone=row["gone"],
        )
    end = JobEnd.model_validate(row["content"])
    return Notification(
        id=row["id"],
        created=row["created"],
        read=row["read"],
        title=end.title,
        end=end,
        gone=row["gone"],
        deliveries=sent,
    )
