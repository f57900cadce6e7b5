"""``cupola build``: make, check and register versions of datalabs, and look after them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cupola.cli.options import ConfigOption, JsonOption, StateOption, configuration
from cupola.exceptions import CupolaError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import Config
    from cupola.models.datalab import Datalab
    from cupola.platform.services.datalabs.builds import BuildService, Kept
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.storage.docker.images import ImageStore
    from cupola.platform.storage.environments import BuiltVersion, EnvironmentStore

__all__ = ["build", "register"]

KEEP = 3
GIB, MIB = 2**30, 2**20


def build(  # noqa: PLR0913 - the options of a command line
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Which datalabs; none: all but those that are built on request.", show_default=False
        ),
    ] = None,
    *,
    listing: Annotated[bool, typer.Option("--list", help="Show the datalabs with their versions.")] = False,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Whether to run each datalab's own check inside.")
    ] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Take the newest Debian packages and nothing of earlier builds.")
    ] = False,
    recommend: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--recommend",
            metavar="NAME VERSION",
            help="Mark the version that one click starts; `newest` takes the mark away.",
            show_default=False,
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove old versions that no session and no job was made with.")
    ] = False,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="How many versions of each datalab --prune leaves.")
    ] = KEEP,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Build datalabs: make the image (or the locked environment) of each, check it, register it as a version.

    What is there already is not built again. A version that a session or a job was made with is never removed.
    """
    settings = configuration(config, state)
    asked = [bool(names), listing, recommend is not None, prune]
    if sum(asked) > 1:
        raise typer.BadParameter("names, --list, --recommend and --prune go one at a time")
    # What is under way is ended with its containers and folders, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if background:
        os.nice(19)
    care = _Care(settings)
    screen = Console(stderr=as_json)
    if listing:
        _show(asyncio.run(care.catalogue.datalabs()), as_json=as_json)
    elif recommend is not None:
        version = asyncio.run(care.builds.recommend(*recommend))
        screen.print(
            f"One click on {recommend[0]} starts {version.label if version else 'its newest version'}."
        )
    elif prune:
        _show_kept(asyncio.run(care.prune(keep)), as_json=as_json)
    else:
        _build(settings, care, names or care.names(), screen, check=check, fresh=fresh, as_json=as_json)


class _Care:
    """What the platform with this configuration has of versions."""

    def __init__(self, config: Config) -> None:
        from cupola.config import Compute, environments_source
        from cupola.platform.services.datalabs.builds import BuildService
        from cupola.platform.services.datalabs.catalogue import CatalogueService
        from cupola.platform.storage.docker.engine import Engine
        from cupola.platform.storage.docker.images import ImageStore
        from cupola.platform.storage.environments import EnvironmentStore
        from cupola.platform.storage.files.datalabs import DatalabFolder

        self.config = config
        self.containers = config.compute is Compute.DOCKER
        self.folder = DatalabFolder.of(config)
        self.store: ImageStore | EnvironmentStore = (
            ImageStore(config.paths.images, Engine(config.docker.host))
            if self.containers
            else EnvironmentStore(config.paths.environments, environments_source(), config.datalabs)
        )
        self.catalogue: CatalogueService = CatalogueService(
            folder=self.folder, versions=self.store, compute=config.compute
        )
        self.builds: BuildService = BuildService(catalogue=self.catalogue, versions=self.store)

    def names(self) -> list[str]:
        """Return what is built without being named; the Lab first."""
        from cupola.models.datalab import BuildWhen

        wanted = [
            datalab.name
            for datalab in self.folder.datalabs()
            if not datalab.unavailable and datalab.build is BuildWhen.ALWAYS and self._has_recipe(datalab)
        ]
        return sorted(wanted, key=lambda name: (name != "lab", name))

    def _has_recipe(self, datalab: Datalab) -> bool:
        from cupola.models.datalab import DatalabKind

        place = self.folder.place(datalab.name)
        fits = self.containers or datalab.kind is DatalabKind.JUPYTERLAB
        return fits and place is not None and (place / self.recipe).is_file()

    @property
    def recipe(self) -> str:
        """The file that says how a datalab is built here."""
        return "Dockerfile" if self.containers else "requirements.lock"

    async def prune(self, keep: int) -> list[Kept]:
        """Remove old versions."""
        from cupola.platform.storage.database.connection import Database
        from cupola.platform.storage.database.versions import VersionUses

        used: set[str] = set()
        if self.config.database.url_file or self.config.paths.portal_database.exists():
            database = Database.of(self.config)
            try:
                await database.migrate()
                used = await VersionUses(database).in_use()
            finally:
                await database.aclose()
        return await self.builds.prune(used, keep=keep)


def _build(  # noqa: PLR0913 - each by its name
    config: Config,
    care: _Care,
    names: list[str],
    console: Console,
    *,
    check: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Build one after the other; one that fails does not stop the others."""
    from cupola.cli.up import Screen

    screen = Screen(console)
    builder = _builder(config, care, check=check, fresh=fresh)
    built: dict[str, Any] = {}
    wrong = []
    for name in names:
        try:
            with screen.step(f"Building {name}") as tell:
                version = builder(name, tell).version
        except CupolaError as exc:
            if len(names) == 1:
                raise
            wrong.append(str(exc))
            screen.line(str(exc))
            continue
        built[name] = version.model_dump(mode="json")
        screen.line(f"{name} {version.label}, {_size(version.size_bytes)}, {version.digest[7:19]}")
    if as_json:
        print(json.dumps({"built": built, "failed": wrong}))
    if wrong:
        raise StartError(f"{len(wrong)} of {len(names)} datalabs could not be built, see above.")


def _builder(
    config: Config, care: _Care, *, check: bool, fresh: bool
) -> Callable[[str, Callable[[str], None]], BuiltVersion]:
    """Return what builds one datalab."""
    if care.containers:
        from cupola.platform.storage.docker.building import image_builder

        images = image_builder(config)
        return lambda name, tell: images.build(name, tell, check=check, fresh=fresh)
    from cupola.platform.storage.environments import EnvironmentStore

    store = care.store
    if not isinstance(store, EnvironmentStore):  # the driver says which it is
        raise TypeError(store)
    return store.build


def _show(datalabs: list[Datalab], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([datalab.model_dump(mode="json") for datalab in datalabs]))
        return
    for datalab in datalabs:
        print(
            f"{datalab.name}: {datalab.title}" + (f" - {datalab.unavailable}" if datalab.unavailable else "")
        )
        for version in datalab.versions:
            marks = [
                *(["recommended"] if version.digest == datalab.recommended else []),
                *([] if version.ready else ["not on this machine"]),
                *([] if version.verified else ["not checked"]),
            ]
            line = f"  {version.label:14} {version.digest[7:19]}  {version.created:%Y-%m-%d %H:%M}"
            print(f"{line}  {_size(version.size_bytes):>9}  {', '.join(marks)}".rstrip())


def _show_kept(kept: list[Kept], *, as_json: bool) -> None:
    if as_json:
        answer = [{"datalab": one.datalab, "version": one.version.label, "kept": one.why} for one in kept]
        print(json.dumps(answer))
        return
    for one in kept:
        print(f"{one.datalab} {one.version.label}: {'removed' if one.why is None else 'stays, ' + one.why}")


def _size(size: int | None) -> str:
    if size is None:
        return "? MiB"
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("build", epilog="Example: cupola build lab topcat")(build)
