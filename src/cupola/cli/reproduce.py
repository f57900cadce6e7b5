"""``cupola reproduce``: make products again and compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cupola.cli.options import JsonOption
from cupola.exceptions import InputError

__all__ = ["register", "reproduce"]

_ABOUT_ALL = frozenset({"collection.json", "ro-crate-metadata.json"})
"""Documents beside products that are none."""
CODES = {"identical": 0, "different": 3, "inputs-changed": 4}

ItemsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="ITEM...", help="STAC items of products, their files beside them, or folders of products."
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Keep what is made again here; for one item.", show_default=False),
]
AnywayOption = Annotated[bool, typer.Option("--anyway", help="Even where inputs are missing or changed.")]
HereOption = Annotated[
    bool, typer.Option("--here", help="In this process, whatever version made the product.")
]


def reproduce(
    items: ItemsArgument,
    *,
    folder: FolderOption = None,
    anyway: AnywayOption = False,
    here: HereOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make products again as their items say, and compare them pixel by pixel.

    The files that a product was made from are looked at first. In a session it is made by the version of the datalab that
    made it. Exit codes: 0 identical, 1 it failed, 2 wrong command line, 3 different, 4 inputs are missing or changed.
    """
    products = [product for item in items for product in _products(item.expanduser(), alone=len(items) == 1)]
    if not products:
        raise InputError("None of these is a product: name the .json of one, or its file beside it.")
    if folder is not None and len(products) > 1:
        raise InputError("--folder is for one item: leave it out, or name one item.")
    from cupola.lab.chains.runs.reproduce import reproduce as again
    from cupola.lab.chains.runs.reproduce import worst

    reports = []
    for product in products:
        report = again(product, folder=folder, anyway=anyway, here=here)
        reports.append(report)
        if not as_json:
            typer.echo(str(report))
    state = worst(reports)
    if as_json:
        typer.echo(json.dumps({"state": state, "products": [report.to_json() for report in reports]}))
    raise typer.Exit(CODES[state])


def _products(path: Path, *, alone: bool) -> list[Path]:
    """Return the products that a word of the command line stands for.

    Raises
    ------
    InputError
        When a folder has none.
    """
    if path.is_dir():
        found = [item for item in sorted(path.glob("*.json")) if item.name not in _ABOUT_ALL]
        if not found:
            raise InputError(
                f"The folder {path} holds no products: name one that a run wrote, such as ~/products/NAME."
            )
        return found
    # A shell's `FOLDER/*.json` also names what is said of all products together.
    return [] if path.name in _ABOUT_ALL and not alone else [path]


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command(
        "reproduce",
        no_args_is_help=True,
        epilog="Example: cupola reproduce ~/products/ndvi-february/S2A_29RKH_20200219.json",
    )(reproduce)
