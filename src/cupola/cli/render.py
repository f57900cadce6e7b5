"""``cupola render``: files for those who run the platform by other means than ``cupola up`` in a terminal."""

from __future__ import annotations

import os
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cupola.cli.options import ConfigOption, configuration
from cupola.exceptions import InputError, StartError

__all__ = ["compose_file", "register"]


class What(StrEnum):
    """What can be rendered."""

    COMPOSE = "compose"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("render", epilog="Example: cupola render compose --into /srv/cupola")(render)


def render(
    what: Annotated[What, typer.Argument(help="compose: the platform and PostgreSQL as containers.")],
    *,
    into: Annotated[
        Path, typer.Option("--into", help="The folder that the files go into; it is made if need be.")
    ] = Path("cupola-compose"),
    image: Annotated[
        str, typer.Option("--image", help="The name of the platform's image.")
    ] = "cupola/platform",
    config: ConfigOption = None,
) -> None:
    """Write a compose file with the platform and PostgreSQL, and what belongs to it."""
    del what  # there is one so far
    settings = configuration(config)
    if settings.compute.value != "docker":
        raise InputError(
            "The platform in a container starts its sessions in containers too; set `compute: docker` in cupola.yaml."
        )
    folder = into.expanduser().absolute()
    try:
        _write_all(folder, image, settings)
    except OSError as exc:
        raise StartError(f"{exc.filename or folder} cannot be written: {exc.strerror or exc}") from exc
    typer.echo(
        f"{folder / 'compose.yaml'} is written; start it with `docker compose -f {folder / 'compose.yaml'} up -d`."
    )


def _write_all(folder: Path, image: str, settings: Any) -> None:
    import yaml

    private = folder / "secrets"
    private.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = private / "postgres-password"
    if not password.exists():
        # Kept by a second run: PostgreSQL takes it at its first start only.
        _write(password, secrets.token_urlsafe(32), 0o600)
    word = password.read_text(encoding="utf-8").strip()
    _write(private / "database", f"postgresql://cupola:{word}@127.0.0.1:5432/cupola\n", 0o600)
    state = settings.paths.state
    told = settings.model_dump(mode="json", exclude_unset=True)
    told |= {"state": str(state), "database": {"url_file": "/run/secrets/database"}}
    told["docker"] = {**told.get("docker", {}), "host": "unix:///var/run/docker.sock"}
    _write(folder / "cupola.yaml", yaml.safe_dump(told, sort_keys=False, allow_unicode=True), 0o600)
    socket = settings.docker.host.removeprefix("unix://")
    plan = compose_file(image=image, state=state, socket=socket, folder=folder)
    _write(folder / "compose.yaml", yaml.safe_dump(plan, sort_keys=False), 0o644)


def compose_file(*, image: str, state: Path, socket: str, folder: Path) -> dict[str, Any]:
    """Return the compose file.

    Parameters
    ----------
    image
        The platform's image.
    state
        The state folder. It has the same path in the container, since the engine mounts homes from the host.
    socket
        Where the engine listens on the host.
    folder
        Where the compose file lies, with ``cupola.yaml`` and ``secrets``.
    """
    return {
        "name": "cupola",
        "services": {
            "database": {
                "image": "postgres:15",
                "restart": "unless-stopped",
                # The platform is on the host's network: the database is for this machine alone.
                "ports": ["127.0.0.1:5432:5432"],
                "environment": {
                    "POSTGRES_USER": "cupola",
                    "POSTGRES_DB": "cupola",
                    "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres-password",
                },
                "secrets": ["postgres-password"],
                "volumes": ["database:/var/lib/postgresql/data"],
                "healthcheck": {
                    "test": ["CMD-SHELL", "pg_isready -U cupola -d cupola"],
                    "interval": "5s",
                    "timeout": "5s",
                    "retries": 20,
                },
            },
            "platform": {
                "image": image,
                "restart": "unless-stopped",
                # It makes the network of the sessions and its rules on the host, and listens where people come.
                "network_mode": "host",
                "pid": "host",
                "privileged": True,
                "init": True,
                "stop_grace_period": "60s",
                "depends_on": {"database": {"condition": "service_healthy"}},
                "command": ["cupola", "up", "--config", "/etc/cupola/cupola.yaml"],
                "secrets": ["database"],
                "volumes": [
                    f"{folder / 'cupola.yaml'}:/etc/cupola/cupola.yaml:ro",
                    f"{socket}:/var/run/docker.sock",
                    {
                        "type": "bind",
                        "source": str(state),
                        "target": str(state),
                        # What is mounted in it later, buckets and homes, appears on the host and in sessions.
                        "bind": {"propagation": "rshared", "create_host_path": True},
                    },
                ],
            },
        },
        "secrets": {
            "database": {"file": str(folder / "secrets" / "database")},
            "postgres-password": {"file": str(folder / "secrets" / "postgres-password")},
        },
        "volumes": {"database": {}},
    }


def _write(file: Path, text: str, mode: int) -> None:
    """Replace a file as a whole; a secret is never readable for others, not for a moment."""
    aside = file.with_name(f".{file.name}.new")
    aside.unlink(missing_ok=True)
    with os.fdopen(
        os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
    ) as output:
        output.write(text)
    aside.chmod(mode)
    aside.replace(file)
