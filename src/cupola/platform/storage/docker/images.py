"""Versions of datalabs as images: what is registered, and which of them the engine has now.

Each version has a folder ``DATALAB/DIGEST12`` with ``version.json``, ``sbom.json`` and ``build.log``. The folder appears as
a whole when everything in it is there, so that a killed build leaves no half of a version behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.exceptions import CupolaError, NotFoundError, UnavailableError
from cupola.models.datalab import Version
from cupola.platform.storage.environments.choice import recommended, set_recommended
from cupola.platform.storage.environments.contents import of_image
from cupola.platform.storage.environments.locks import is_held
from cupola.platform.storage.environments.store import BuiltVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cupola.models.packages import Contents
    from cupola.platform.storage.docker.engine import Engine

__all__ = ["PYTHON", "ImageStore", "in_registry"]

MARKER = "version.json"
PYTHON = Path("/opt/cupola/bin/python")
"""The interpreter of what answers on the port, in every image."""


class ImageStore:
    """The images of one platform.

    Parameters
    ----------
    folder
        Where they are written down: ``DATALAB/DIGEST12``.
    engine
        The engine that has them.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine

    def versions(self, datalab: str) -> list[BuiltVersion]:
        """Return the registered versions of a datalab, newest first; they say whether the engine has them now."""
        try:
            here = {image.id for image in self.engine.images()}
        except UnavailableError:
            here = set()
        found = [
            BuiltVersion(version.model_copy(update={"ready": version.digest in here}), PYTHON)
            for marker in (self.folder / datalab).glob(f"[!.]*/{MARKER}")
            if (version := _read(marker))
        ]
        return sorted(found, key=lambda built: built.version.created, reverse=True)

    def contents(self, datalab: str, built: BuiltVersion) -> Contents | None:
        """Return what a version of a datalab holds; nothing where that was not written down."""
        return of_image(self.place(datalab, built.version.digest) / "sbom.json")

    def problem(self) -> str | None:
        """Return why no version can start just now, in a sentence; nothing where the engine answers."""
        try:
            self.engine.images()
        except UnavailableError as exc:
            return str(exc)
        return None

    def recommended(self, datalab: str) -> str | None:
        """Return the digest of the version that somebody has marked as recommended."""
        return recommended(self.folder / datalab)

    def recommend(self, datalab: str, digest: str | None) -> None:
        """Mark a version as recommended; nothing: the newest one is, again.

        Raises
        ------
        OSError
            It cannot be written down.
        """
        set_recommended(self.folder / datalab, digest)

    def building(self, datalab: str) -> bool:
        """Tell whether somebody builds it just now."""
        return is_held(self.folder / datalab / ".building")

    def place(self, datalab: str, digest: str) -> Path:
        """Return the folder of a version."""
        return self.folder / datalab / digest.removeprefix("sha256:")[:12]

    def register(self, datalab: str, version: Version, papers: Mapping[str, Path]) -> None:
        """Write a version down, whole or not at all; one that is there already is replaced.

        Parameters
        ----------
        datalab, version
            What it is.
        papers
            Files that are kept with it, by their names there.

        Raises
        ------
        OSError
            It cannot be written.
        """
        place = self.place(datalab, version.digest)
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            for name, file in papers.items():
                shutil.copyfile(file, aside / name)
            _write(aside / MARKER, version.model_dump_json())
            if place.is_dir():
                # A folder cannot replace one that holds something; the marker goes last.
                for file in sorted(aside.iterdir(), key=lambda file: file.name == MARKER):
                    file.replace(place / file.name)
            else:
                aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def remove(self, datalab: str, version: Version) -> None:
        """Forget a version, and remove its image.

        Raises
        ------
        UnavailableError
            If the engine does not remove the image: a session uses it. The version stays then.
        """
        tags = [
            tag
            for image in self.engine.images(fresh=True)
            if image.id == version.digest
            for tag in image.tags
        ]
        ours = [tag for tag in tags if tag == version.image]
        # Another platform on this engine may use the same image under another name.
        for name in ours or ([version.digest] if not tags else []):
            self.engine.remove(name)
        place = self.place(datalab, version.digest)
        (place / MARKER).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)

    def fetch(self, datalab: str, version: Version, watch: Callable[[float], None] | None = None) -> None:
        """Have a registered image that is not here: pull it.

        Parameters
        ----------
        datalab, version
            What it is.
        watch
            Is called with the part that is done, 0 to 1.

        Raises
        ------
        NotFoundError
            No registry has it.
        UnavailableError
            It could not be pulled, or something else lies under its name.
        """
        if not version.image or not in_registry(version):
            raise NotFoundError(
                f"Version {version.label} of {datalab} is no longer on this machine and in no registry: "
                f"`cupola build {datalab}` makes a new one."
            )
        try:
            self.engine.pull(version.image, watch)
        except UnavailableError as exc:
            raise UnavailableError(
                f"Version {version.label} of {datalab} could not be fetched as {version.image} ({str(exc).rstrip('.')}): "
                "try again later, or choose another version."
            ) from exc
        image = self.engine.image(version.image)
        if image is None or image.id != version.digest:
            with contextlib.suppress(CupolaError):
                self.engine.remove(version.image)
            raise UnavailableError(
                f"Under the name {version.image} the registry has another image than version {version.label} of {datalab}."
            )


def in_registry(version: Version) -> bool:
    """Tell whether a version's reference names a registry: of one without, anybody could have taken the name."""
    server, _, path = (version.image or "").partition("/")
    return bool(path) and ("." in server or ":" in server or server == "localhost")


def _read(marker: Path) -> Version | None:
    try:
        return Version.model_validate_json(marker.read_bytes())
    except (OSError, ValueError):
        return None


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
