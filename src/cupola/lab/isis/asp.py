"""What the Ames Stereo Pipeline's programs write about their work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cupola.exceptions import InputError

__all__ = ["AspLog", "Deviations", "read_asp_log"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STAMP = re.compile(
    r"^\s*(?:\[\s*)?\d{4}-\w{3}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d+)?\s*(?:\])?\s*(?:\{\d+\}\s*)?(?:\[\s*\w+\s*\]\s*)?:\s*"
)
_STAGE = re.compile(r"Stage\s+(?P<number>\d+)\s*-->\s*(?P<name>[A-Z][A-Z ]*[A-Z])")
_SAYS_PLAIN = re.compile(r"^(?:\w+:\s*)?(?P<kind>Error|Warning)\s*:\s*(?P<text>\S.*)$", re.IGNORECASE)
_ERRORS = re.compile(
    r"^(?P<when>Input|Output): error percentile of smallest errors \(meters\):\s*(?P<list>.*)$"
)
_PERCENT = re.compile(rf"(?P<share>\d+)%:\s*(?P<value>{_NUMBER})")
_MOVED = re.compile(rf"Maximum displacement .*?:\s*(?P<value>{_NUMBER})\s*m\b")
_TRANSLATION = re.compile(
    rf"Translation vector \((?P<frame>[^)]*)\):\s*Vector3\((?P<x>{_NUMBER}),\s*(?P<y>{_NUMBER}),\s*(?P<z>{_NUMBER})\)"
)
_DIFFERENCE = re.compile(rf"^(?P<name>Max|Min|Mean|StdDev of|Median) difference:\s*(?P<value>{_NUMBER})")


@dataclass(frozen=True)
class Deviations:
    """Distances between two point clouds, in metres: `percentiles` by percent (16, 50, 84)."""

    percentiles: dict[int, float]

    @property
    def median(self) -> float | None:
        """Half of the distances are smaller, in metres."""
        return self.percentiles.get(50)


@dataclass(frozen=True)
class AspLog:
    """What a log of ASP says.

    ``stages`` are the names of the stages that began (PREPROCESSING, CORRELATION ...). ``before`` and ``after`` are the
    deviations of ``pc_align``, ``displacement`` the largest one, in metres, and ``translations`` its vectors by frame of
    reference (``Cartesian, meters``). ``differences`` are those of ``geodiff``, in metres, by ``max min mean stddev median``.
    """

    stages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    before: Deviations | None = None
    after: Deviations | None = None
    displacement: float | None = None
    translations: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)


def read_asp_log(log: Path | str) -> AspLog:
    """Return what a log, or the printed output, of an ASP program says.

    Parameters
    ----------
    log
        A file (a path, or its name in one line), or the text itself.

    Raises
    ------
    InputError
        If it is a file that cannot be read.
    """
    text = log if isinstance(log, str) and ("\n" in log or not log) else _read(Path(log))
    result = AspLog()
    deviations: dict[str, Deviations] = {}
    displacement: float | None = None
    for raw in text.splitlines():
        line = _STAMP.sub("", raw).strip()
        if match := _STAGE.search(line):
            result.stages.append(match["name"])
        elif match := _ERRORS.match(line):
            shares = {int(one["share"]): float(one["value"]) for one in _PERCENT.finditer(match["list"])}
            deviations[match["when"]] = Deviations(shares)
        elif match := _TRANSLATION.search(line):
            result.translations[match["frame"]] = (float(match["x"]), float(match["y"]), float(match["z"]))
        elif match := _MOVED.search(line):
            displacement = float(match["value"])
        elif match := _DIFFERENCE.match(line):
            result.differences[match["name"].removesuffix(" of").lower()] = float(match["value"])
        elif match := _SAYS_PLAIN.match(line):
            (result.errors if match["kind"].lower() == "error" else result.warnings).append(match["text"])
    return AspLog(
        stages=result.stages,
        warnings=result.warnings,
        errors=result.errors,
        before=deviations.get("Input"),
        after=deviations.get("Output"),
        displacement=displacement,
        translations=result.translations,
        differences=result.differences,
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise InputError(f"The log {file} cannot be read: {exc.strerror or exc}") from exc
