"""The synchronous face: the asynchronous client on an event loop of its own, in a thread.

It works in scripts and in notebooks alike, where the kernel's own loop is already running.
"""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cupola.client._async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator
    from types import TracebackType

    import httpx

    from cupola.models.activity import Activity, NewMaintenance, PlannedStop
    from cupola.models.base import Page
    from cupola.models.datalab import Datalab
    from cupola.models.engine import EngineInfo
    from cupola.models.job import Job, JobAction, JobRequest, TaskFailureGroup, TaskGrid, TaskInputs
    from cupola.models.notification import (
        Notification,
        NotificationChange,
        NotificationSettings,
        Sent,
        Unread,
    )
    from cupola.models.packages import PackageHint
    from cupola.models.person import Person
    from cupola.models.resources import Capacity, Resources, Usage
    from cupola.models.session import LaunchRequest, Session, SessionEvent
    from cupola.models.share import NewShare, Share
    from cupola.models.storage import StorageUsage
    from cupola.models.team import Acceptance, Invitation, NewInvitation, NewTeam, Role, Team, TeamText
    from cupola.models.volume import NewVolume, Volume, VolumeChange, VolumeUse

__all__ = ["Client"]

Result = TypeVar("Result")


class Client:
    """Speaks with one portal; see :class:`~cupola.client.AsyncClient` for the parameters and errors."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        seconds: float = 30,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._make = partial(AsyncClient, url, token, seconds=seconds, transport=transport)
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cupola-client", daemon=True)
        self._thread.start()
        self._inner = self._make()

    @property
    def _client(self) -> AsyncClient:
        """The asynchronous client; a forked process, which has no thread of its parent's, gets one of its own."""
        if self._process != os.getpid():
            self._open()
        return self._inner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The REST root."""
        return self._client.url

    def close(self) -> None:
        """Close the connections and end the thread."""
        if not self._loop.is_closed():
            self._run(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, call: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()  # the person pressed stop: do not leave the call running
            raise

    def _iterate(self, events: AsyncGenerator[Result, None]) -> Iterator[Result]:
        async def following() -> Result:
            return await anext(events)

        try:
            while True:
                try:
                    yield self._run(following())
                except StopAsyncIteration:
                    return
        finally:
            # Whoever leaves the loop early leaves no connection open.
            self._run(events.aclose())

    def me(self) -> Person:
        """Return whom the token belongs to."""
        return self._run(self._client.me())

    def datalabs(self) -> list[Datalab]:
        """Return the catalogue."""
        return self._run(self._client.datalabs())

    def datalab(self, name: str) -> Datalab:
        """Return one entry of the catalogue."""
        return self._run(self._client.datalab(name))

    def volumes(self) -> list[Volume]:
        """Return the volumes that one may mount."""
        return self._run(self._client.volumes())

    def volume(self, name: str) -> Volume:
        """Return one volume."""
        return self._run(self._client.volume(name))

    def add_volume(self, new: NewVolume) -> Volume:
        """Add a volume."""
        return self._run(self._client.add_volume(new))

    def change_volume(self, name: str, change: VolumeChange) -> Volume:
        """Change a volume that one has added."""
        return self._run(self._client.change_volume(name, change))

    def remove_volume(self, name: str) -> None:
        """Remove a volume that one has added; its files stay where they are."""
        self._run(self._client.remove_volume(name))

    def volume_uses(self, name: str) -> list[VolumeUse]:
        """Return who uses a volume just now."""
        return self._run(self._client.volume_uses(name))

    def measure_volume(self, name: str) -> None:
        """Begin to count the size of a volume; `volume` tells it when it is known."""
        self._run(self._client.measure_volume(name))

    def storage(self) -> list[StorageUsage]:
        """Return what one's home and the volumes of one's teams hold and may hold."""
        return self._run(self._client.storage())

    def packages(self, datalab: str, version: str | None = None) -> PackageHint:
        """Return what becomes of one's installed packages on a version of a datalab, by digest."""
        return self._run(self._client.packages(datalab, version))

    def launch(self, request: LaunchRequest, *, key: str | None = None) -> Session:
        """Ask for a session; it starts in the background. Asking again with the same `key` starts no second one."""
        return self._run(self._client.launch(request, key=key))

    def sessions(self) -> list[Session]:
        """Return one's sessions, newest first."""
        return self._run(self._client.sessions())

    def session(self, session: str) -> Session:
        """Return one session."""
        return self._run(self._client.session(session))

    def stop_session(self, session: str) -> Session:
        """Ask a session to stop."""
        return self._run(self._client.stop_session(session))

    def rename_session(self, session: str, title: str) -> Session:
        """Give a session another title."""
        return self._run(self._client.rename_session(session, title))

    def restart_session(
        self, session: str, resources: Resources | None = None, version: str | None = None
    ) -> Session:
        """Ask for a new session with the same choices, in another size or version where one is given; the old one is stopped."""
        return self._run(self._client.restart_session(session, resources, version))

    def tell_activity(self, session: str, activity: Activity, wait: float = 0) -> PlannedStop | None:
        """Tell what goes on in a session; the answer, the stop that is announced to it, may be held back for `wait` seconds."""
        return self._run(self._client.tell_activity(session, activity, wait))

    def keep_session(self, session: str) -> Session:
        """Put off the stop that is announced to a session."""
        return self._run(self._client.keep_session(session))

    def hibernate_session(self, session: str) -> Session:
        """Ask a session to write down its variables and to stop."""
        return self._run(self._client.hibernate_session(session))

    def wake_session(self, session: str) -> Session:
        """Let a hibernated session begin anew, under the same id."""
        return self._run(self._client.wake_session(session))

    def maintenance(self) -> PlannedStop | None:
        """Return the announced end of the whole platform, if there is one."""
        return self._run(self._client.maintenance())

    def announce_maintenance(self, new: NewMaintenance) -> PlannedStop:
        """Announce the end of the whole platform; for administrators."""
        return self._run(self._client.announce_maintenance(new))

    def withdraw_maintenance(self) -> None:
        """Let all sessions know that the platform goes on; for administrators."""
        self._run(self._client.withdraw_maintenance())

    def session_usage(self, session: str) -> Usage:
        """Return what a running session uses just now."""
        return self._run(self._client.session_usage(session))

    def session_log(self, session: str) -> str:
        """Return the end of what a session's own server printed."""
        return self._run(self._client.session_log(session))

    def capacity(self) -> Capacity:
        """Return what sessions may use together, and what is free of it now."""
        return self._run(self._client.capacity())

    def delete_session(self, session: str) -> None:
        """Forget an ended session."""
        self._run(self._client.delete_session(session))

    def session_events(self, session: str) -> Iterator[SessionEvent]:
        """Follow a session until it is ready or has ended; past events come first."""
        return self._iterate(self._client.session_events(session))

    def teams(self) -> list[Team]:
        """Return the teams that one is in."""
        return self._run(self._client.teams())

    def team(self, name: str) -> Team:
        """Return one team with its members."""
        return self._run(self._client.team(name))

    def make_team(self, new: NewTeam) -> Team:
        """Make a team; one becomes its owner."""
        return self._run(self._client.make_team(new))

    def describe_team(self, name: str, text: TeamText) -> Team:
        """Give a team another title and description."""
        return self._run(self._client.describe_team(name, text))

    def delete_team(self, name: str) -> None:
        """Delete a team; its files stay on the server."""
        self._run(self._client.delete_team(name))

    def change_role(self, team: str, member: str, role: Role) -> Team:
        """Give a member of a team another role."""
        return self._run(self._client.change_role(team, member, role))

    def remove_member(self, team: str, member: str) -> None:
        """Remove somebody from a team, or leave it oneself."""
        self._run(self._client.remove_member(team, member))

    def invite(self, team: str, new: NewInvitation) -> Invitation:
        """Invite somebody, or make a link; the link is told only now."""
        return self._run(self._client.invite(team, new))

    def invitations(self, team: str) -> list[Invitation]:
        """Return the open invitations of a team."""
        return self._run(self._client.invitations(team))

    def withdraw_invitation(self, team: str, invitation: str) -> None:
        """Withdraw an invitation: nobody comes in by it any more."""
        self._run(self._client.withdraw_invitation(team, invitation))

    def my_invitations(self) -> list[Invitation]:
        """Return the teams that one is invited to."""
        return self._run(self._client.my_invitations())

    def accept_invitation(self, which: Acceptance) -> Team:
        """Come into a team, by an invitation to oneself or by a link."""
        return self._run(self._client.accept_invitation(which))

    def decline_invitation(self, invitation: str) -> None:
        """Turn down an invitation to oneself."""
        self._run(self._client.decline_invitation(invitation))

    def share_session(self, session: str, new: NewShare) -> Share:
        """Let somebody, or a team, into a running session for a time."""
        return self._run(self._client.share_session(session, new))

    def shares(self, session: str) -> list[Share]:
        """Return with whom a session is shared."""
        return self._run(self._client.shares(session))

    def end_share(self, session: str, share: str) -> None:
        """End a share; what the others have open is closed within a minute."""
        self._run(self._client.end_share(session, share))

    def shared_sessions(self) -> list[Session]:
        """Return the running sessions of others that one may open."""
        return self._run(self._client.shared_sessions())

    def engines(self) -> list[EngineInfo]:
        """Return the batch engines, the default one first, with what each has now."""
        return self._run(self._client.engines())

    def submit(self, request: JobRequest) -> Job:
        """Start a job."""
        return self._run(self._client.submit(request))

    def jobs(self, cursor: str | None = None, limit: int = 50) -> Page[Job]:
        """Return a page of one's jobs, newest first."""
        return self._run(self._client.jobs(cursor, limit))

    def job(self, job: str) -> Job:
        """Return one job."""
        return self._run(self._client.job(job))

    def job_grid(self, job: str) -> TaskGrid:
        """Return the state of every task."""
        return self._run(self._client.job_grid(job))

    def job_failures(self, job: str) -> list[TaskFailureGroup]:
        """Return the failures, grouped by error and line."""
        return self._run(self._client.job_failures(job))

    def job_task(self, job: str, task: int) -> TaskInputs:
        """Return a task's state and its inputs."""
        return self._run(self._client.job_task(job, task))

    def job_log(self, job: str, task: int) -> str:
        """Return what a task printed."""
        return self._run(self._client.job_log(job, task))

    def job_input_log(self, job: str, number: int) -> str:
        """Return what the task printed that an input belongs to."""
        return self._run(self._client.job_input_log(job, number))

    def job_result(self, job: str, number: int) -> bytes:
        """Return the pickled result of an input."""
        return self._run(self._client.job_result(job, number))

    def act(self, job: str, action: JobAction) -> Job:
        """Cancel, hold, release or retry a job."""
        return self._run(self._client.act(job, action))

    def delete_job(self, job: str) -> None:
        """Forget an ended job, with its results."""
        self._run(self._client.delete_job(job))

    def job_events(self, job: str) -> Iterator[Job]:
        """Follow a job until it has ended: its state at each change."""
        return self._iterate(self._client.job_events(job))

    def notifications(self, cursor: str | None = None, limit: int = 50) -> Page[Notification]:
        """Return a page of what one was told, newest first."""
        return self._run(self._client.notifications(cursor, limit))

    def unread_notifications(self) -> Unread:
        """Return how many of them one has not read."""
        return self._run(self._client.unread_notifications())

    def read_notifications(self, number: int | None = None) -> None:
        """Mark one as read, or all where none is named."""
        self._run(self._client.read_notifications(number))

    def notification_settings(self) -> NotificationSettings:
        """Return how one is told; sessions may not ask."""
        return self._run(self._client.notification_settings())

    def change_notification_settings(self, change: NotificationChange) -> NotificationSettings:
        """Change how one is told; what is not said stays. Sessions may not do it."""
        return self._run(self._client.change_notification_settings(change))

    def test_notifications(self) -> list[Sent]:
        """Send a test by mail and webhook, where they lead somewhere, and return how it went. Sessions may not do it."""
        return self._run(self._client.test_notifications())
