"""The command ``cupola`` inside a session: your jobs, what you installed, and how full your home is.

The overlay's ``bin/cupola`` runs it; the command of the same name outside of sessions is :mod:`cupola.cli`, which has the
verbs of jobs here too.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

DEEDS = {
    "list": "what you installed on this version",
    "plan": "what would become of what you installed on another version",
    "restore": "install that here",
    "dismiss": "do without it and be asked no more",
}
JOBS = {
    "run": "a function of a Python file, or any program, over many files as a job",
    "ps": "your jobs",
    "logs": "what a job's program printed",
    "stop": "end jobs",
    "reproduce": "a product once more, and whether it is the same",
    "crate": "a folder of products as an RO-Crate",
}
"""Verbs of `cupola.cli`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb. Returns the exit code: 0 done, 1 it failed (the reason is on stderr)."""
    said = list(sys.argv[1:] if arguments is None else arguments)
    if said and said[0] in JOBS:
        # In a process of its own: the lab does not know the command line, which stands above it.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "cupola.cli", *said])  # noqa: S606 - that is meant
    parser = argparse.ArgumentParser(prog="cupola", description="Cupola, inside a session.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, what in JOBS.items():
        verbs.add_parser(verb, help=what)
    verbs.add_parser("storage", help="how full your home and your teams' volumes are")
    packages = verbs.add_parser(
        "packages",
        help="what you installed, and the way of it to another version",
        epilog="Example: cupola packages restore",
    )
    told = "; ".join(f"{deed}: {what}" for deed, what in DEEDS.items())
    packages.add_argument("deed", nargs="?", choices=list(DEEDS), default="list", help=told)
    wish = parser.parse_args(said)
    try:
        return _storage() if wish.verb == "storage" else _packages(wish.deed)
    except CupolaError as exc:
        sys.stderr.write(f"{exc}\n")
    except OSError as exc:
        sys.stderr.write(f"{exc.filename or 'your home'} cannot be written: {exc.strerror or exc}\n")
    return 1


def _storage() -> int:
    from cupola.lab.storage import storage

    _say(repr(storage()))
    return 0


def _packages(deed: str) -> int:
    from cupola.lab.packages import Packages, report

    here = Packages.here()
    if deed == "list":
        lock = here.record()
        for package in lock.packages if lock else []:
            _say(f"{package.name} {package.version}")
        return 0
    if deed == "dismiss":
        here.dismiss()
        return 0
    plan = here.plan() if deed == "plan" else here.restore(_tell)
    lines = report(plan, done=deed == "restore") if plan else ["There is nothing to restore."]
    for line in lines:
        _say(line)
    return 0


def _tell(text: str) -> None:
    """Say a step of the work, apart from the result."""
    sys.stderr.write(f"{text}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
