"""``cupola ps``: your jobs."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated

import typer

from cupola.cli.options import JsonOption

__all__ = ["ps", "register"]

MOST = 1000

AllOption = Annotated[bool, typer.Option("--all", "-a", help="Ended jobs too.")]


def ps(*, everything: AllOption = False, as_json: JsonOption = False) -> None:
    """Show your jobs that run or wait, the newest first."""
    from cupola.lab.jobs.listing import HEADINGS, all_jobs, row, table
    from cupola.lab.jobs.start import client

    # The newest thousand: among them are the active ones of anybody's.
    found = [job for job in islice(all_jobs(client()), MOST) if everything or job.state.active]
    if as_json:
        typer.echo(json.dumps({"jobs": [job.model_dump(mode="json") for job in found]}))
    elif found:
        typer.echo(table([[heading.upper() for heading in HEADINGS], *map(row, found)]))
    else:
        typer.echo(
            "You have no jobs yet."
            if everything
            else "No job of yours runs or waits: --all shows ended ones."
        )


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("ps", epilog="Example: cupola ps --all")(ps)
