"""Ending everything that belongs to a state folder, whoever started it and whether or not the supervisor still lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.hub.drivers.process import stop_session
from cupola.hub.processes import KnownProcess, end, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

    from cupola.config import StatePaths

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

    def __bool__(self) -> bool:
        return any((self.hub, self.proxy, self.sessions, self.zygotes, self.pools))

    @classmethod
    def find(cls, paths: StatePaths) -> Leftovers:
        """Look at the notes that the parts keep; only what still runs counts."""
        return cls(
            hub=_living(record_of(paths, HUB)),
            proxy=_living(record_of(paths, PROXY)),
            sessions={
                file.stem: known for file in sorted(paths.running.glob("*.json")) if (known := _living(file))
            },
            zygotes=[known for file in sorted(paths.zygotes.glob("*.json")) if (known := _living(file))],
            pools=list(_pools(paths)),
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
        forkers = _found(self.zygotes)
        helpers = [child for process in forkers for child in process.children(recursive=True)]
        end(forkers, seconds=2)
        end(helpers, seconds=1)


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
