"""Options that several verbs take, and what they do to the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["ConfigOption", "JsonOption", "PortOption", "StateOption", "configuration"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file. Nothing: cupola.yaml in this folder, if there is one.",
        show_default=False,
    ),
]
"""``--config FILE``."""

StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="The state folder, instead of the configured one.", show_default=False),
]
"""``--state FOLDER``."""

PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=1,
        max=65535,
        help="The port to listen on, instead of the configured one.",
        show_default=False,
    ),
]
"""``--port NUMBER``."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
"""``--json``."""


def configuration(config: Path | None = None, state: Path | None = None, port: int | None = None) -> Config:
    """Return the configuration as the options of a verb ask for it.

    The options go into this process's environment (``CUPOLA_CONFIG``, ``CUPOLA_STATE``, ``CUPOLA_PORT``), so that
    what it starts reads the same configuration.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    """
    from cupola.config import load

    if state is not None:
        os.environ["CUPOLA_STATE"] = str(state.expanduser().absolute())
    if port is not None:
        os.environ["CUPOLA_PORT"] = str(port)
    result = load(config)
    if result.file is not None:
        os.environ["CUPOLA_CONFIG"] = str(result.file)
    return result
