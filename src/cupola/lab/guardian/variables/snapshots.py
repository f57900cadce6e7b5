"""What the server knows of the variables that kernels store: what is there, what is back, and how to ask for a snapshot."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.guardian.folder import KernelFolder

__all__ = ["Left", "Restored", "Snapshot", "answer", "ask", "kernel_arguments"]

SIDE = Path(__file__).with_name("kernel_side.py")
_MOST_NAMED = 3


def kernel_arguments() -> list[str]:
    """Return what a Python kernel is started with so that it stores its variables.

    It is one expression: nothing of it is seen in the notebook, in its names or in its history, and a kernel for which it
    does not work starts all the same.
    """
    load = (
        "try:\n"
        " import sys, importlib.util as u\n"
        # As a package, so that the file finds its neighbours in whatever environment the kernel runs.
        f" s = u.spec_from_file_location('_cupola_kernel', {str(SIDE)!r}, submodule_search_locations=[{str(SIDE.parent)!r}])\n"
        " m = sys.modules[s.name] = u.module_from_spec(s)\n"
        " s.loader.exec_module(m)\n"
        " m.start(shell)\n"
        "except Exception:\n"
        " pass\n"
    )
    line = f"exec({load!r}, {{'shell': get_ipython()}})"
    return [f"--IPKernelApp.exec_lines={[line]!r}"]


@dataclass(frozen=True)
class Left:
    """A variable that was not kept, and why."""

    name: str
    type: str
    why: str


@dataclass(frozen=True)
class Snapshot:
    """What a kernel stored last.

    Parameters
    ----------
    time
        Seconds since 1970.
    after
        Number of the last cell before it.
    whole
        It was taken between two cells, and there was time for all.
    midcell
        It was taken while a cell ran.
    variables, modules
        Names.
    left
        What was not stored.
    bytes
        Of its files.
    unable
        Why this kernel cannot store anything.
    """

    time: float
    after: int
    whole: bool
    midcell: bool
    variables: tuple[str, ...]
    modules: tuple[str, ...]
    left: tuple[Left, ...]
    bytes: int = 0
    unable: str = ""

    @classmethod
    def read(cls, folder: KernelFolder) -> Snapshot | None:
        """Return what lies in a kernel's folder; nothing where nothing can be read."""
        said = _json(folder.variables / "index.json")
        try:
            return cls(
                time=float(said["time"]),
                after=int(said["after"]),
                whole=bool(said["whole"]),
                midcell=bool(said.get("midcell")),
                variables=tuple(str(one["name"]) for one in said["variables"]),
                modules=tuple(map(str, said["modules"])),
                left=_left(said["left"]),
                bytes=sum({one["file"]: int(one["bytes"]) for one in said["variables"]}.values()),
                unable=str(said.get("unable", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def sentence(self) -> str:
        """What a person wants to know of it."""
        if self.unable:
            return f"The variables of this notebook are not stored: {self.unable}."
        text = f"{_count(self.variables)} of {clock(self.time)} {_are(self.variables)} stored"
        if self.midcell:
            text += ", while a cell was running"
        return text + _not_kept(self.left, "is not", "are not")


@dataclass(frozen=True)
class Restored:
    """What a kernel got back of another one.

    Parameters
    ----------
    time
        Of the snapshot.
    source
        The kernel that stored it.
    variables, modules
        Names that are back.
    left
        What is not.
    midcell
        The snapshot was taken while a cell ran.
    refused
        Why nothing was loaded.
    """

    time: float
    source: str
    variables: tuple[str, ...]
    modules: tuple[str, ...]
    left: tuple[Left, ...]
    midcell: bool = False
    refused: str = ""

    @classmethod
    def read(cls, folder: KernelFolder) -> Restored | None:
        """Return what came back to the kernel of `folder`; nothing where it has begun anew."""
        said = _json(folder.variables / "restored.json")
        try:
            return cls(
                time=float(said["time"]),
                source=str(said["from"]),
                variables=tuple(map(str, said["restored"])),
                modules=tuple(map(str, said["modules"])),
                left=_left(said["left"]),
                midcell=bool(said.get("midcell")),
                refused=str(said.get("refused") or said.get("unable") or ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    @property
    def sentence(self) -> str:
        """What a person wants to know of it."""
        if self.refused:
            return f"The variables are not back: {self.refused}. Run the cells again."
        text = f"{_count(self.variables)} of {clock(self.time)} {_are(self.variables)} back"
        if self.midcell:
            text += ", stored while a cell was running"
        return text + _not_kept(self.left, "could not be kept", "could not be kept")

    def as_json(self) -> dict[str, Any]:
        """Return it as the Lab takes it."""
        return {
            "time": self.time,
            "from": self.source,
            "variables": list(self.variables),
            "modules": list(self.modules),
            "left": [vars(one) for one in self.left],
            "midcell": self.midcell,
            "refused": self.refused,
            "text": self.sentence,
        }


def ask(folder: KernelFolder) -> str:
    """Ask a kernel to store its variables now, even while a cell runs; return the token that its answer will have."""
    token = uuid.uuid4().hex
    folder.variables.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Several may ask at a time: each has its line.
    file = os.open(folder.variables / "wanted", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, f"{token}\n".encode())
    finally:
        os.close(file)
    return token


def answer(folder: KernelFolder, token: str) -> str | None:
    """Return nothing as long as a kernel has not answered, empty text when all is stored, else why it is not."""
    for name in ("index.json", "problem.json"):
        said = _json(folder.variables / name)
        if token in (said.get("tokens") or [said.get("token")]):
            return str(said.get("unable") or said.get("why") or "")
    return None


def clock(seconds: float) -> str:
    """Return a time of day, with the day where it is not today's."""
    then, now = datetime.fromtimestamp(seconds).astimezone(), datetime.now().astimezone()
    today = then.date() == now.date()
    return f"{then:%H:%M}" if today else f"{then.day} {then:%B}, {then:%H:%M}"


def _json(place: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(place.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _left(said: Iterable[dict[str, Any]]) -> tuple[Left, ...]:
    return tuple(Left(str(one["name"]), str(one.get("type", "")), str(one["why"])) for one in said)


def _count(names: tuple[str, ...]) -> str:
    return f"{len(names) or 'no'} variable{'' if len(names) == 1 else 's'}".capitalize()


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def _not_kept(left: tuple[Left, ...], one: str, more: str) -> str:
    if not left:
        return "."
    named = ", ".join(f"{item.name} ({item.why})" for item in left[:_MOST_NAMED])
    if len(left) > _MOST_NAMED:
        named += f" and {len(left) - _MOST_NAMED} more"
    return f"; {len(left)} {one if len(left) == 1 else more}: {named}."
