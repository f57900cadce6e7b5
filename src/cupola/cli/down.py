"""``cupola down``: stop the platform of a state folder."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Annotated

import psutil
import typer

from cupola.cli.options import ConfigOption, StateOption, configuration
from cupola.exceptions import StartError

if TYPE_CHECKING:
    from cupola.config import StatePaths
    from cupola.hub.platform import Living

__all__ = ["down", "register"]

INTERRUPTED = 130
STOP_SECONDS = 90
"""Sessions may take ten seconds each to save and end."""


InOption = Annotated[
    str,
    typer.Option(
        "--in",
        metavar="TIME",
        help="Not at once, but after a time such as '10 min': everybody is warned, and sessions are hibernated.",
        show_default=False,
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="What people are told, with --in.", show_default=False)
]


def down(
    config: ConfigOption = None, state: StateOption = None, later: InOption = "", reason: ReasonOption = ""
) -> None:
    """Stop the platform with all its sessions, and wait until it is stopped.

    Running jobs go on at the next start. Nothing happens where nothing runs.
    """
    from cupola.hub.platform import Living
    from cupola.hub.shutdown import Leftovers

    paths = configuration(config, state).paths
    living = Living.find(paths)
    if living and later:
        _announce(living, paths, later, reason)
    if living:
        _ask(living)
    left = Leftovers.find(paths)
    if left:
        # Its supervisor was killed, now or earlier: what it started is ours to end.
        left.stop(typer.echo)
    if living or left:
        typer.echo(f"Stopped the platform in {paths.state}.")
    else:
        typer.echo(f"Nothing runs in {paths.state}.")


def _announce(living: Living, paths: StatePaths, later: str, reason: str) -> None:
    """Warn everybody and wait; Ctrl-C leaves the platform running."""
    from cupola.cli.announce import Announcement, wait_for_it
    from cupola.lab.jobs.options import seconds

    wait = seconds(later)
    try:
        wait_for_it(living, Announcement(paths), wait, reason)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _ask(living: Living) -> None:
    """Ask the living `cupola up` to stop everything, and wait for it."""
    process = living.process.find()
    if process is None:
        return
    typer.echo(f"Stopping the platform at {living.address}")
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as exc:
        raise StartError(
            f"the platform belongs to another account (process {living.process.pid}); "
            "run `cupola down` as the account that started it"
        ) from exc
    until = time.monotonic() + STOP_SECONDS
    while living.process.alive:
        if time.monotonic() > until:
            raise StartError(
                f"the platform did not stop within {STOP_SECONDS} s; end process {living.process.pid} yourself, "
                "then run `cupola down` again"
            )
        time.sleep(0.1)


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("down", epilog="Example: cupola down --in '10 min'")(down)
