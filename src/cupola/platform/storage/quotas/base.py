"""What every kind of quota can do: one interface, four implementations."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, StartError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Held", "Limit", "LimitInUseError", "Owner", "Quota", "QuotaError", "made", "places", "run"]

_PATIENCE_S = 600.0


class QuotaError(UnavailableError):
    """A quota could not be set or read; the text names the folder and what the file system said."""


class LimitInUseError(ConflictError):
    """Such a limit cannot change while something uses the folder; all else is as it should be."""


@dataclass(frozen=True)
class Owner:
    """Whom a folder belongs to."""

    number: int | None
    """User and group; nothing: whoever runs the platform."""
    mode: int = 0o700


@dataclass(frozen=True)
class Limit:
    """What a folder may hold."""

    size: int
    """Bytes."""
    files: int | None = None
    """Files and folders; nothing: as many as fit."""


@dataclass(frozen=True)
class Held:
    """What a folder holds, and what it may hold."""

    used: int
    """Bytes."""
    limit: int | None = None
    files: int | None = None
    files_limit: int | None = None
    complete: bool = True
    """Whether all of it was counted."""


class Quota(ABC):
    """Keeps folders below their limits. Calls block: services make them in threads, one at a time per folder.

    Parameters
    ----------
    roots
        The folders that homes and team volumes lie in. They are the platform's own: no user can write to them.
    """

    def __init__(self, roots: list[Path]) -> None:
        self.roots = roots

    @abstractmethod
    def check(self) -> None:
        """Make sure that this kind works here, and make what it needs; done at each start.

        Raises
        ------
        StartError
            It does not; says why and what to do.
        """

    @abstractmethod
    def prepare(self, folder: Path, owner: Owner, limit: Limit) -> None:
        """Make `folder` under its limit, or bring an existing one under it. To be called again is free.

        A folder that was there before the quota moves under it with all that lies in it. A kill in the middle loses
        nothing: the next call goes on or begins again.

        Raises
        ------
        ConflictError
            It has to be moved, and something uses it just now.
        QuotaError
            The file system refuses.
        """

    @abstractmethod
    def usage(self, folder: Path) -> Held:
        """Return what `folder` holds.

        Raises
        ------
        QuotaError
            The file system does not tell.
        """

    @abstractmethod
    def set_limit(self, folder: Path, limit: Limit) -> None:
        """Raise or lower the limit of a folder in use. Below what it holds: nothing can be added then.

        Raises
        ------
        ConflictError
            It cannot be lowered while something uses it.
        QuotaError
            The file system refuses.
        """

    @abstractmethod
    def remove(self, folder: Path) -> None:
        """Delete `folder` and all it holds; one that is not there is no error.

        Raises
        ------
        ConflictError
            Something uses it.
        QuotaError
            The file system refuses.
        """

    @abstractmethod
    def move(self, folder: Path, target: Path) -> None:
        """Give `folder` another name, in the same file system and still under its limit: archived, or renamed.

        Raises
        ------
        ConflictError
            Something uses it, or `target` is there.
        QuotaError
            The file system refuses.
        """

    def watch(self) -> list[str]:
        """Mend what users or a restart of the machine did to the limits; a sentence for each thing that was found."""
        return []


def made(folder: Path, owner: Owner) -> None:
    """Give a folder its owner and mode, where they differ; what lies in it is not looked at."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        there = os.fstat(handle)
        if (
            owner.number is not None
            and os.geteuid() == 0
            and (there.st_uid, there.st_gid) != (owner.number, owner.number)
        ):
            os.fchown(handle, owner.number, owner.number)
        # After fchown, which takes the group bit away.
        if there.st_mode & 0o7777 != owner.mode:
            os.fchmod(handle, owner.mode)
    finally:
        os.close(handle)


def places(root: Path) -> Iterator[Path]:
    """Return the homes or team volumes in `root`: hidden ones are the platform's own."""
    if root.is_dir():
        yield from sorted(
            item
            for item in root.iterdir()
            if not item.name.startswith(".") and item.is_dir() and not item.is_symlink()
        )


def run(*command: str, what: str) -> str:
    """Run a program of the system and return what it prints.

    Parameters
    ----------
    command
        The program and its arguments.
    what
        What cannot be done if it fails, for the error.

    Raises
    ------
    StartError
        It is not installed.
    QuotaError
        It failed.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )
    except FileNotFoundError as exc:
        raise StartError(f"the program {command[0]} is missing; install it, since quotas need it") from exc
    except subprocess.TimeoutExpired as exc:
        raise QuotaError(f"{what}: {command[0]} does not answer; look at the disk.") from exc
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise QuotaError(f"{what}: {said[:400]}")
    return done.stdout
