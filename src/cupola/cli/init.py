"""``cupola init``: write a commented configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cupola.exceptions import ConflictError, StartError

__all__ = ["init", "register"]


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("init", epilog="Example: cupola init")(init)


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("cupola.yaml"),
) -> None:
    """Write a commented `cupola.yaml` that explains every setting. It never overwrites a file."""
    from cupola.config.template import template

    text = template()
    try:
        stream = file.expanduser().open("x", encoding="utf-8")
    except FileExistsError as exc:
        raise ConflictError(
            f"{file} exists already; edit it, or name another file: cupola init FILE"
        ) from exc
    except OSError as exc:
        raise StartError(f"{file} cannot be written: {exc.strerror}; name a file elsewhere") from exc
    try:
        with stream:
            stream.write(text)
    except OSError as exc:
        # A full disk: half a configuration is worse than none.
        file.expanduser().unlink(missing_ok=True)
        raise StartError(f"{file} cannot be written: {exc.strerror}; make room and try again") from exc
    typer.echo(f"{file} written; edit it, then: cupola check")
