"""``cupola up`` from the inside: starts proxy and hub, keeps them running, and ends everything at the end.

The parts are started so that a death of this process leaves them running: what people work in goes on, and the next
``cupola up`` takes over. Only an end that was asked for stops the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from cupola.config import Compute
from cupola.exceptions import StartError
from cupola.hub import platform, tls, traefik
from cupola.hub.database import hub_database
from cupola.hub.files import make_private
from cupola.hub.keep import BackOff
from cupola.hub.keys import Keys
from cupola.hub.ports import LOOPBACK, Ports, is_free
from cupola.hub.processes import KnownProcess, end, output_tail, read_record, write_record
from cupola.hub.shutdown import HUB, PROXY, Leftovers, record_of
from cupola.hub.zygotes import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import Config
    from cupola.hub.containers.ground import Ground

__all__ = ["Part", "Supervisor", "WarmUp"]

LOOK_SECONDS = 0.2
START_SECONDS = 90
"""How long the hub and the portal may take to answer."""
PAGE = 200
DEATHS_AT_START = 3
"""A part that dies so often while the platform starts will not start at all."""


@dataclass
class Part:
    """A process that is kept running.

    Parameters
    ----------
    name
        For people.
    command, environment
        What to run.
    log
        Gets its output.
    record
        The file that names its process.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    record: Path
    deaths: int = 0
    known: KnownProcess | None = None
    _child: subprocess.Popen[bytes] | None = None
    _back_off: BackOff = field(default_factory=BackOff)
    _born: float = 0
    _again_at: float | None = None

    def start(self) -> None:
        """Start it.

        Raises
        ------
        StartError
            It cannot be started.
        """
        try:
            with self.log.open("ab") as output:
                self._child = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self.environment,
                    cwd=self.record.parent,
                    # Ctrl-C in the terminal is for the supervisor only.
                    start_new_session=True,
                )
            self.known = KnownProcess.of(self._child.pid)
            if self.known:
                write_record(self.record, self.known)
        except OSError as exc:
            raise StartError(f"the {self.name} cannot be started: {exc.strerror or exc}") from exc
        self._born, self._again_at = time.monotonic(), None

    def adopt(self) -> bool:
        """Take over the process of a supervisor that died; say whether there is one."""
        self.known = read_record(self.record)
        self._born = time.monotonic()
        return self.known is not None and self.known.alive

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self._child is not None:
            return self._child.poll() is None
        return self.known is not None and self.known.alive

    def look(self, tell: Callable[[str], None]) -> None:
        """Start it again if it has died, after a wait that grows with each death."""
        if self.alive:
            return
        if self._again_at is None:
            code = f" (exit code {self._child.returncode})" if self._child is not None else ""
            self._wait(tell, f"The {self.name} ended{code}")
        elif time.monotonic() >= self._again_at:
            try:
                self.start()
            except StartError as exc:
                self._wait(tell, str(exc))

    def _wait(self, tell: Callable[[str], None], what: str) -> None:
        self.deaths += 1
        wait = self._back_off.after(time.monotonic() - self._born)
        self._again_at = time.monotonic() + wait
        tell(f"{what}; it is started again in {wait:.1f} s, see {self.log}")

    def stop(self, seconds: float = 10) -> None:
        """End it and what it started."""
        process = self.known.find() if self.known else None
        if process is not None:
            children = process.children(recursive=True)
            end([process], seconds=seconds)
            end(children, seconds=1)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=1)
        self.record.unlink(missing_ok=True)


@dataclass(frozen=True)
class WarmUp:
    """A fork server to start early, so that the first session is quick too."""

    python: Path
    person: str
    digest: str


class Supervisor:
    """The platform of one state folder. Use it inside :func:`cupola.hub.platform.hold`.

    Parameters
    ----------
    config
        The configuration.
    tell
        Gets a sentence whenever something happens that a person should know.
    """

    def __init__(self, config: Config, tell: Callable[[str], None]) -> None:
        self.config = config
        self.paths = config.paths
        self.tell = tell
        self.keys = Keys(self.paths.secrets)
        self.stopping = asyncio.Event()
        self.parts: list[Part] = []
        self.ground = _ground(config)
        self._ports: Ports | None = None

    # -- start ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make folders, secrets and the proxy's configuration; clear or take over what a killed predecessor left.

        Raises
        ------
        StartError
            The port is taken, or something cannot be written.
        """
        try:
            for folder in (self.paths.hub, self.paths.proxy, self.paths.log / "sessions", self.paths.homes):
                folder.mkdir(parents=True, exist_ok=True)
            for private in (self.paths.running, self.paths.zygotes, self.paths.hub, self.paths.proxy):
                make_private(private)
            self.keys.make()
            hub_database(self.config)  # a wrong address is told here, where somebody reads it
            self.parts = [self._proxy(), self._hub()]
            self._clear_leftovers()
        except (OSError, StartError) as exc:
            if self.ground is not None:
                self.ground.clear()  # nothing is left behind where nothing runs
            if isinstance(exc, StartError):
                raise
            raise StartError(
                f"{exc.filename or self.paths.state} cannot be written: {exc.strerror or exc}; make room, "
                "or choose another folder with `cupola up --state FOLDER`"
            ) from exc

    def _clear_leftovers(self) -> None:
        left = Leftovers.find(self.paths)
        proxy, hub = self.parts
        if hub.adopt():
            # A hub cannot be taken over: its portal would go on with old settings. Sessions outlive its restart.
            self.tell("Ending the hub that an earlier start left behind")
            hub.stop()
        kept = self._kept_ports() if left.proxy else []
        in_use = frozenset(port for ports in kept for port in (ports.proxy, ports.door))
        if self.ground is None:
            self._ports, network = Ports.choose(self.paths.ports, in_use), None
        else:
            gateway = self.ground.make_network().gateway
            self._ports = Ports.choose(self.paths.ports, in_use, gateway=gateway)
            network = self.ground.open_door(self._ports.door)
        changed = traefik.write_configuration(self.config, self._ports, network)
        if proxy.adopt():
            if not changed:
                self.tell("Taking over the proxy that an earlier start left running")
            else:
                proxy.stop()
        if not proxy.alive:
            self.check_port()
        if found := len(left.sessions) + sum(not one.job for one in left.containers):
            self.tell(f"Found {found} running session(s) of an earlier start")

    def _kept_ports(self) -> list[Ports]:
        try:
            return [Ports.read(self.paths.ports)]
        except StartError:
            return []

    def check_port(self) -> None:
        """Refuse to start on a port that is taken.

        Raises
        ------
        StartError
            It is, or one may not listen there.
        """
        server = self.config.server
        try:
            free = is_free(server.address, server.port)
        except OSError as exc:
            raise StartError(
                f"one cannot listen on {server.address} port {server.port} ({exc.strerror}); "
                "set server.address and server.port in cupola.yaml, or use `cupola up --port NUMBER`"
            ) from exc
        if not free:
            raise StartError(
                f"port {server.port} is taken by another program; stop that one, "
                f"or choose another port with `cupola up --port {server.port % 65535 + 1}`"
            )

    def _environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "CUPOLA_STATE": str(self.paths.state),
            "CUPOLA_PORT": str(self.config.server.port),
        }
        if self.config.file is not None:
            environment["CUPOLA_CONFIG"] = str(self.config.file)
        # Some images set it for their own build; here it would make Python compile all libraries at each start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # The hub finds programs (jupyterhub's own) beside its interpreter also where nobody activated it.
        own = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([own, environment.get("PATH", os.defpath)])
        return environment

    def _proxy(self) -> Part:
        command = [traefik.program(), "--configfile", str(traefik.static_file(self.paths.proxy))]
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TRAEFIK_")}
        return Part("proxy", command, plain, self.paths.log / "proxy.log", record_of(self.paths, PROXY))

    def _hub(self) -> Part:
        file = Path(__file__).with_name("jupyterhub_config.py")
        command = [sys.executable, "-P", "-m", "jupyterhub", "-f", str(file)]
        return Part(HUB, command, self._environment(), self.paths.log / "hub.log", record_of(self.paths, HUB))

    async def start(self) -> None:
        """Start proxy, hub and portal, and return when all answer.

        Raises
        ------
        StartError
            One of them does not start; call :meth:`give_up` then.
        """
        for part in self.parts:
            if not part.alive:
                self.tell(f"Starting the {part.name}")
                part.start()
        self.tell("Starting the portal")
        await self._until_ready()
        if not self.stopping.is_set():
            await self._end_unknown_sessions()
            platform.note(self.config, ready=True)

    async def _until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        # A certificate is for the public name, and may not be fetched yet: on this machine nobody is in between.
        async with httpx.AsyncClient(trust_env=False, timeout=5, verify=False) as http:  # noqa: S501
            while not self.stopping.is_set():
                for part in self.parts:
                    part.look(self.tell)
                    if part.deaths >= DEATHS_AT_START:
                        raise StartError(
                            f"the {part.name} does not start; its last output: {output_tail(part.log, 3)} (see {part.log})"
                        )
                if await self._portal_answers(http):
                    return
                if time.monotonic() > until:
                    raise StartError(
                        f"the portal does not answer within {START_SECONDS} s; its last output: "
                        f"{output_tail(self.paths.log / 'portal.log', 3) or 'nothing'} (see {self.paths.log})"
                    )
                await asyncio.sleep(0.05)

    async def _portal_answers(self, http: httpx.AsyncClient) -> bool:
        """Return whether the portal answers on the public port: then hub, proxy and portal all work."""
        server = self.config.server
        everywhere = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared with, not listened on
        host = everywhere.get(server.address, server.address)
        host = f"[{host}]" if ":" in host else host
        try:
            scheme = "https" if tls.serves_https(self.config) else "http"
            answer = await http.get(f"{scheme}://{host}:{server.port}/services/cupola/api/me")
        except httpx.HTTPError:
            return False
        # Who is not signed in is told so by the portal; the hub alone would not know the address (404).
        return answer.status_code in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}

    def warm_up(self, what: WarmUp) -> None:
        """Start a fork server; a session that comes before it is ready waits for it. Containers have none."""
        if self.ground is not None:
            return
        zygote = Zygote(self.paths.zygote(what.person, what.digest))
        if zygote.process() is None:
            home = self.paths.home(what.person)
            with contextlib.suppress(OSError):  # it only makes the first session quicker
                home.mkdir(mode=0o700, parents=True, exist_ok=True)
                zygote.start(str(what.python), home, self.paths.log / "zygote.log")

    async def _end_unknown_sessions(self) -> None:
        """End sessions that the hub does not know: it was killed before it could note them."""
        at_hub = await self._sessions_at_hub()
        if at_hub is None:
            return
        known = {session for _, session in at_hub}
        left = await asyncio.to_thread(Leftovers.find, self.paths)
        lost = Leftovers(
            sessions={name: process for name, process in left.sessions.items() if name not in known},
            containers=[found for found in left.containers if not found.job and found.session not in known],
            network=left.network,
        )
        for session in (*lost.sessions, *(found.session for found in lost.containers)):
            self.tell(f"Ending session {session}, which was lost when the hub was killed")
        # Without its folders it leaves the network alone.
        await asyncio.to_thread(lost.stop, lambda _: None)

    # -- life -------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep the parts running until :attr:`stopping` is set."""
        while not self.stopping.is_set():
            for part in self.parts:
                part.look(self.tell)
            if self.ground is not None:
                await asyncio.to_thread(self.ground.look, self.tell)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), LOOK_SECONDS)

    # -- end --------------------------------------------------------------------------------------------------

    async def stop(self, *, quietly: bool = False) -> None:
        """End everything: sessions, jobs, fork servers, hub, portal and proxy."""
        tell = (lambda _: None) if quietly else self.tell
        await self._stop_sessions(tell)
        left = await asyncio.to_thread(Leftovers.find, self.paths)
        await asyncio.to_thread(left.stop, tell)
        for part in self.parts:
            await asyncio.to_thread(part.stop, 1)

    async def give_up(self) -> None:
        """End what a start that failed has begun; sessions and jobs of an earlier one lose nothing and go on."""
        for part in self.parts:
            await asyncio.to_thread(part.stop, 5)
        left = await asyncio.to_thread(Leftovers.find, self.paths)
        await asyncio.to_thread(Leftovers(zygotes=left.zygotes).stop, self.tell)
        if self.ground is not None:
            await asyncio.to_thread(self.ground.clear)
        if left.sessions or left.pools or left.containers:
            self.tell("Sessions or jobs of an earlier start go on without a hub; `cupola down` ends them")

    async def _stop_sessions(self, tell: Callable[[str], None]) -> None:
        """Have the hub stop the sessions, so that hub and portal note how they ended; what stays is ended by us."""
        known = await self._sessions_at_hub()
        if not known:
            return
        tell(f"Stopping {len(known)} session(s)")
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(20), self._hub_client() as http:
                await asyncio.gather(
                    *(http.delete(f"/users/{quote(owner)}/servers/{name}") for owner, name in known)
                )
                while await self._sessions_at_hub():  # noqa: ASYNC110 - asked over HTTP
                    await asyncio.sleep(0.1)

    async def _sessions_at_hub(self) -> set[tuple[str, str]] | None:
        """Return the sessions that the hub runs, each with its owner; nothing where it does not answer."""
        if self._ports is None:
            return None
        found: set[tuple[str, str]] = set()
        try:
            async with self._hub_client() as http:
                offset: int | None = 0
                while offset is not None:
                    answer = await http.get(
                        "/users",
                        params={"state": "active", "offset": offset, "limit": PAGE},
                        headers={"Accept": "application/jupyterhub-pagination+json"},
                    )
                    answer.raise_for_status()
                    page = answer.json()
                    found |= {
                        (user["name"], name) for user in page["items"] for name in user["servers"] or {}
                    }
                    following = page["_pagination"]["next"]
                    offset = following["offset"] if following else None
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return found

    def _hub_client(self) -> httpx.AsyncClient:
        port = self._ports.hub if self._ports else 0
        return httpx.AsyncClient(
            base_url=f"http://{LOOPBACK}:{port}/hub/api",
            headers={"Authorization": f"token {self.keys.supervisor}"},
            trust_env=False,
            timeout=15,
        )


def _ground(config: Config) -> Ground | None:
    """Return what containers stand on; nothing where sessions are processes."""
    if config.compute is not Compute.DOCKER:
        return None
    from cupola.hub.containers.ground import Ground

    return Ground(config)
