"""``cupola render``: files for those who run the platform by other means than ``cupola up`` in a terminal."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cupola.cli.options import ConfigOption, configuration
from cupola.exceptions import InputError, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.config import Config

__all__ = ["compose_file", "register"]

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
"""The authorities that this machine trusts: an institution's own may be among them."""
SOCKETS = "/run/postgresql"
"""Where the platform's container finds the database's socket."""
SHORTEST = 2
"""Parts of a path, the root among them, that a folder of the system has: /etc."""
RIGHTS: dict[str, Any] = {
    # Packet filter, mounts, and the processes of other containers.
    "cap_add": ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"],
    # The engine's profile forbids mounts whatever the capabilities say; the labels of SELinux forbid its socket.
    "security_opt": ["apparmor:unconfined", "label:disable"],
    # Mounts of buckets (fuse), homes with a limit (loop, loop-control).
    "device_cgroup_rules": ["c 10:229 rwm", "c 10:237 rwm", "b 7:* rwm"],
}
"""What the platform's container may do. Who has the engine's socket is root on the machine in any case."""


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
    database_image: Annotated[
        str,
        typer.Option("--database-image", help="The name of PostgreSQL's official image, or of one like it."),
    ] = "postgres:15",
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
    if settings.file is not None and folder == settings.file.parent:
        raise InputError(
            f"{folder} holds the cupola.yaml that is read; name another folder with --into, which gets one of its own."
        )
    try:
        _write_all(folder, settings, image=image, database_image=database_image)
    except OSError as exc:
        raise StartError(f"{exc.filename or folder} cannot be written: {exc.strerror or exc}") from exc
    typer.echo(
        f"{folder / 'compose.yaml'} is written; start it with `docker compose -f {folder / 'compose.yaml'} up -d`."
    )


def _write_all(folder: Path, settings: Config, *, image: str, database_image: str) -> None:
    import yaml

    plan = compose_file(settings, folder=folder, image=image, database_image=database_image)
    for place in (folder, *_own(settings), _scratch(settings)):
        place.mkdir(parents=True, exist_ok=True)  # the engine mounts nothing that is not there
    told = settings.model_dump(mode="json", exclude_unset=True)
    # In the container all runs as root, who would be the owner otherwise; the folder beside the file too is another.
    told |= {"state": str(settings.paths.state), "owner": settings.owner}
    told["database"] = {"url_file": str(folder / "database")}
    _write(folder / "database", f"postgresql://cupola@/cupola?host={SOCKETS}\n", 0o600)
    _write(folder / "cupola.yaml", yaml.safe_dump(told, sort_keys=False, allow_unicode=True), 0o600)
    # Compose would take what follows a dollar sign, in a path, for a variable.
    _write(folder / "compose.yaml", yaml.safe_dump(plan, sort_keys=False).replace("$", "$$"), 0o644)


def compose_file(settings: Config, *, folder: Path, image: str, database_image: str) -> dict[str, Any]:
    """Return the compose file.

    It is read by docker-compose 1.29 of Debian 12 as by newer ones, so it has no ``name`` of its own.

    Parameters
    ----------
    settings
        The configuration.
    folder
        Where the compose file lies, with ``cupola.yaml``.
    image, database_image
        The images of the platform and of PostgreSQL.
    """
    return {
        "services": {
            "database": _database(database_image),
            "platform": _platform(settings, folder=folder, image=image),
        },
        "volumes": {"database": {}, "database-socket": {}},
    }


def _database(image: str) -> dict[str, Any]:
    return {
        "image": image,
        "restart": "unless-stopped",
        # Only who has its socket reaches it: the platform's container. So it takes no password, and no port of this machine.
        "network_mode": "none",
        "environment": {
            "POSTGRES_USER": "cupola",
            "POSTGRES_DB": "cupola",
            "POSTGRES_HOST_AUTH_METHOD": "trust",
        },
        "volumes": ["database:/var/lib/postgresql/data", "database-socket:/var/run/postgresql"],
        "healthcheck": {
            # While it sets itself up, another server answers, started by a script.
            "test": ["CMD-SHELL", "grep -qx postgres /proc/1/comm && pg_isready -q -U cupola -d cupola"],
            "interval": "2s",
            "timeout": "5s",
            "retries": 60,
        },
    }


def _platform(settings: Config, *, folder: Path, image: str) -> dict[str, Any]:
    socket = settings.docker.host.removeprefix("unix://")
    secrets = [
        method.client_secret_variable for method in settings.sign_in.methods if method.client_secret_variable
    ]
    return {
        "image": image,
        **_build(settings),
        "restart": "unless-stopped",
        # It makes the network of the sessions and its rules on the host, listens where people come, mounts their
        # volumes and looks at the processes of their containers.
        "network_mode": "host",
        "pid": "host",
        **RIGHTS,
        "stop_grace_period": "120s",
        "depends_on": {"database": {"condition": "service_healthy"}},
        "environment": {
            "CUPOLA_CONFIG": str(folder / "cupola.yaml"),
            # Some of it is handed to other containers: it has to be on the host, by the same path.
            "TMPDIR": str(_scratch(settings)),
            # Without a value it is that of whoever runs compose.
            **dict.fromkeys(secrets),
        },
        "volumes": [
            f"database-socket:{SOCKETS}",
            f"{socket}:{socket}",
            "/dev:/dev",
            "/sys/fs/cgroup:/sys/fs/cgroup:ro",
            *([f"{BUNDLE}:{BUNDLE}:ro"] if BUNDLE.is_file() else []),
            *_places(settings, folder),
        ],
    }


def _build(settings: Config) -> dict[str, Any]:
    """Return how the image is made, in a checkout; elsewhere it has to be there."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / "deploy" / "Dockerfile").is_file():
        return {}
    return {
        "build": {
            "context": str(checkout),
            "dockerfile": "deploy/Dockerfile",
            "network": "host",
            "args": {"BASE": settings.docker.base},
        }
    }


def _bind(place: Path, *, writable: bool, propagation: str) -> dict[str, Any]:
    """Return how a place of the host is seen in the container: by its own path, which the engine too is told."""
    return {
        "type": "bind",
        "source": str(place),
        "target": str(place),
        **({} if writable else {"read_only": True}),
        # Where nothing is mounted later, the engine decides: it knows better if its own data lie there.
        **({"bind": {"propagation": propagation}} if propagation else {}),
    }


def _places(settings: Config, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the places of the host that the platform works with."""
    # What the platform mounts among state and homes appears on the host, and so in sessions.
    spread = {settings.paths.state, settings.folders.homes}
    found = {place: (True, "rshared" if place in spread else "") for place in _own(settings)}
    # An export that the host mounts later is seen then.
    found |= {
        volume.path: (volume.access == "write", "rslave")
        for volume in settings.volumes
        if volume.path is not None
    }
    read = {folder, *settings.datalabs}
    for file in _files(settings):
        # With its folder: a file that is replaced as a whole would stay the old one in the container. A folder such as
        # /etc would hide the container's own.
        read |= {
            place.parent if len(place.parent.parts) > SHORTEST else place for place in (file, file.resolve())
        }
    found = dict.fromkeys(read, (False, "")) | found
    for place, (writable, propagation) in sorted(found.items()):
        yield _bind(place, writable=writable, propagation=propagation)


def _own(settings: Config) -> list[Path]:
    """Return the folders that are the platform's own."""
    folders = settings.folders
    others = [place for place in (folders.environments, folders.images, folders.homes) if place]
    return [settings.paths.state, *others]


def _scratch(settings: Config) -> Path:
    """Return the folder for temporary files."""
    return settings.paths.state / "tmp"


def _files(settings: Config) -> Iterator[Path]:
    """Yield the single files that the configuration names."""
    server, sign_in = settings.server, settings.sign_in
    yield from filter(None, (server.certificate, server.certificate_key, sign_in.allow_list))
    yield from (method.client_secret_file for method in sign_in.methods if method.client_secret_file)
    for volume in settings.volumes:
        if volume.bucket is not None and volume.bucket.keys is not None:
            yield volume.bucket.keys


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
