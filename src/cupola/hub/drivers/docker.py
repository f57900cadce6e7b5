"""The ``docker`` driver: a session is a container, made as the plan says and in no other way.

The engine is asked as seldom as can be: three calls for a start, none for a look whether a session lives. Whatever is needed
after a crash of the hub stands in the container's labels or can be asked of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.containers.making import container_settings
from cupola.exceptions import CupolaError
from cupola.hub.containers.cgroups import MemoryGroup
from cupola.hub.containers.ends import last_lines, oom_heard, remove_container, why_not_started
from cupola.hub.containers.engine import engine_client, sessions_of
from cupola.hub.drivers.base import POLL, NotStartedError, Place, answers, describe, signal_name
from cupola.hub.ports import LOOPBACK
from cupola.hub.processes import KnownProcess
from cupola.models.containers import labels_of
from cupola.models.session import EndCause, SessionEnd

if TYPE_CHECKING:
    import docker

    from cupola.models.session import ContainerPlan, Plan

__all__ = ["SessionContainer"]

STOP_SECONDS = 10
"""How long a session may take to save and to stop its kernels."""
KILLED = 137
"""What the first process of a container ends with when the kernel kills it, or what it looks after."""
OOM_SECONDS = 2
"""The engine hears of an end before it hears that memory was the reason; so long it is asked again."""


class SessionContainer:
    """The container of one session, running or ended.

    Parameters
    ----------
    session
        Its id.
    host
        Where the engine listens.
    key
        The platform's.
    """

    def __init__(self, session: str, *, host: str, key: str) -> None:
        self.session = session
        self.host = host
        self.key = key
        self.identity: str | None = None
        self.log: Path | None = None
        self.limit_mib: int | None = None
        self.known: KnownProcess | None = None
        self._own: tuple[str, int] = ("", 0)
        self._address: tuple[str, int] = (LOOPBACK, 0)
        self._group: MemoryGroup | None = None
        self._peak_mib: int | None = None
        self._kills = 0
        self._kills_told: int | None = None
        self._seen_end: SessionEnd | None = None

    @property
    def client(self) -> docker.DockerClient:
        """The engine."""
        return engine_client(self.host)

    # -- state that outlives the hub --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what the hub keeps."""
        if self.identity is None:
            return {}
        return {"container": self.identity, "log": str(self.log or ""), "memory_mib": self.limit_mib}

    def load(self, state: dict[str, Any]) -> None:
        """Take what the hub kept. Where it was killed before it could, the container is found by its label."""
        self.identity = state.get("container")
        self.log = Path(state["log"]) if state.get("log") else None
        self.limit_mib = state.get("memory_mib")

    # -- start ------------------------------------------------------------------------------------------------

    def listens(self, plan: Plan) -> tuple[str, int]:
        """Return the port inside the container, on all of its addresses."""
        return "0.0.0.0", _of(plan).port  # noqa: S104 - nobody but the host reaches a container

    async def start(self, plan: Plan, environment: dict[str, str]) -> Place:
        """Make and start the container; one that a killed hub left behind goes first, since its token is another.

        Raises
        ------
        NotStartedError
            It cannot be started.
        """
        container = _of(plan)
        self.log, self.limit_mib = container.log, container.resources.memory_mib
        self._peak_mib, self._kills, self._kills_told, self._seen_end = None, 0, 0, None
        env = {
            **container.environment,
            **environment,
            "HOME": str(container.folder),
            "USER": plan.owner,
            "LOGNAME": plan.owner,
            "SHELL": "/bin/bash",
            "CUPOLA_SESSION": plan.session,
        }
        labels = {**container.labels, **labels_of(plan, self.key)}
        try:
            await asyncio.to_thread(self._make, container, env, labels)
        except Exception as exc:
            with contextlib.suppress(CupolaError):
                await self.forget()
            raise why_not_started(exc, container) from exc
        host, port = self._address
        return Place(host, port, "Waiting for its first answer")

    def _make(self, plan: ContainerPlan, environment: dict[str, str], labels: dict[str, str]) -> None:
        import docker.errors

        for folder in plan.folders:
            _make_folder(folder, plan)
        api = self.client.api
        settings = container_settings(api, plan, environment, labels)
        try:
            made = api.create_container_from_config(settings, plan.name)
        except docker.errors.APIError as exc:
            if exc.status_code != 409:  # noqa: PLR2004 - the name is taken
                raise
            for left in sessions_of(self.host, self.key, self.session):
                api.remove_container(left.identity, force=True, v=True)
            made = api.create_container_from_config(settings, plan.name)
        self.identity = str(made["Id"])
        api.start(self.identity)
        self._note(api.inspect_container(self.identity), plan)

    def _note(self, inspected: dict[str, Any], plan: ContainerPlan) -> None:
        """Keep where it answers and which process it is."""
        networks = inspected["NetworkSettings"]
        own = (networks["Networks"].get(plan.network) or {}).get("IPAddress") or ""
        self._own = (own, plan.port)
        self._address = self._own
        if plan.publish:
            ports = (networks.get("Ports") or {}).get(f"{plan.port}/tcp") or []
            if ports:
                self._address = (LOOPBACK, int(ports[0]["HostPort"]))
        self._know(inspected)

    def _know(self, inspected: dict[str, Any]) -> None:
        """Keep its first process, if it can be seen from here: then no look costs a call of the engine."""
        pid = int(inspected["State"].get("Pid") or 0)
        self._group = MemoryGroup.of(pid, inspected["Id"]) if pid else None
        self.known = KnownProcess.of(pid) if self._group else None

    async def wait_for_port(self, seconds: float) -> None:
        """Return when the session accepts connections.

        Asked is the container itself: what publishes its port accepts long before there is anybody behind it.

        Raises
        ------
        NotStartedError
            It ended before, with the last lines of its output; or it did not answer within `seconds`.
        """
        until = time.monotonic() + seconds
        host, port = self._own
        while not (host and await answers(host, port)):
            if not self._lives() and (ended := await self.ended()) is not None:
                said = " | ".join(ended.log[-5:]) or "nothing"
                raise NotStartedError(
                    f"the session {describe(ended)} while it started; its last output: {said}", ended
                )
            if time.monotonic() > until:
                lines = await asyncio.to_thread(last_lines, self.client, self.identity)
                raise NotStartedError(
                    f"the session did not answer within {seconds:.0f} s; its log tells more",
                    self._end(EndCause.TIMEOUT, log=lines),
                )
            await asyncio.sleep(POLL)

    # -- life -------------------------------------------------------------------------------------------------

    def _lives(self) -> bool:
        """Return whether its first process is seen alive; nothing is known where it is not."""
        return self.known is not None and self.known.alive

    async def ended(self) -> SessionEnd | None:
        """Return how it ended by itself; nothing while it runs, or while the engine does not answer.

        This is also where its memory is looked at: the hub asks every few seconds.
        """
        if self._seen_end is not None:
            return self._seen_end
        self._look_at_memory()
        if self._lives():
            return None
        import docker.errors

        try:
            self._seen_end = await asyncio.to_thread(self._ask)
        except docker.errors.NotFound:
            self._seen_end = self._end(EndCause.LOST)
        except Exception:  # noqa: BLE001 - the engine is just being restarted: what runs goes on meanwhile
            return None
        return self._seen_end

    def _look_at_memory(self) -> None:
        use = self._group.look() if self._group else None
        if use is not None:
            self._peak_mib = max(self._peak_mib or 0, use.used_mib)
            self._kills = use.kills
            if self._kills_told is None:
                self._kills_told = use.kills  # the hub was restarted: what was before it has been told

    def lost_inside(self) -> SessionEnd | None:
        """Return that a program in it, such as a notebook's kernel, was ended for lack of memory; each is told once."""
        if self._kills_told is None or self._kills <= self._kills_told:
            return None
        self._kills_told = self._kills
        peak = max(self._peak_mib or 0, self.limit_mib or 0) or None
        return self._end(EndCause.OUT_OF_MEMORY, signal="SIGKILL", peak_memory_mib=peak)

    def _ask(self) -> SessionEnd | None:
        """Ask the engine how it is."""
        import docker.errors

        if self.identity is None:
            left = sessions_of(self.host, self.key, self.session)
            if not left:
                raise docker.errors.NotFound(f"no container of {self.session}")
            self.identity = left[0].identity
        inspected = self.client.api.inspect_container(self.identity)
        state = inspected["State"]
        if state.get("Running") or state.get("Restarting") or state.get("Paused"):
            self._know(inspected)
            return None
        return self._read_end(inspected)

    def _read_end(self, inspected: dict[str, Any]) -> SessionEnd:
        state = inspected["State"]
        code = int(state.get("ExitCode") or 0)
        lines = last_lines(self.client, self.identity)
        if code == KILLED and self._was_memory(state):
            peak = max(self._peak_mib or 0, self.limit_mib or 0) or None
            return self._end(EndCause.OUT_OF_MEMORY, signal="SIGKILL", peak_memory_mib=peak, log=lines)
        if code > 128:  # noqa: PLR2004 - as shells tell a signal
            return self._end(EndCause.CRASH, signal=signal_name(code - 128), log=lines)
        return self._end(EndCause.CRASH, exit_code=code, log=lines)

    def _was_memory(self, state: dict[str, Any]) -> bool:
        """Return whether the kernel killed it because its memory was used up.

        The engine's own word comes late, and not at all where the first process outlived the server by a moment: what
        the kernel counted, and how much was used at the last look, count too.
        """
        if state.get("OOMKilled") or self._kills:
            return True
        if self.limit_mib and self._peak_mib and self._peak_mib >= 0.97 * self.limit_mib:
            return True
        return bool(self._heard_of_memory())

    def _heard_of_memory(self) -> bool:
        """Look whether the engine noted meanwhile that memory was used up."""
        until = time.monotonic() + OOM_SECONDS
        while True:
            now = int(time.time())
            if oom_heard(self.client, self.identity, now):
                return True
            if self.client.api.inspect_container(self.identity)["State"].get("OOMKilled"):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.5)

    def _end(self, cause: EndCause, **more: Any) -> SessionEnd:
        known = {"peak_memory_mib": self._peak_mib, "memory_limit_mib": self.limit_mib}
        return SessionEnd(cause=cause, **{**known, **more})

    # -- end --------------------------------------------------------------------------------------------------

    async def stop(self, *, asleep: bool = False) -> SessionEnd:
        """Ask its programs to end, then end them, and remove the container; its last output is kept.

        Raises
        ------
        UnavailableError
            The engine does not answer: the container may run on.
        """
        # CRIU in containers is the engine's, and experimental there: snapshots bring variables back.
        del asleep
        self._look_at_memory()
        end = self._end(EndCause.ASKED)
        await asyncio.to_thread(self._remove, STOP_SECONDS)
        return end

    async def forget(self) -> None:
        """Remove what is left of an ended one; its last output is kept.

        Raises
        ------
        UnavailableError
            The engine does not answer.
        """
        await asyncio.to_thread(self._remove, 0)

    def _remove(self, seconds: int) -> None:
        wanted = {self.identity} if self.identity else set()
        # Another one of the same session may be there after a crash of the hub.
        wanted |= {left.identity for left in sessions_of(self.host, self.key, self.session)}
        for identity in wanted:
            remove_container(self.client, identity, seconds=seconds, log=self.log)
        self.identity, self.known, self._group = None, None, None


def _of(plan: Plan) -> ContainerPlan:
    if plan.container is None:
        raise NotStartedError(
            "the session is no container: the platform's `compute` was changed meanwhile; launch it anew",
            SessionEnd(cause=EndCause.REFUSED),
        )
    return plan.container


def _make_folder(folder: Path, plan: ContainerPlan) -> None:
    """Make a folder for the session's owner; one that is there stays as it is."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(folder, plan.user, plan.group, follow_symlinks=False)
