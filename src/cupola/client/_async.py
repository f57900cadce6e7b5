"""The asynchronous client; every other face stands on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from cupola.client._calls import Calls, quoted, told
from cupola.models.activity import Activity, NewMaintenance, PlannedStop
from cupola.models.base import Page
from cupola.models.datalab import Datalab
from cupola.models.engine import EngineInfo
from cupola.models.job import Job, JobAction, JobRequest, TaskFailureGroup, TaskGrid, TaskInputs
from cupola.models.notification import Notification, NotificationChange, NotificationSettings, Sent, Unread
from cupola.models.packages import PackageHint
from cupola.models.person import Person
from cupola.models.resources import Capacity, Resources, Usage
from cupola.models.session import (
    LaunchRequest,
    Plan,
    RestartRequest,
    Session,
    SessionChange,
    SessionEvent,
    SessionReport,
    SessionState,
)
from cupola.models.share import NewShare, Share
from cupola.models.storage import StorageUsage
from cupola.models.team import Acceptance, Invitation, NewInvitation, NewRole, NewTeam, Role, Team, TeamText
from cupola.models.volume import NewVolume, Volume, VolumeChange, VolumeUse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["AsyncClient"]

_FAILURES = TypeAdapter(list[TaskFailureGroup])
_SENT = TypeAdapter(list[Sent])
_STOP: TypeAdapter[PlannedStop | None] = TypeAdapter(PlannedStop | None)


class AsyncClient(Calls):
    """Speaks with one portal as one person, session or service.

    Every method raises the error that the portal tells (a subclass of :class:`~cupola.exceptions.CupolaError`), and
    :class:`~cupola.exceptions.UnavailableError` when the portal does not answer in time.

    Parameters
    ----------
    url
        The REST root, such as ``http://127.0.0.1:8000/services/cupola/api``.
    token
        A JupyterHub token, or the internal token for `plan` and `report`.
    seconds
        The time that one call may take, sending and receiving together. Following events is not bounded.
    transport
        For tests: what carries the requests instead of the network.
    """

    # -- who and what ---------------------------------------------------------------------------------------

    async def me(self) -> Person:
        """Return whom the token belongs to."""
        return await self._get("/me", Person)

    async def datalabs(self) -> list[Datalab]:
        """Return the catalogue."""
        return await self._all("/datalabs", Datalab)

    async def datalab(self, name: str) -> Datalab:
        """Return one entry of the catalogue."""
        return await self._get(f"/datalabs/{quoted(name)}", Datalab)

    async def volumes(self) -> list[Volume]:
        """Return the volumes that one may mount."""
        return await self._all("/volumes", Volume)

    async def volume(self, name: str) -> Volume:
        """Return one volume."""
        return await self._get(f"/volumes/{quoted(name)}", Volume)

    async def add_volume(self, new: NewVolume) -> Volume:
        """Add a volume."""
        return await self._post("/volumes", Volume, new)

    async def change_volume(self, name: str, change: VolumeChange) -> Volume:
        """Change a volume that one has added."""
        answer = await self._call("PATCH", f"/volumes/{quoted(name)}", content=change)
        return told(Volume, answer.content)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume that one has added; its files stay where they are."""
        await self._call("DELETE", f"/volumes/{quoted(name)}")

    async def volume_uses(self, name: str) -> list[VolumeUse]:
        """Return who uses a volume just now."""
        return await self._all(f"/volumes/{quoted(name)}/uses", VolumeUse)

    async def measure_volume(self, name: str) -> None:
        """Begin to count the size of a volume; `volume` tells it when it is known."""
        await self._call("POST", f"/volumes/{quoted(name)}/measure")

    async def storage(self) -> list[StorageUsage]:
        """Return what one's home and the volumes of one's teams hold and may hold."""
        return await self._all("/me/storage", StorageUsage)

    async def packages(self, datalab: str, version: str | None = None) -> PackageHint:
        """Return what becomes of one's installed packages on a version of a datalab, by digest."""
        wanted = {"datalab": datalab} | ({"version": version} if version else {})
        answer = await self._call("GET", "/me/packages", params=wanted)
        return told(PackageHint, answer.content)

    # -- sessions -------------------------------------------------------------------------------------------

    async def launch(self, request: LaunchRequest, *, key: str | None = None) -> Session:
        """Ask for a session; it starts in the background. Asking again with the same `key` starts no second one."""
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self._call("POST", "/sessions", content=request, headers=headers)
        return told(Session, answer.content)

    async def sessions(self) -> list[Session]:
        """Return one's sessions, newest first."""
        return await self._all("/sessions", Session)

    async def session(self, session: str) -> Session:
        """Return one session."""
        return await self._get(f"/sessions/{quoted(session)}", Session)

    async def stop_session(self, session: str) -> Session:
        """Ask a session to stop."""
        return await self._post(f"/sessions/{quoted(session)}/stop", Session)

    async def rename_session(self, session: str, title: str) -> Session:
        """Give a session another title."""
        path, change = f"/sessions/{quoted(session)}", SessionChange(title=title)
        return told(Session, (await self._call("PATCH", path, content=change)).content)

    async def restart_session(
        self, session: str, resources: Resources | None = None, version: str | None = None
    ) -> Session:
        """Ask for a new session with the same choices, in another size or version where one is given; the old one is stopped."""
        changed = RestartRequest(resources=resources, version=version)
        return await self._post(f"/sessions/{quoted(session)}/restart", Session, changed)

    async def tell_activity(self, session: str, activity: Activity, wait: float = 0) -> PlannedStop | None:
        """Tell what goes on in a session; the answer, the stop that is announced to it, may be held back for `wait` seconds."""
        path, held = f"/sessions/{quoted(session)}/activity", {"wait": wait} if wait else {}
        answer = await self._call("PUT", path, content=activity, params=held)
        return _STOP.validate_json(answer.content, extra="ignore")

    async def keep_session(self, session: str) -> Session:
        """Put off the stop that is announced to a session."""
        return await self._post(f"/sessions/{quoted(session)}/keep", Session)

    async def hibernate_session(self, session: str) -> Session:
        """Ask a session to write down its variables and to stop."""
        return await self._post(f"/sessions/{quoted(session)}/hibernate", Session)

    async def wake_session(self, session: str) -> Session:
        """Let a hibernated session begin anew, under the same id."""
        return await self._post(f"/sessions/{quoted(session)}/wake", Session)

    async def maintenance(self) -> PlannedStop | None:
        """Return the announced end of the whole platform, if there is one."""
        return _STOP.validate_json((await self._call("GET", "/maintenance")).content, extra="ignore")

    async def announce_maintenance(self, new: NewMaintenance) -> PlannedStop:
        """Announce the end of the whole platform; for administrators."""
        return told(PlannedStop, (await self._call("PUT", "/maintenance", content=new)).content)

    async def withdraw_maintenance(self) -> None:
        """Let all sessions know that the platform goes on; for administrators."""
        await self._call("DELETE", "/maintenance")

    async def session_usage(self, session: str) -> Usage:
        """Return what a running session uses just now."""
        return await self._get(f"/sessions/{quoted(session)}/usage", Usage)

    async def session_log(self, session: str) -> str:
        """Return the end of what a session's own server printed."""
        return (await self._call("GET", f"/sessions/{quoted(session)}/log")).text

    async def capacity(self) -> Capacity:
        """Return what sessions may use together, and what is free of it now."""
        return await self._get("/capacity", Capacity)

    async def delete_session(self, session: str) -> None:
        """Forget an ended session."""
        await self._call("DELETE", f"/sessions/{quoted(session)}")

    async def session_events(self, session: str) -> AsyncGenerator[SessionEvent, None]:
        """Follow a session until it is ready or has ended; past events come first."""
        async for data in self._follow(f"/sessions/{quoted(session)}/events", "session-event"):
            event = told(SessionEvent, data)
            yield event
            if event.state is SessionState.READY or not event.state.active:
                return

    # -- teams and shares -----------------------------------------------------------------------------------

    async def teams(self) -> list[Team]:
        """Return the teams that one is in."""
        return await self._all("/teams", Team)

    async def team(self, name: str) -> Team:
        """Return one team with its members."""
        return await self._get(f"/teams/{quoted(name)}", Team)

    async def make_team(self, new: NewTeam) -> Team:
        """Make a team; one becomes its owner."""
        return await self._post("/teams", Team, new)

    async def describe_team(self, name: str, text: TeamText) -> Team:
        """Give a team another title and description."""
        answer = await self._call("PATCH", f"/teams/{quoted(name)}", content=text)
        return told(Team, answer.content)

    async def delete_team(self, name: str) -> None:
        """Delete a team; its files stay on the server."""
        await self._call("DELETE", f"/teams/{quoted(name)}")

    async def change_role(self, team: str, member: str, role: Role) -> Team:
        """Give a member of a team another role."""
        path = f"/teams/{quoted(team)}/members/{quoted(member)}"
        return told(Team, (await self._call("PATCH", path, content=NewRole(role=role))).content)

    async def remove_member(self, team: str, member: str) -> None:
        """Remove somebody from a team, or leave it oneself."""
        await self._call("DELETE", f"/teams/{quoted(team)}/members/{quoted(member)}")

    async def invite(self, team: str, new: NewInvitation) -> Invitation:
        """Invite somebody, or make a link; the link is told only now."""
        return await self._post(f"/teams/{quoted(team)}/invitations", Invitation, new)

    async def invitations(self, team: str) -> list[Invitation]:
        """Return the open invitations of a team."""
        return await self._all(f"/teams/{quoted(team)}/invitations", Invitation)

    async def withdraw_invitation(self, team: str, invitation: str) -> None:
        """Withdraw an invitation: nobody comes in by it any more."""
        await self._call("DELETE", f"/teams/{quoted(team)}/invitations/{quoted(invitation)}")

    async def my_invitations(self) -> list[Invitation]:
        """Return the teams that one is invited to."""
        return await self._all("/invitations", Invitation)

    async def accept_invitation(self, which: Acceptance) -> Team:
        """Come into a team, by an invitation to oneself or by a link."""
        return await self._post("/invitations/accept", Team, which)

    async def decline_invitation(self, invitation: str) -> None:
        """Turn down an invitation to oneself."""
        await self._call("DELETE", f"/invitations/{quoted(invitation)}")

    async def share_session(self, session: str, new: NewShare) -> Share:
        """Let somebody, or a team, into a running session for a time."""
        return await self._post(f"/sessions/{quoted(session)}/shares", Share, new)

    async def shares(self, session: str) -> list[Share]:
        """Return with whom a session is shared."""
        return await self._all(f"/sessions/{quoted(session)}/shares", Share)

    async def end_share(self, session: str, share: str) -> None:
        """End a share; what the others have open is closed within a minute."""
        await self._call("DELETE", f"/sessions/{quoted(session)}/shares/{quoted(share)}")

    async def shared_sessions(self) -> list[Session]:
        """Return the running sessions of others that one may open."""
        return await self._all("/shared", Session)

    # -- jobs -----------------------------------------------------------------------------------------------

    async def engines(self) -> list[EngineInfo]:
        """Return the batch engines, the default one first, with what each has now."""
        return await self._all("/engines", EngineInfo)

    async def submit(self, request: JobRequest) -> Job:
        """Start a job."""
        return await self._post("/jobs", Job, request)

    async def jobs(self, cursor: str | None = None, limit: int = 50) -> Page[Job]:
        """Return a page of one's jobs, newest first."""
        wanted = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await self._call("GET", "/jobs", params=wanted)
        return told(Page[Job], answer.content)

    async def job(self, job: str) -> Job:
        """Return one job."""
        return await self._get(f"/jobs/{quoted(job)}", Job)

    async def job_grid(self, job: str) -> TaskGrid:
        """Return the state of every task."""
        return await self._get(f"/jobs/{quoted(job)}/grid", TaskGrid)

    async def job_failures(self, job: str) -> list[TaskFailureGroup]:
        """Return the failures, grouped by error and line."""
        return _FAILURES.validate_json(
            (await self._call("GET", f"/jobs/{quoted(job)}/failures")).content, extra="ignore"
        )

    async def job_task(self, job: str, task: int) -> TaskInputs:
        """Return a task's state and its inputs."""
        return await self._get(f"/jobs/{quoted(job)}/tasks/{task}", TaskInputs)

    async def job_log(self, job: str, task: int) -> str:
        """Return what a task printed."""
        return (await self._call("GET", f"/jobs/{quoted(job)}/tasks/{task}/log")).text

    async def job_input_log(self, job: str, number: int) -> str:
        """Return what the task printed that an input belongs to."""
        return (await self._call("GET", f"/jobs/{quoted(job)}/inputs/{number}/log")).text

    async def job_result(self, job: str, number: int) -> bytes:
        """Return the pickled result of an input."""
        return (await self._call("GET", f"/jobs/{quoted(job)}/results/{number}")).content

    async def act(self, job: str, action: JobAction) -> Job:
        """Cancel, hold, release or retry a job."""
        return await self._post(f"/jobs/{quoted(job)}/{action}", Job)

    async def delete_job(self, job: str) -> None:
        """Forget an ended job, with its results."""
        await self._call("DELETE", f"/jobs/{quoted(job)}")

    async def job_events(self, job: str) -> AsyncGenerator[Job, None]:
        """Follow a job until it has ended: its state at each change."""
        async for data in self._follow(f"/jobs/{quoted(job)}/events", "job"):
            seen = told(Job, data)
            yield seen
            if not seen.state.active:
                return

    # -- notifications --------------------------------------------------------------------------------------

    async def notifications(self, cursor: str | None = None, limit: int = 50) -> Page[Notification]:
        """Return a page of what one was told, newest first."""
        wanted = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        answer = await self._call("GET", "/notifications", params=wanted)
        return told(Page[Notification], answer.content)

    async def unread_notifications(self) -> Unread:
        """Return how many of them one has not read."""
        return await self._get("/notifications/unread", Unread)

    async def read_notifications(self, number: int | None = None) -> None:
        """Mark one as read, or all where none is named."""
        await self._call("POST", "/notifications/read", params={} if number is None else {"id": number})

    async def notification_settings(self) -> NotificationSettings:
        """Return how one is told; sessions may not ask."""
        return await self._get("/notifications/settings", NotificationSettings)

    async def change_notification_settings(self, change: NotificationChange) -> NotificationSettings:
        """Change how one is told; what is not said stays. Sessions may not do it."""
        answer = await self._call("PATCH", "/notifications/settings", content=change)
        return told(NotificationSettings, answer.content)

    async def test_notifications(self) -> list[Sent]:
        """Send a test by mail and webhook, where they lead somewhere, and return how it went. Sessions may not do it."""
        return _SENT.validate_json((await self._call("POST", "/notifications/test")).content, extra="ignore")

    # -- for the hub ----------------------------------------------------------------------------------------

    async def plan(self, session: str) -> Plan:
        """Return what the spawner needs to start a session; only with the internal token."""
        return await self._get(f"{self._internal}/sessions/{quoted(session)}/plan", Plan)

    async def report(self, session: str, report: SessionReport) -> Session:
        """Tell the portal how a session does, and return how it knows the session; only with the internal token."""
        path = f"{self._internal}/sessions/{quoted(session)}/reports"
        return told(Session, (await self._call("POST", path, content=report)).content)

    @property
    def _internal(self) -> str:
        return f"{self.url.removesuffix('/api')}/internal"
