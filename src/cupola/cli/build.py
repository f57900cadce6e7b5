"""``cupola build``: make the images of datalabs (or their locked environments), check and register them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cupola.cli.options import ConfigOption, JsonOption, StateOption, configuration

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["build", "register"]


def build(  # noqa: PLR0913 - the options of a command line
    names: Annotated[
        list[str] | None, typer.Argument(help="Which datalabs; none: those that `cupola up` builds.")
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Whether to run each datalab's own check inside.")
    ] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Take the newest Debian packages and nothing of earlier builds.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Build images."""
    from cupola.cli.up import Screen
    from cupola.platform.storage.docker.building import image_builder

    settings = configuration(config, state)
    screen = Screen(Console())
    builder = image_builder(settings)
    for name in names or ["lab"]:
        with screen.step(f"Building {name}") as tell:
            built = builder.build(name, tell, check=check, fresh=fresh)
        screen.line(built.version.model_dump_json())


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("build", epilog="Example: cupola build lab")(build)
