"""Building and finding locked environments.

An environment cannot be moved, so it is built where it will stay; ``version.json`` is written last and says that it is
whole. What a killed build left behind has none, and is removed by the next one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from cupola.exceptions import NotFoundError, StartError
from cupola.models.base import now
from cupola.models.datalab import Version
from cupola.platform.storage.environments.choice import recommended, set_recommended
from cupola.platform.storage.environments.contents import of_environment
from cupola.platform.storage.environments.indexes import index_settings
from cupola.platform.storage.environments.locks import alone, is_held
from cupola.platform.storage.environments.wheel import source_digest, write_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cupola.models.packages import Contents

__all__ = ["BuiltVersion", "EnvironmentStore"]

MARKER = "version.json"
EXAMPLES = Path("share") / "cupola" / "examples"
"""Where an environment keeps the notebooks that a session copies into the home."""
SHOWN_LINES = 6
TOLD = ("Resolved", "Downloading", "Building", "Built", "Prepared", "Installed")
"""What of uv's output is worth a person's time."""


@dataclass(frozen=True)
class BuiltVersion:
    """A version that can start here."""

    version: Version
    python: Path
    """Its interpreter."""


class EnvironmentStore:
    """The locked environments of one platform.

    Parameters
    ----------
    folder
        Where they are: ``DATALAB/DIGEST12``.
    source
        The shipped datalabs: ``NAME/requirements.lock`` and, if there are any, ``NAME/notebooks`` and ``NAME/share``.
    own
        The operator's own datalabs, a folder each.
    """

    def __init__(self, folder: Path, source: Path, own: Iterable[Path] = ()) -> None:
        self.folder = folder
        self._shipped = source
        self._own = {place.name: place for place in own}

    def versions(self, datalab: str) -> list[BuiltVersion]:
        """Return the versions of a datalab that are built, newest first."""
        folder = self.folder / datalab
        found = [built for marker in folder.glob(f"*/{MARKER}") if (built := self._read(marker.parent))]
        return sorted(found, key=lambda built: built.version.created, reverse=True)

    def contents(self, datalab: str, built: BuiltVersion) -> Contents | None:
        """Return what a version of a datalab holds."""
        del datalab
        return of_environment(built.python)

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

    def problem(self) -> str | None:
        """Return why no version can start just now: nothing, since an environment needs nobody else."""
        return None

    def building(self, datalab: str) -> bool:
        """Tell whether somebody builds it just now."""
        return is_held(self.folder / datalab / ".lock")

    def remove(self, datalab: str, version: Version) -> None:
        """Remove a version.

        Raises
        ------
        OSError
            It cannot be removed; it counts as unfinished then, and is not offered any more.
        """
        place = self.folder / datalab / version.digest.removeprefix("sha256:")[:12]
        (place / MARKER).unlink(missing_ok=True)
        if place.is_dir():
            shutil.rmtree(place)

    def wanted(self, datalab: str) -> str:
        """Return the digest of what :meth:`build` would build now.

        Raises
        ------
        NotFoundError
            No such datalab is shipped.
        """
        digest = hashlib.sha256()
        digest.update(f"python {platform.python_version()} {platform.machine()}\n".encode())
        digest.update(f"cupola {source_digest()}\n".encode())
        digest.update(self._lock_file(datalab).read_bytes())
        for place, file in self._files(datalab):
            digest.update(f"\n{place} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
        return f"sha256:{digest.hexdigest()}"

    def build(self, datalab: str, progress: Callable[[str], None]) -> BuiltVersion:
        """Return the version of a datalab that belongs to this installation; build it if it is not there.

        Takes a minute the first time. Of two that build at once, the second waits for the first.

        Parameters
        ----------
        datalab
            Its name.
        progress
            Gets a line whenever something happens.

        Raises
        ------
        NotFoundError
            No such datalab is shipped.
        StartError
            It cannot be built.
        """
        digest = self.wanted(datalab)
        place = self.folder / datalab / digest.removeprefix("sha256:")[:12]
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            waiting = "waiting for another process that builds it"
            with alone(self.folder / datalab / ".lock", lambda: progress(waiting)):
                built = self._read(place)
                if built is None:
                    self._build(datalab, digest, place, progress)
                    built = self._read(place)
        except OSError as exc:
            raise StartError(
                f"the environment of {datalab} cannot be written to {place}: {exc.strerror or exc}"
            ) from exc
        if built is None:
            raise StartError(
                f"the environment of {datalab} in {place} does not work; remove that folder and try again"
            )
        return built

    # -- the steps ----------------------------------------------------------------------------------------------

    def _build(self, datalab: str, digest: str, place: Path, progress: Callable[[str], None]) -> None:
        if place.exists():
            progress("removing an unfinished build")
            shutil.rmtree(place)
        uv, log = find_uv_bin(), place.parent / "build.log"
        log.write_bytes(b"")
        python = str(place / "bin" / "python")
        base = str(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]  # noqa: SLF001
        progress("making the environment")
        self._run([uv, "venv", "--no-project", "--python", base, str(place)], datalab, log, progress)
        progress("installing the locked packages")
        install = [uv, "pip", "install", "--python", python, "--no-deps"]
        lock = self._lock_file(datalab)
        self._run([*install, "--require-hashes", "-r", str(lock)], datalab, log, progress)
        progress("installing Cupola")
        with tempfile.TemporaryDirectory() as folder:
            self._run([*install, "--no-index", str(write_wheel(Path(folder)))], datalab, log, progress)
        for inside, file in self._files(datalab):
            target = place / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        self._finish(datalab, digest, place)

    def _finish(self, datalab: str, digest: str, place: Path) -> None:
        """Write the marker."""
        created = now()
        label = f"{created:%Y.%m.%d}"
        same = sum(built.version.label.startswith(label) for built in self.versions(datalab))
        version = Version(
            digest=digest,
            label=f"{label}-{same + 1}" if same else label,
            created=created,
            ready=True,
            size_bytes=sum(file.lstat().st_size for file in place.rglob("*")),
        )
        aside = place / f".{MARKER}"
        aside.write_text(version.model_dump_json(), encoding="utf-8")
        aside.replace(place / MARKER)

    def _run(self, command: list[str], datalab: str, log: Path, progress: Callable[[str], None]) -> None:
        """Run a step of the build and pass on what it says."""
        # An activated environment or a project's settings must not change what is built.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT"}
        }
        environment.update({"NO_COLOR": "1", "UV_NO_PROGRESS": "1", **index_settings()})
        last: deque[str] = deque(maxlen=SHOWN_LINES)
        with (
            log.open("a", encoding="utf-8") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=environment,
                text=True,
                errors="replace",
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    output.write(line)
                    if text := line.strip():
                        last.append(text)
                        if text.startswith(TOLD):
                            progress(text)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            said = " | ".join(last) or "nothing"
            raise StartError(
                f"the environment of {datalab} could not be built; uv says: {said} (all of it: {log})"
            )

    def _read(self, place: Path) -> BuiltVersion | None:
        """Return the environment in a folder; nothing where it is not whole or its interpreter is gone."""
        python = place / "bin" / "python"
        try:
            version = Version.model_validate_json((place / MARKER).read_bytes())
        except (OSError, ValueError):
            return None
        return BuiltVersion(version, python) if python.exists() else None

    def _lock_file(self, datalab: str) -> Path:
        file = self._source(datalab) / "requirements.lock"
        if not file.is_file():
            raise NotFoundError(f"the datalab {datalab} has no locked environment: {file} is missing")
        return file

    def _files(self, datalab: str) -> list[tuple[Path, Path]]:
        """Return what is copied into an environment: where to, and the file.

        The notebooks become the examples; ``share`` holds settings of programs, at their places in the environment.
        """
        places = {"notebooks": EXAMPLES, "share": Path("share")}
        source = self._source(datalab)
        return sorted(
            (place / file.relative_to(source / name), file)
            for name, place in places.items()
            for file in (source / name).rglob("*")
            if file.is_file() and not _is_left_over(file.relative_to(source))
        )

    def _source(self, datalab: str) -> Path:
        return self._own.get(datalab, self._shipped / datalab)


def _is_left_over(file: Path) -> bool:
    """Tell whether a program left this file there: a check point, compiled code."""
    return any(part.startswith((".", "__pycache__")) for part in file.parts)
