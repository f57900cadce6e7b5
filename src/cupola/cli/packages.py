"""``cupola packages``: what you installed in your sessions, and the way of it to another version."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cupola.cli.options import JsonOption

__all__ = ["register"]


class Deed(StrEnum):
    """What can be done with packages."""

    LIST = "list"
    PLAN = "plan"
    RESTORE = "restore"
    DISMISS = "dismiss"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("packages", epilog="Example: cupola packages restore")(packages)


def packages(
    deed: Annotated[
        Deed,
        typer.Argument(
            help="list: what you installed here; plan: what would become of what you installed on another version; "
            "restore: install it here; dismiss: do without and be asked no more."
        ),
    ] = Deed.LIST,
    *,
    json: JsonOption = False,
) -> None:
    """Show what you installed in this session, or install again what you had on another version."""
    from cupola.lab.packages import Packages, report

    here = Packages.here()
    if deed is Deed.LIST:
        lock = here.record()
        found = lock.packages if lock else []
        typer.echo(
            lock.model_dump_json() if json and lock else "\n".join(f"{p.name} {p.version}" for p in found)
        )
        return
    if deed is Deed.DISMISS:
        here.dismiss()
        return
    plan = here.plan() if deed is Deed.PLAN else here.restore(lambda line: typer.echo(line, err=True))
    if plan is None:
        typer.echo(
            "{}" if json else "There is nothing to restore: what you installed on other versions is settled."
        )
        return
    typer.echo(plan.model_dump_json() if json else "\n".join(report(plan, done=deed is Deed.RESTORE)))
