"""``cupola status``: what runs, and a new sign-in link."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cupola.cli.options import ConfigOption, JsonOption, StateOption, configuration
from cupola.exceptions import UnavailableError

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["register", "status"]

NOT_RUNNING = 1

LinkOption = Annotated[
    bool, typer.Option("--link", help="Make a new one-time sign-in link, and print only that.")
]


def status(
    config: ConfigOption = None,
    state: StateOption = None,
    *,
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what runs. The exit code is 0 where the platform runs, else 1."""
    settings = configuration(config, state)
    found = _look(settings)
    if link:
        typer.echo(_new_link(settings, found))
        return
    typer.echo(json.dumps(found) if as_json else "\n".join(_lines(found)))
    if not found["running"]:
        raise typer.Exit(NOT_RUNNING)


def _look(config: Config) -> dict[str, Any]:
    """Return what runs in the state folder."""
    from cupola.hub.platform import Living
    from cupola.hub.shutdown import Leftovers

    living, parts = Living.find(config.paths), Leftovers.find(config.paths)
    return {
        "running": living is not None and living.ready,
        "state": str(config.paths.state),
        "address": living.address if living else None,
        "pid": living.process.pid if living else None,
        "started": living.started.isoformat() if living else None,
        "hub": parts.hub is not None,
        "proxy": parts.proxy is not None,
        "sessions": [*parts.sessions, *(found.session for found in parts.containers if not found.job)],
        "running_jobs": len(parts.pools) + sum(found.job for found in parts.containers),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    if found["pid"] is None:
        lines = [f"Cupola does not run in {found['state']}; start it with `cupola up`."]
        left = [part for part in ("hub", "proxy") if found[part]]
        left += [f"session {session}" for session in found["sessions"]]
        if left or found["running_jobs"]:
            what = ", ".join(left) or f"{found['running_jobs']} job(s)"
            lines.append(
                f"Its supervisor was killed, but these still run: {what}; "
                "`cupola up` takes them over, `cupola down` ends them."
            )
        return lines
    lived = datetime.now(UTC) - datetime.fromisoformat(found["started"])
    word = "runs" if found["running"] else "is starting"
    minutes = int(lived.total_seconds() // 60)
    return [
        f"Cupola {word} at {found['address']} (process {found['pid']}, for {minutes // 60} h {minutes % 60} min)",
        f"State     {found['state']}",
        f"Hub       {'runs' if found['hub'] else 'does not run; it is being started again'}",
        f"Proxy     {'runs' if found['proxy'] else 'does not run; it is being started again'}",
        f"Sessions  {', '.join(found['sessions']) or 'none'}",
        f"Jobs      {found['running_jobs'] or 'none'}",
    ]


def _new_link(config: Config, found: dict[str, Any]) -> str:
    """Make a link and return it."""
    from cupola.cli.up import sign_in_link
    from cupola.hub.links import Links

    if found["address"] is None:
        raise UnavailableError(
            f"Cupola does not run in {found['state']}; `cupola up` starts it and prints a link."
        )
    try:
        token = Links(config.paths.links).create(config.owner)
    except OSError as exc:
        raise UnavailableError(
            f"no link can be made in {config.paths.links}: {exc.strerror}; "
            "run this as the account that started the platform"
        ) from exc
    # The address it runs at, which `cupola up --port` may have chosen.
    return str(found["address"]) + sign_in_link(config, token).removeprefix(config.address)


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("status", epilog="Example: cupola status --link")(status)
