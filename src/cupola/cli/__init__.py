"""The ``cupola`` command, one file per verb.

A verb is a module beside this one (``sample-data`` lies in ``sample_data.py``) with a function ``register(app)`` that
adds one command of the verb's name::

    def register(app: typer.Typer) -> None:
        app.command("up", epilog="Example: cupola up --port 8080")(up)

A verb's module is imported only when the verb is used or its help is shown, so its own imports on top must be light:
heavy ones belong into the function. A verb raises :class:`~cupola.exceptions.CupolaError` for whatever a person can
mend; nothing else needs to be caught. Options that several verbs take are in :mod:`cupola.cli.options`.

Exit codes: 0 done · 1 it failed (the reason is on stderr) · 2 wrong configuration or command line · 130 interrupted;
``reproduce`` besides: 3 different · 4 inputs are missing or changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from cupola.exceptions import ConfigError, CupolaError

__all__ = ["PANELS", "VERBS", "app", "main"]

VERBS = (
    "up",
    "down",
    "status",
    "check",
    "init",
    "demo",
    "sample-data",
    "build",
    "users",
    "render",
    "run",
    "ps",
    "logs",
    "stop",
    "reproduce",
    "crate",
)
"""All verbs, in the order of the help page."""

PANELS = dict.fromkeys(
    ("run", "ps", "logs", "stop"), "Your jobs, in a session's terminal or from afar"
) | dict.fromkeys(("reproduce", "crate"), "Your products, in a session's terminal")
"""Where the help page shows a verb; the others are for whoever runs the platform."""


class _Verbs(TyperGroup):
    """Imports a verb's module when the verb is asked for."""

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return [verb for verb in VERBS if importlib.util.find_spec(_module(verb))]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        if cmd_name not in self.commands:
            single = typer.Typer(add_completion=False)
            importlib.import_module(_module(cmd_name)).register(single)
            command: Any = typer.main.get_command(single)
            command.name = cmd_name
            command.rich_help_panel = PANELS.get(cmd_name, "The platform")
            self.commands[cmd_name] = command
        return self.commands[cmd_name]


def _module(verb: str) -> str:
    return f"cupola.cli.{verb.replace('-', '_')}"


app = typer.Typer(
    name="cupola",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of all variables could show a secret.
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="Example: cupola up",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cupola {version('cupola')}")
        raise typer.Exit


@app.callback()
def cupola(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Bring the lab to the archive: a science platform that starts with one command."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; this is the program ``cupola``.

    Parameters
    ----------
    arguments
        What follows the program's name; nothing: what this process was started with.

    Raises
    ------
    SystemExit
        Always, with the exit code.
    """
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="cupola")
    except CupolaError as exc:
        typer.echo(str(exc), err=True)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
