"""When a measurement was made, as files of arrays say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.lab.collections.formats.stores import Variable

__all__ = ["moment", "span"]

_STARTS = ("time_coverage_start", "start_time", "sensing_start", "StartTime", "RangeBeginningDateTime")
_ENDS = ("time_coverage_end", "end_time", "stop_time", "sensing_end", "EndTime", "RangeEndingDateTime")
_SECONDS = {
    "seconds": 1,
    "second": 1,
    "s": 1,
    "minutes": 60,
    "hours": 3600,
    "hour": 3600,
    "days": 86400,
    "day": 86400,
}


def moment(text: object) -> datetime | None:
    """Return a time in UTC from text; nothing where there is none."""
    if not isinstance(text, str):
        return None
    try:
        value = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def span(
    said: Mapping[str, Any], variables: Mapping[str, Variable]
) -> tuple[datetime | None, datetime | None]:
    """Return first and last time of a file: from what it says of itself, else from its times."""
    start = next((found for key in _STARTS if (found := moment(said.get(key)))), None)
    end = next((found for key in _ENDS if (found := moment(said.get(key)))), None)
    if start is not None:
        return start, end or start
    for variable in variables.values():
        if variable.name.rpartition("/")[2] == "time" and len(variable.shape) == 1 and variable.shape[0]:
            times = _decode(variable)
            if times:
                return min(times), max(times)
    return None, None


def _decode(variable: Variable) -> list[datetime]:
    """Return first and last of numbers such as ``days since 1970-01-01``."""
    unit, _, since = str(variable.attributes.get("units", "")).partition(" since ")
    first, length = moment(since.strip().removesuffix("Z").strip()), _SECONDS.get(unit.strip().lower())
    calendar = str(variable.attributes.get("calendar", "standard")).lower()
    if first is None or length is None or calendar not in ("standard", "gregorian", "proleptic_gregorian"):
        return []
    values = np.asarray(variable.array[...], dtype=np.float64)
    values = values[np.isfinite(values)]
    try:
        return (
            [first + timedelta(seconds=float(value) * length) for value in (values.min(), values.max())]
            if len(values)
            else []
        )
    except OverflowError:
        return []
