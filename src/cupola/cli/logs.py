"""``cupola logs``: what a job's program printed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cupola.lab.jobs.handle import Job

__all__ = ["JobArgument", "logs", "register"]

PAUSE_S = 1.0
"""Between two looks."""
OVERLAP = 500
"""So much of the end of what was shown finds its place again in a log of which only the last part is sent."""

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Its id or its name.", show_default=False)]
InputArgument = Annotated[
    int | None,
    typer.Argument(
        metavar="[INPUT]",
        help="Number of the input, from 0. Nothing: the first one that failed, else 0.",
        show_default=False,
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Show what comes, until the job has ended.")
]


def logs(job: JobArgument, number: InputArgument = None, *, follow: FollowOption = False) -> None:
    """Show what the task printed that computes an input."""
    from cupola.lab import jobs

    found = jobs.job(job)
    if number is None:
        number = _first(found)
    shown = ""
    while True:
        # Asked before the log is read: what was printed until the end is then in it.
        active = follow and found.refresh().state.active
        text = found.logs(number)
        typer.echo(_news(shown, text), nl=False)
        shown = text
        if not active:
            return
        time.sleep(PAUSE_S)


def _first(job: Job) -> int:
    """Return the input whose log is shown where none is named, and say which."""
    state = job.refresh()
    failed = job.failures() if state.counts.failed else []
    number = min((group.example.input for group in failed), default=0)
    if state.counts.inputs > 1:
        why = " (it failed)" if failed else ""
        typer.echo(f"{job!r}. This is the log of input {number}{why}:", err=True)
    return number


def _news(shown: str, text: str) -> str:
    """Return the part of `text` that came after `shown`."""
    if text.startswith(shown):
        return text[len(shown) :]
    place = text.rfind(shown[-OVERLAP:])
    return text[place + len(shown[-OVERLAP:]) :] if place >= 0 else text


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("logs", epilog="Example: cupola logs ndvi 3 --follow")(logs)
