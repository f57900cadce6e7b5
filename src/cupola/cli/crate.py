"""``cupola crate``: describe products for an archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cupola.cli.options import JsonOption

__all__ = ["crate", "register"]

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of products, such as ~/products/ndvi.")
]
LicenceOption = Annotated[
    str,
    typer.Option(
        "--licence",
        help="Address of the licence, such as https://spdx.org/licenses/CC-BY-4.0.",
        show_default=False,
    ),
]
AuthorOption = Annotated[
    str,
    typer.Option("--author", help="Who publishes it. Nothing: who made the products.", show_default=False),
]


def crate(
    folder: FolderArgument,
    *,
    licence: LicenceOption = "",
    author: AuthorOption = "",
    as_json: JsonOption = False,
) -> None:
    """Describe a folder of products as an RO-Crate, which archives take: every file, and how it was made."""
    from cupola.lab.chains.products.crate import write_crate

    path = write_crate(folder.expanduser(), licence=licence or None, author=author or None)
    typer.echo(json.dumps({"crate": str(path)}) if as_json else str(path))


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("crate", epilog="Example: cupola crate ~/products/ndvi-february")(crate)
