"""The Debian image that all others begin with: the configured one, or one made here from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import StartError, UnavailableError
from cupola.platform.storage.docker.command import engine_environment, find_docker
from cupola.platform.storage.docker.host import RELEASE, debian_sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.platform.storage.docker.engine import Engine

__all__ = ["MADE", "have_debian"]

MADE = f"cupola/debian:{RELEASE}"
"""The name of the one that is made here."""
_EPOCH = "1686355200"
"""No file is newer: the day of this Debian's release, so that the same packages make the same files."""
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
)
_KEPT = "/usr/share/doc/*/copyright"


def have_debian(engine: Engine, wanted: str, tell: Callable[[str], None], *, fresh: bool = False) -> str:
    """Return the name of an image with Debian that the engine has; it is pulled or made where it is not there.

    Parameters
    ----------
    engine
        Has it.
    wanted
        The configured name.
    tell
        Gets a line whenever something happens.
    fresh
        Take the newest one, also where there is one already.

    Raises
    ------
    StartError
        If there is none and none can be made.
    UnavailableError
        If the engine does not answer.
    """
    there = engine.image(wanted) is not None
    if there and not fresh:
        return wanted
    if not there and not fresh and engine.image(MADE) is not None:
        return MADE
    tell(f"pulling {wanted}")
    try:
        engine.pull(wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest")
    except UnavailableError as exc:
        if there:
            # It is somebody's own image, which no registry has; it is what they want all the same.
            return wanted
        return _make(engine, wanted, str(exc), tell)
    return wanted


def _make(engine: Engine, wanted: str, reason: str, tell: Callable[[str], None]) -> str:
    """Make the image with mmdebstrap."""
    program = shutil.which("mmdebstrap")
    if program is None:
        raise StartError(
            f"The image {wanted} cannot be pulled ({reason}) and mmdebstrap, which makes one of Debian's packages, "
            "is missing: install it with `sudo apt-get install mmdebstrap`, or name another image as docker.base."
        )
    tell(f"making {MADE} from Debian's packages, since {wanted} cannot be pulled")
    docker = find_docker(engine.host)
    with tempfile.TemporaryDirectory(prefix="cupola-debian-") as name:
        folder = Path(name)
        command = [program, "--variant=minbase", "--format=tar", "--include=ca-certificates"]
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
        command += [f"--dpkgopt=path-include={_KEPT}"]
        # What it takes over from this machine stays here.
        command += [
            '--customize-hook=rm -f "$1"/etc/apt/sources.list.d/* "$1"/etc/resolv.conf "$1"/etc/hostname'
        ]
        if said := debian_sources():
            # Builds bring the sources of this machine along; else mmdebstrap knows Debian's own, which stay in the image.
            sources = folder / "sources.list"
            sources.write_text(said, encoding="utf-8")
            command += ['--customize-hook=: > "$1"/etc/apt/sources.list', RELEASE, "-", str(sources)]
        else:
            command += [RELEASE, "-"]
        _pipe(
            command,
            [docker, "import", "--message=Debian 12 by mmdebstrap", "-", MADE],
            engine_environment(engine.host),
        )
    engine.forget()
    return MADE


def _pipe(maker: list[str], taker: list[str], environment: dict[str, str]) -> None:
    """Give the output of one program to another; both have to succeed."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            maker,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
        ) as first,
        subprocess.Popen(
            taker, stdin=first.stdout, stdout=subprocess.DEVNULL, stderr=said, env=environment
        ) as second,
    ):
        if first.stdout is not None:
            # The taker alone has it, so that the maker hears of it when the taker ends early.
            first.stdout.close()
        codes = (first.wait(), second.wait())
        said.seek(0)
        lines = [line.strip() for line in said if line.strip() and not line.startswith("I:")]
    if any(codes):
        raise StartError(
            f"An image of Debian's packages could not be made: {' | '.join(lines[-3:]) or 'no reason was given'}"
        )
