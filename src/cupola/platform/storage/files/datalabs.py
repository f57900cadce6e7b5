"""The datalabs, shipped and own: a folder each, with a ``datalab.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import yaml
from pydantic import ValidationError

from cupola.config import environments_source
from cupola.models.datalab import Datalab

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cupola.config import Config

__all__ = ["DatalabFolder"]

log = structlog.get_logger("cupola.portal")

PICTURE = "icon.svg"
LARGEST_PICTURE = 2**18
"""In bytes."""
_FROM_ELSEWHERE = {"name", "pictured", "versions", "recommended", "unavailable"}
"""What no datalab.yaml says: the folder's name and what was built decide."""


class DatalabFolder:
    """The datalabs of a platform.

    Parameters
    ----------
    folder
        Has the shipped ones, a folder each.
    own
        The operator's own, each the folder of one datalab; one that bears the name of a shipped one stands in for it.
    """

    def __init__(self, folder: Path, own: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._own = {place.name: place for place in own}
        # By path: when the file was last changed, and what it said.
        self._read: dict[Path, tuple[int, Datalab]] = {}

    @classmethod
    def of(cls, config: Config, folder: Path | None = None) -> DatalabFolder:
        """Return those of the platform with this configuration; `folder` stands in for the shipped ones."""
        return cls(folder or environments_source(), config.datalabs)

    def place(self, name: str) -> Path | None:
        """Return the folder of a datalab, or of what datalabs stand on; nothing where there is none."""
        place = self._own.get(name, self._folder / name)
        return place if any((place / file).is_file() for file in ("datalab.yaml", "Dockerfile")) else None

    def datalab(self, name: str) -> Datalab | None:
        """Return one datalab, without versions; nothing where there is none of this name."""
        return next((datalab for datalab in self.datalabs() if datalab.name == name), None)

    def picture(self, name: str) -> bytes | None:
        """Return the picture of a datalab, as SVG; nothing where it has none or a huge one."""
        place = self.place(name)
        if place is None or self.datalab(name) is None:
            return None
        try:
            with (place / PICTURE).open("rb") as file:
                content = file.read(LARGEST_PICTURE + 1)
        except OSError:
            return None
        return content if len(content) <= LARGEST_PICTURE else None

    def datalabs(self) -> list[Datalab]:
        """Return all datalabs by name, without versions; a broken one says that it is."""
        try:
            files = {file.parent.name: file for file in self._folder.glob("*/datalab.yaml")}
        except OSError as error:
            log.exception("datalabs cannot be read", folder=str(self._folder), error=str(error))
            files = {}
        files |= {name: place / "datalab.yaml" for name, place in self._own.items()}
        return [self._datalab(file) for _, file in sorted(files.items())]

    def _datalab(self, file: Path) -> Datalab:
        try:
            changed = file.stat().st_mtime_ns
            before = self._read.get(file)
            if before is not None and before[0] == changed:
                return before[1]
            datalab = _parse(file)
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = _reason(error)
            log.exception("a datalab is broken", file=str(file), reason=reason)
            changed, datalab = 0, _broken(file, reason)
        if changed:
            self._read[file] = (changed, datalab)
        return datalab


def _parse(file: Path) -> Datalab:
    content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no fields")  # noqa: TRY004 - one kind of error for all that a file can say wrong
    if wrong := sorted(_FROM_ELSEWHERE & content.keys()):
        raise ValueError(f"{', '.join(wrong)}: not for this file")
    pictured = file.with_name(PICTURE).is_file()
    return Datalab.model_validate({**content, "name": file.parent.name, "pictured": pictured})


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).replace("\n", " ")


def _broken(file: Path, reason: str) -> Datalab:
    name = file.parent.name
    # A folder's name may be no slug; the card must show all the same, so the checks are left out.
    return Datalab.model_construct(
        name=name,
        title=name,
        summary="This datalab's description is broken.",
        versions=[],
        unavailable=f"Its datalab.yaml is wrong ({reason}): mend {file}.",
    )
