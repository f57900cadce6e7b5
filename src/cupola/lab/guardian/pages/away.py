"""What happened to a notebook while nobody looked: since when nobody did, and what ended meanwhile.

A notebook is looked at while a page is connected to its kernel. What ended while none was is told once, until somebody
says that it was read.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.ledger import Execution, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["BEAT_S", "Attendance", "attendance", "duration", "tell"]

BEAT_S = 10.0
"""How often it is written down that somebody looks: the server may end without a word."""
ABSENT_S = 15.0
"""Whoever is back sooner has only loaded the page anew, or lost the network for a moment."""
_MOST_READ = 20
_MOST_ABSENCES = 50
_MOST = 1000
"""Notebooks that are remembered."""


class Attendance:
    """Since when nobody looks at a notebook.

    Parameters
    ----------
    place
        The file in which it is remembered.
    clock
        Tells the time, in seconds.
    """

    def __init__(self, place: Path, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._clock = clock
        self._there: Counter[str] = Counter()
        self._known = self._read()
        self._written = 0.0

    def _read(self) -> dict[str, dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._place.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return {str(path): one for path, one in found.items() if isinstance(one, dict)}
        return {}

    def came(self, path: str) -> str:
        """Note that a page looks at a notebook; return its path."""
        now, entry = self._clock(), self._known.setdefault(path, {})
        looked = float(entry.get("looked", now))
        if not self._there[path] and now - looked >= ABSENT_S:
            # What was not read before is still news; what happened between the two was looked at.
            entry["away"] = [*_absences(entry), (looked, now)][-_MOST_ABSENCES:]
        entry["looked"] = now
        self._there[path] += 1
        self._write()
        return path

    def left(self, path: str) -> None:
        """Note that a page is gone."""
        self._there[path] -= 1
        if self._there[path] <= 0:
            del self._there[path]
        if path in self._known:
            self._known[path]["looked"] = self._clock()
            self._write()

    def beat(self) -> None:
        """Note that whoever looks still does."""
        now = self._clock()
        if self._there and now - self._written >= BEAT_S:
            for path in self._there:
                self._known.setdefault(path, {})["looked"] = now
            self._write()

    def absences(self, path: str) -> list[tuple[float, float]]:
        """Return from when to when nobody looked, each time since somebody said that the news were read."""
        entry, now = self._known.get(path, {}), self._clock()
        found = _absences(entry)
        if not self._there[path] and "looked" in entry and now - entry["looked"] >= ABSENT_S:
            found.append((float(entry["looked"]), now))
        return found

    def has_read(self, path: str, what: str) -> bool:
        """Whether somebody has read about a certain loss."""
        return what in self._known.get(path, {}).get("read", [])

    def read(self, path: str) -> None:
        """Note that somebody read what happened meanwhile."""
        self._known.setdefault(path, {}).pop("away", None)
        self._write()

    def read_of(self, path: str, what: str) -> None:
        """Note that somebody read of a certain loss."""
        entry = self._known.setdefault(path, {})
        entry["read"] = [*entry.get("read", [])[-_MOST_READ:], what]
        self._write()

    def renamed(self, old: str, new: str) -> None:
        """Note that a notebook has another path."""
        if old in self._known:
            self._known[new] = self._known.pop(old)
            self._write()

    def _write(self) -> None:
        self._written = self._clock()
        if len(self._known) > _MOST:
            newest = sorted(self._known, key=lambda path: self._known[path].get("looked", 0.0))[-_MOST:]
            self._known = {path: self._known[path] for path in newest}
        part = self._place.with_name(self._place.name + ".part")
        # A full disk must not keep anybody from working.
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self._known), encoding="utf-8")
            part.replace(self._place)


def _absences(entry: dict[str, Any]) -> list[tuple[float, float]]:
    with contextlib.suppress(TypeError, ValueError):
        return [(float(since), float(until)) for since, until in entry.get("away", [])]
    return []


@cache
def attendance() -> Attendance:
    """Return that of this session's home."""
    runtime = Path(os.environ.get("CUPOLA_RUNTIME") or Path.home() / ".cupola")
    return Attendance(runtime / "looked.json")


def tell(executions: Collection[Execution], absences: Iterable[tuple[float, float]]) -> dict[str, Any] | None:
    """Return what became of executions while nobody looked.

    Parameters
    ----------
    executions
        Of one notebook.
    absences
        From when to when nobody looked, in seconds since 1970; those in which nothing ended are no news.

    Returns
    -------
    :
        Nothing where nothing ended meanwhile.
    """
    ended = [one for one in executions if one.state.over and (one.failed or one.state is State.DONE)]
    away = [
        (since, until) for since, until in absences if any(_fell_into(one, since, until) for one in ended)
    ]
    if not away:
        return None
    there = [one for one in executions if one.asked < away[-1][1]]
    over = [one for one in ended if any(_fell_into(one, *absence) for absence in away)]
    failed = [one for one in over if one.failed]
    finished = [one for one in over if not one.failed]
    running = [one for one in there if one.state is State.RUNNING]
    waiting = [one for one in there if one.state is State.QUEUED]
    seconds = round(sum(until - since for since, until in away))
    news = sorted([*finished, *failed, *running], key=lambda one: one.started or one.asked)
    return {
        "since": away[0][0],
        "finished": len(finished),
        "failed": len(failed),
        "running": len(running),
        "waiting": len(waiting),
        "seconds": seconds,
        "cells": [
            {"cell": one.cell, "count": one.count, "state": "failed" if one.failed else str(one.state)}
            for one in news
        ],
        "text": f"While you were away: {_words(finished, failed, running, waiting)} ({duration(seconds)}).",
    }


def _fell_into(one: Execution, since: float, until: float) -> bool:
    return since < (one.ended or 0.0) <= until


def _words(*kinds: list[Execution]) -> str:
    counts = list(zip(("finished", "failed", "still running", "waiting"), map(len, kinds), strict=True))
    counts = [(word, count) for word, count in counts if count]
    first, count = counts[0]
    words = [f"{count} {'cell' if count == 1 else 'cells'} {first}"]
    return ", ".join(words + [f"{count} {word}" for word, count in counts[1:]])


def duration(seconds: float) -> str:
    """Return a length of time as one says it."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:  # noqa: PLR2004 - as one says it
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"  # noqa: PLR2004 - as one says it
