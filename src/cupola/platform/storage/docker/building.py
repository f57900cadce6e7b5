"""Building images of datalabs: from a folder with a Dockerfile to a registered version.

What an image is made of is written on it as a label, so that nothing is built twice: a build that was killed after the
engine had the image goes on with the check.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import NotFoundError, StartError
from cupola.models.base import now
from cupola.models.datalab import Version
from cupola.platform.storage.docker.command import DockerCommand, find_docker
from cupola.platform.storage.docker.debian import have_debian
from cupola.platform.storage.docker.engine import LABEL_DATALAB, LABEL_RECIPE, Engine, Image
from cupola.platform.storage.docker.host import write_host
from cupola.platform.storage.docker.images import PYTHON, ImageStore
from cupola.platform.storage.docker.recipe import read_recipe
from cupola.platform.storage.docker.sbom import write_sbom
from cupola.platform.storage.docker.verify import LABEL_BUILD, verify
from cupola.platform.storage.environments.locks import alone
from cupola.platform.storage.environments.store import BuiltVersion
from cupola.platform.storage.files.datalabs import DatalabFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cupola.config import Config
    from cupola.models.datalab import Datalab
    from cupola.platform.storage.docker.recipe import Recipe

__all__ = ["ImageBuilder", "command_inside", "image_builder", "prepare"]

LAB = "lab"
"""The datalab that a platform builds before its start, so that the first click finds it."""
DEBIAN = "DEBIAN"
"""The argument that gets the image of the distribution."""


class ImageBuilder:
    """Builds the images of one platform.

    Parameters
    ----------
    store
        Where versions are registered.
    datalabs
        The folders they are made from.
    debian
        Name of the image of Debian that all begin with.
    registry
        Where versions are put too, if anywhere.
    """

    def __init__(
        self, *, store: ImageStore, datalabs: DatalabFolder, debian: str, registry: str | None = None
    ) -> None:
        self.store = store
        self._datalabs = datalabs
        self._debian = debian
        self._names = registry or "cupola"
        self._push = registry is not None
        self._engine = store.engine
        self._docker = DockerCommand(store.engine.host)
        self._key = hashlib.sha256(str(store.folder.absolute()).encode()).hexdigest()[:12]

    def wanted(self, name: str) -> str:
        """Return the digest of the recipe that :meth:`build` would follow now.

        Raises
        ------
        NotFoundError
            No such folder, or one without a recipe.
        """
        return self._digest(self._recipe(name))

    def built(self, name: str) -> BuiltVersion | None:
        """Return the registered version that belongs to the present recipe, if the engine has it.

        Raises
        ------
        NotFoundError, UnavailableError
            No such recipe; no engine.
        """
        image = self._made(name, self.wanted(name))
        registered = {built.version.digest: built for built in self.store.versions(name)}
        return registered.get(image.id) if image else None

    def build(
        self, name: str, tell: Callable[[str], None], *, check: bool = True, fresh: bool = False
    ) -> BuiltVersion:
        """Return the version of a datalab that belongs to its present recipe; build, check and register it first.

        Of two that build at once, the second waits for the first.

        Parameters
        ----------
        name
            Of the datalab.
        tell
            Gets a line whenever something happens.
        check
            Run its ``verify`` inside; without that the version counts as not verified.
        fresh
            Take the newest packages of Debian and nothing of earlier builds.

        Raises
        ------
        NotFoundError
            No such datalab, or one without a recipe.
        StartError
            It cannot be built, or does not pass its check.
        UnavailableError
            No engine answers.
        """
        datalab = self._datalabs.datalab(name)
        if datalab is None:
            raise NotFoundError(f"There is no datalab {name!r}: `cupola build --list` shows which there are.")
        if datalab.unavailable:
            raise StartError(f"{datalab.title} cannot be built: {datalab.unavailable}")
        folder = self.store.folder / name
        try:
            with (
                alone(self.store.folder / ".lock", lambda: tell("waiting for another build")),
                alone(folder / ".building", lambda: None),
                self._work_folder() as work,
            ):
                log = folder / "build.log"
                log.write_bytes(b"")
                image = self._image(name, tell, work=work, log=log, fresh=fresh)
                return self._register(datalab, image, tell, work=work, log=log, check=check)
        except OSError as exc:
            raise StartError(
                f"the image of {name} could not be registered: {exc.filename or folder}: {exc.strerror or exc}"
            ) from exc

    # -- from folders to an image -----------------------------------------------------------------------------------

    def _image(self, name: str, tell: Callable[[str], None], *, work: Path, log: Path, fresh: bool) -> Image:
        """Return the image of a folder; build it, and what it stands on, if the engine has it not."""
        recipe = self._recipe(name)
        digest = self._digest(recipe)
        made = self._made(name, digest)
        if made is not None and not fresh:
            return made
        arguments = {}
        for argument, below in recipe.parents().items():
            parent = self._image(below, tell, work=work, log=log, fresh=fresh)
            # BuildKit takes an image of the engine by its name only.
            arguments[argument] = f"cupola/{below}:{self.wanted(below).removeprefix('sha256:')[:12]}"
            if arguments[argument] not in parent.tags:
                self._engine.tag(parent.id, arguments[argument])
        if DEBIAN in recipe.arguments:
            arguments[DEBIAN] = have_debian(self._engine, self._debian, tell, fresh=fresh)
        context = work / name
        context.mkdir()
        recipe.write(context)
        host = work / "host"
        tell(f"building {name}")
        built = self._docker.build(
            name=name,
            context=context,
            secret=host if host.exists() else write_host(host),
            arguments=arguments,
            labels={LABEL_DATALAB: name, LABEL_RECIPE: digest},
            log=log,
            tell=tell,
            fresh=fresh,
        )
        image = self._engine.image(built)
        if image is None:
            raise StartError(f"the engine says that it built {name}, but has no image {built}")
        return image

    def _made(self, name: str, recipe: str) -> Image | None:
        """Return the newest image that was made by a recipe."""
        return next(
            (
                image
                for image in self._engine.images(fresh=True)
                if image.labels.get(LABEL_RECIPE) == recipe and image.labels.get(LABEL_DATALAB) == name
            ),
            None,
        )

    def _recipe(self, name: str) -> Recipe:
        place = self._datalabs.place(name)
        if place is None:
            raise NotFoundError(f"There is no datalab {name!r}: `cupola build --list` shows which there are.")
        return read_recipe(name, place)

    def _digest(self, recipe: Recipe, above: tuple[str, ...] = ()) -> str:
        """Return the digest of a recipe and all that it stands on."""
        if recipe.name in above:
            raise StartError(f"The recipes of {' and '.join(above)} stand on each other.")
        parents = recipe.parents().values()
        below = [self._digest(self._recipe(name), (*above, recipe.name)) for name in parents]
        if DEBIAN in recipe.arguments:
            # Its name: a newer image under the same name is taken when somebody asks for a fresh build.
            below.append(self._debian)
        return recipe.digest(below)

    # -- from an image to a version ----------------------------------------------------------------------------------

    def _register(  # noqa: PLR0913 - each by its name
        self,
        datalab: Datalab,
        image: Image,
        tell: Callable[[str], None],
        *,
        work: Path,
        log: Path,
        check: bool,
    ) -> BuiltVersion:
        before = {built.version.digest: built for built in self.store.versions(datalab.name)}
        known = before.get(image.id)
        if known and known.version.image and known.version.image not in image.tags:
            # The image was removed and made again, to the very same files.
            self._engine.tag(image.id, known.version.image)
        if known and (known.version.verified or not check):
            return BuiltVersion(known.version.model_copy(update={"ready": True}), PYTHON)
        verified = self._verify(datalab, image, tell, log=log) if check else False
        papers = {"build.log": log}
        if not known:
            tell("listing what it holds")
            papers["sbom.json"] = work / "sbom.json"
            name = f"cupola/{datalab.name}"
            write_sbom(self._engine, image=image.id, name=name, file=papers["sbom.json"], key=self._key)
        version = (
            known.version.model_copy(update={"verified": verified, "ready": True})
            if known
            else self._version(datalab, image, verified=verified, before=[*before.values()])
        )
        if self._push and not known and version.image:
            self._docker.push(version.image, log, tell)
        self.store.register(datalab.name, version, papers)
        return BuiltVersion(version, PYTHON)

    def _verify(self, datalab: Datalab, image: Image, tell: Callable[[str], None], *, log: Path) -> bool:
        """Run the datalab's check; tell whether it has one."""
        place = self._datalabs.place(datalab.name)
        if place is None or not (place / "verify").is_file():
            tell(f"{datalab.name} has no check of its own")
            return False
        tell("checking it under the limits of a session")
        begun = time.monotonic()
        # A container's user reads it: neither this account's umask nor its folders may be in the way.
        with tempfile.TemporaryDirectory(prefix="cupola-verify-") as name:
            accounts = Path(name)
            accounts.chmod(0o755)
            program = accounts / "verify"
            shutil.copyfile(place / "verify", program)
            program.chmod(0o755)
            verify(
                self._engine,
                image=image.id,
                program=program,
                datalab=datalab,
                accounts=accounts,
                key=self._key,
                log=log,
            )
        tell(f"its check passed in {time.monotonic() - begun:.0f} s")
        return True

    def _version(
        self, datalab: Datalab, image: Image, *, verified: bool, before: list[BuiltVersion]
    ) -> Version:
        """Name an image as a version, and give the engine's image that name."""
        repository = f"{self._names}/{datalab.name}"
        # Another platform on this engine may have built and named it already.
        reference = next((tag for tag in image.tags if tag.startswith(f"{repository}:2")), None)
        if reference is None:
            taken = {built.version.label for built in before}
            taken |= {
                label
                for other in self._engine.images(fresh=True)
                for name, _, label in (tag.rpartition(":") for tag in other.tags)
                if name == repository
            }
            reference = f"{repository}:{_free(f'{now():%Y.%m.%d}', taken)}"
            self._engine.tag(image.id, reference)
        return Version(
            digest=image.id,
            label=reference.rpartition(":")[2],
            created=datetime.fromtimestamp(image.created, UTC),
            ready=True,
            size_bytes=image.size_bytes,
            image=reference,
            verified=verified,
            changelog=datalab.changelog,
        )

    @contextlib.contextmanager
    def _work_folder(self) -> Iterator[Path]:
        """Make a folder for one build, for this account only; first remove what killed builds have left."""
        for old in self.store.folder.glob(".work-*"):
            shutil.rmtree(old, ignore_errors=True)
        self._engine.sweep(f"{LABEL_BUILD}={self._key}")
        with tempfile.TemporaryDirectory(prefix=".work-", dir=self.store.folder) as name:
            yield Path(name)


def _free(label: str, taken: set[str]) -> str:
    """Return `label`, or the first one with a number that nobody has."""
    if label not in taken:
        return label
    number = 2
    while f"{label}-{number}" in taken:
        number += 1
    return f"{label}-{number}"


def image_builder(config: Config) -> ImageBuilder:
    """Return the builder of the platform with this configuration."""
    return ImageBuilder(
        store=ImageStore(config.paths.images, Engine(config.docker.host)),
        datalabs=DatalabFolder.of(config),
        debian=config.docker.base,
        registry=config.docker.registry,
    )


def prepare(config: Config, tell: Callable[[str], None]) -> BuiltVersion:
    """Have the image that the first click needs: that of the Lab. At later starts it is there.

    Parameters
    ----------
    config
        The platform's configuration.
    tell
        Gets a line whenever something happens.

    Raises
    ------
    StartError
        It cannot be built.
    UnavailableError
        No engine answers.
    """
    return image_builder(config).build(LAB, tell)


def command_inside(config: Config, built: BuiltVersion, command: list[str], *, folder: Path) -> list[str]:
    """Return a command that runs `command` inside a version's image, as this account and with one folder.

    Parameters
    ----------
    config
        The platform's configuration.
    built
        The version.
    command
        What to run.
    folder
        The folder of this machine that it sees, under the same name, and may write to; it has nothing else, no network
        among it.

    Raises
    ------
    StartError
        There is no docker command.
    """
    host = config.docker.host
    limits = [
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ]
    return [
        *(find_docker(host), f"--host={host}", "run", "--rm", *limits),
        *(f"--user={os.getuid()}:{os.getgid()}", f"--volume={folder}:{folder}", f"--workdir={folder}"),
        *("--env=HOME=/tmp", "--env=PYTHONUNBUFFERED=1", built.version.digest, *command),
    ]
