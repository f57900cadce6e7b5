"""``cupola stop``: end jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from cupola.exceptions import CupolaError

__all__ = ["register", "stop"]

FAILED = 1

JobsArgument = Annotated[
    list[str], typer.Argument(metavar="JOB...", help="Their ids or names.", show_default=False)
]


def stop(names: JobsArgument) -> None:
    """End jobs; results that are there stay, and a retry computes the rest."""
    from cupola.lab import jobs

    failed = False
    for name in names:
        try:
            job = jobs.job(name).cancel()
        except CupolaError as exc:
            typer.echo(str(exc), err=True)
            failed = True
        else:
            typer.echo(repr(job))
    if failed:
        raise typer.Exit(FAILED)


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("stop", epilog="Example: cupola stop ndvi")(stop)
