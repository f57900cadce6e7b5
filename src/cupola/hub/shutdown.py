"""Ending everything that belongs to a state folder, whoever started it and whether or not the supervisor still lives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.exceptions import UnavailableError
from cupola.hub.containers.network import known as known_network
from cupola.hub.drivers.process import stop_session
from cupola.hub.mounts import clear_mounts, left_mounts
from cupola.hub.processes import KnownProcess, end, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

    from cupola.config import StatePaths
    from cupola.hub.containers.engine import Found
    from cupola.models.containers import SessionNetwork

__all__ = ["HUB", "PROXY", "Leftovers", "record_of"]

HUB = "hub"
PROXY = "proxy"


def record_of(paths: StatePaths, part: str) -> Path:
    """Return the file that names the process of a part."""
    return paths.lock.with_name(f"{part}.json")


@dataclass
class Leftovers:
    """What runs for a state folder."""

    hub: KnownProcess | None = None
    proxy: KnownProcess | None = None
    sessions: dict[str, KnownProcess] = field(default_factory=dict)
    zygotes: list[KnownProcess] = field(default_factory=list)
    pools: list[KnownProcess] = field(default_factory=list)
    containers: list[Found] = field(default_factory=list)
    network: SessionNetwork | None = None
    """Where the containers are; only where this platform has ever had some."""
    unknown: str | None = None
    """Why nobody can tell whether containers are left."""
    paths: StatePaths | None = None
    """The platform's folders: they take the last output of containers."""

    mounts: list[Path] = field(default_factory=list)
    """Where volumes are mounted."""

    def __bool__(self) -> bool:
        return any(
            (self.mounts, self.hub, self.proxy, self.sessions, self.zygotes, self.pools, self.containers)
        )

    @classmethod
    def find(cls, paths: StatePaths) -> Leftovers:
        """Look at the notes that the parts keep, and for containers at the engine; only what still runs counts."""
        network = known_network(paths)
        containers, unknown = _containers(network)
        return cls(
            containers=containers,
            network=network,
            unknown=unknown,
            paths=paths,
            hub=_living(record_of(paths, HUB)),
            proxy=_living(record_of(paths, PROXY)),
            sessions={
                file.stem: known for file in sorted(paths.running.glob("*.json")) if (known := _living(file))
            },
            zygotes=[known for file in sorted(paths.zygotes.glob("*.json")) if (known := _living(file))],
            # Of containers the labels tell; a note in the home of somebody in a container could name any process.
            pools=[] if network else list(_pools(paths)),
            mounts=left_mounts(paths),
        )

    def stop(self, tell: Callable[[str], None], *, seconds: float = 10) -> None:
        """End all of it: what people work in first, then what serves it.

        Parameters
        ----------
        tell
            Gets a line per step.
        seconds
            How long each part may take to end by itself.
        """
        for session, known in self.sessions.items():
            tell(f"Stopping session {session}")
            stop_session(session, known, seconds)
        self._stop_containers([found for found in self.containers if not found.job], tell, seconds)
        for name, part in (("hub and portal", self.hub), ("proxy", self.proxy)):
            if part and (process := part.find()):
                tell(f"Stopping the {name}")
                children = process.children(recursive=True)
                end([process], seconds=seconds)
                end(children, seconds=1)
        # After the portal: it starts the supervisor of a job again that has ended without an end.
        if self.pools:
            tell(f"Stopping {_count(self.pools, 'job')}; they go on at the next start")
            end(_found(self.pools), seconds=seconds)
        self._stop_containers([found for found in self.containers if found.job], tell, seconds)
        forkers = _found(self.zygotes)
        helpers = [child for process in forkers for child in process.children(recursive=True)]
        end(forkers, seconds=2)
        end(helpers, seconds=1)
        if self.paths is not None:
            clear_mounts(self.paths, tell)
        if self.unknown:
            tell(f"Containers of sessions may run on: {self.unknown}")
        elif self.network is not None and self.paths is not None:
            from cupola.hub.containers.ground import clear

            clear(self.network, self.paths)

    def _stop_containers(self, containers: list[Found], tell: Callable[[str], None], seconds: float) -> None:
        if not containers or self.network is None:
            return
        from cupola.hub.containers.ends import remove_container
        from cupola.hub.containers.engine import engine_client

        client = engine_client(self.network.host)

        def stop(found: Found) -> None:
            log = self.paths.session_log(found.session) if self.paths and not found.job else None
            try:
                remove_container(client, found.identity, seconds=max(1, int(seconds)), log=log)
            except UnavailableError as exc:
                tell(f"Session {found.session} may run on: {exc}")

        for found in containers:
            tell(f"Stopping {'job' if found.job else 'session'} {found.session}")
        # All at once: each may take its ten seconds.
        with ThreadPoolExecutor(max_workers=16) as pool:
            list(pool.map(stop, containers))


def _containers(network: SessionNetwork | None) -> tuple[list[Found], str | None]:
    """Return the containers that are there, or why nobody can tell."""
    if network is None:
        return [], None
    from cupola.hub.containers.engine import containers_of

    try:
        return containers_of(network.host, network.key), None
    except UnavailableError as exc:
        return [], str(exc)


def _living(record: Path) -> KnownProcess | None:
    known = read_record(record)
    return known if known and known.alive else None


def _pools(paths: StatePaths) -> Iterator[KnownProcess]:
    """Yield the supervisors of running jobs."""
    for file in paths.homes.glob("*/.cupola/jobs/*/pool.json"):
        if known := _living(file):
            yield known


def _found(known: list[KnownProcess]) -> list[psutil.Process]:
    return [process for item in known if (process := item.find())]


def _count(things: list[KnownProcess], noun: str) -> str:
    return f"1 {noun}" if len(things) == 1 else f"{len(things)} {noun}s"
