"""Notifications: what a person is told when a job ends, by which ways, and how it went."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import Field

from cupola.models.activity import StopKind
from cupola.models.base import Model, Slug, Time
from cupola.models.job import JobState

if TYPE_CHECKING:
    from cupola.models.job import Job

__all__ = [
    "Channel",
    "Delivery",
    "DeliveryState",
    "Ends",
    "JobEnd",
    "Notification",
    "NotificationChange",
    "NotificationSettings",
    "Sent",
    "SessionNotice",
    "SessionNotification",
    "Unread",
]


class Channel(StrEnum):
    """How somebody is told who does not look at the page."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class Ends(StrEnum):
    """Which ends are told by mail and webhook; the page has all."""

    ALL = "all"
    FAILED = "failed"
    """Those of jobs of which at least one input failed."""
    LONG = "long"
    """Those of jobs that took longer than so many minutes."""


class DeliveryState(StrEnum):
    """Where one message is."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given-up"


class Delivery(Model):
    """One message by one channel."""

    channel: Channel
    state: DeliveryState = DeliveryState.WAITING
    tries: int = 0
    next: Time | None = None
    """When it is tried the next time; nothing where it is not tried any more."""
    problem: str | None = None
    """Why the last try failed, in a sentence."""
    sent: Time | None = None


class JobEnd(Model):
    """What is told of a job that has ended; it stays when the job is deleted."""

    job: Slug
    attempt: int = 1
    name: str
    state: JobState
    engine: str
    inputs: int
    done: int
    failed: int
    reason: str | None = None
    created: Time
    started: Time | None = None
    ended: Time

    @classmethod
    def of(cls, job: Job, ended: Time) -> JobEnd:
        """Return what is told of `job`, which ended at `ended` unless it knows better."""
        return cls(
            job=job.id,
            attempt=job.attempt,
            name=job.name,
            state=job.state,
            engine=job.engine,
            inputs=job.counts.inputs,
            done=job.counts.done,
            failed=job.counts.failed,
            reason=job.reason,
            created=job.created,
            started=job.started,
            ended=job.ended or ended,
        )

    @property
    def title(self) -> str:
        """What happened, in one line without anything that could begin another one."""
        name = " ".join("".join(c if c.isprintable() else " " for c in self.name).split()) or self.job
        inputs = f"{self.inputs:,} inputs" if self.inputs != 1 else "1 input"
        if self.state is JobState.DONE:
            return f"{name}: {'all ' if self.inputs > 1 else ''}{inputs} done"
        if self.state is JobState.CANCELLED:
            return f"{name}: cancelled, {self.done:,} of {inputs} done"
        if self.failed:
            return f"{name}: {self.failed:,} of {inputs} failed"
        return f"{name}: failed, {self.done:,} of {inputs} done"

    @property
    def took(self) -> timedelta:
        """How long it ran."""
        return max(self.ended - (self.started or self.created), timedelta(0))


class Notification(Model):
    """One thing that happened, for one person."""

    id: int
    created: Time
    read: bool = False
    title: str
    end: JobEnd
    gone: bool = False
    """Whether the job was deleted since."""
    deliveries: list[Delivery] = Field(default_factory=list)


class SessionNotice(Model):
    """What is told of a session that is stopped by plan, before and after."""

    session: Slug
    title: str
    """In one line."""
    text: str
    """Why, and what is kept."""
    kind: StopKind
    hibernated: bool = False
    """Whether it has happened, and the session can be woken."""


class SessionNotification(Model):
    """One thing that happens to a session, for its owner; told on the pages alone."""

    id: int
    created: Time
    read: bool = False
    about: SessionNotice
    gone: bool = False
    """Whether the session was deleted since."""

    @property
    def title(self) -> str:
        """What happens, in one line."""
        return self.about.title


class Unread(Model):
    """What the mark in the frame shows."""

    count: int
    newest: int = 0
    """The largest number of any notification of this person, read or not."""


class NotificationSettings(Model):
    """How a person wants to be told; secrets are not in it."""

    mail: bool = False
    address: str | None = None
    """Where mail goes: what the person confirmed, else what the sign-in gave."""
    from_sign_in: bool = False
    """Whether the address is that of the sign-in."""
    awaiting: str | None = None
    """An address that the person has not confirmed yet."""
    webhook: bool = False
    webhook_host: str | None = None
    """Where the webhook lies; its whole address is a secret."""
    signed: bool = False
    """Whether there is a secret that signs what the webhook gets."""
    ends: Ends = Ends.ALL
    minutes: int = 10
    can_mail: bool = False
    """Whether this platform sends mail."""
    can_webhook: bool = False
    """Whether this platform calls webhooks."""

    def told(self, end: JobEnd, wished: bool | None) -> list[Channel]:
        """Return by which channels `end` is told.

        Parameters
        ----------
        end
            The end.
        wished
            What its job said about it; nothing: as the person has set it.
        """
        if wished is False:
            return []
        chosen = [
            channel for channel, on in ((Channel.MAIL, self.mail), (Channel.WEBHOOK, self.webhook)) if on
        ]
        if wished:
            # A job that asks for it is told where it can be, also by a person who switched all off.
            return chosen or [Channel.WEBHOOK if self.webhook_host and not self.address else Channel.MAIL]
        fits = {
            Ends.ALL: True,
            Ends.FAILED: end.state in {JobState.FAILED, JobState.PARTLY_FAILED},
            Ends.LONG: end.took > timedelta(minutes=self.minutes),
        }
        return chosen if fits[self.ends] else []


class NotificationChange(Model):
    """What a person sets; what is not said stays."""

    mail: bool | None = None
    address: str | None = Field(default=None, max_length=254)
    """Another address gets a link first; an empty one is that of the sign-in."""
    webhook: bool | None = None
    webhook_address: str | None = Field(default=None, max_length=2000)
    """Empty: none any more."""
    secret: str | None = Field(default=None, max_length=200)
    """Empty: nothing is signed any more."""
    ends: Ends | None = None
    minutes: int | None = Field(default=None, ge=0, le=100_000)


class Sent(Model):
    """How a test went."""

    channel: Channel
    problem: str | None = None
    """Why it did not arrive; nothing where it did."""
