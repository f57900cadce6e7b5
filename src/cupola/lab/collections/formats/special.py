"""Stored numbers of planetary products that are no measurement: nothing was seen, or more or less than could be.

An instrument or the type of the stored numbers saturates at its low and its high end. ISIS has two numbers for each end
(LRS and LIS, HIS and HRS), PDS labels may name their own. These pixels are missing, unless a chain keeps them.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ISIS_DRIVERS", "ISIS_NULL", "ISIS_VALID", "Kept", "Saturation", "is_isis_null", "special_pixels"]

Kept: TypeAlias = tuple[bool | float, bool | float]
"""What becomes of pixels saturated at the low and the high end: a value, missing (False), or the end of the valid stored
numbers (True)."""

ISIS_DRIVERS = frozenset({"ISIS3", "ISIS2"})
ISIS_NULL = np.float32(-3.4028226550889045e38)
"""The largest of the five special values of real cubes: 0xFF7FFFFB; LRS, LIS, HIS and HRS lie below it."""
ISIS_VALID: dict[str, tuple[int, int]] = {
    "uint8": (1, 254),
    "int16": (-32752, 32767),
    "uint16": (3, 65522),
    "int32": (-2147483632, 2147483647),
    "uint32": (3, 4294967282),
}
"""Smallest and largest valid number of cubes that store integers."""


@dataclass(frozen=True)
class Saturation:
    """Which stored numbers say that a pixel was saturated."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    limits: tuple[float, float] | None = None
    """Smallest and largest valid stored number; nothing where the file sets no limits, as cubes of real numbers do not."""

    def put(
        self,
        values: NDArray[np.float32],
        raw: NDArray[Any],
        kept: Kept,
        physical: tuple[float, float],
        path: str,
    ) -> None:
        """Put what is kept of saturated pixels into the values, in place.

        Parameters
        ----------
        values
            Physical values, any shape.
        raw
            The stored numbers of the same shape.
        kept
            What becomes of the pixels.
        physical
            Scale and offset of the stored numbers.
        path
            Of the file, for messages.

        Raises
        ------
        InputError
            When the file's own limit is asked for, and it has none.
        """
        for numbers, choice, end in ((self.low, kept[0], 0), (self.high, kept[1], 1)):
            if choice is False or not numbers:
                continue
            value = self.limit(end, path) * physical[0] + physical[1] if choice is True else float(choice)
            values[np.isin(raw, np.array(numbers).astype(raw.dtype))] = value

    def limit(self, end: int, path: str) -> float:
        """Return the smallest (0) or the largest (1) valid stored number.

        Raises
        ------
        InputError
            When the file has no such limits.
        """
        if self.limits is None:
            raise InputError(
                f"{path} sets no limits to its numbers that could stand for saturated pixels: say which values they get, such "
                "as keep_saturated(low=0, high=1), or low=False to leave those of one end out."
            )
        return self.limits[end]


_FLOATS = tuple(float(number) for number in np.arange(0xFF7FFFFC, 0xFF800000, dtype="<u4").view("<f4"))
_ISIS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # A byte has no number to spare: 0 is nothing and saturated at the low end at once.
    "uint8": ((), (255,)),
    "int16": ((-32767, -32766), (-32765, -32764)),
    "uint16": ((1, 2), (65534, 65535)),
    "int32": ((-2147483647, -2147483646), (-2147483645, -2147483644)),
    "uint32": ((1, 2), (4294967294, 4294967295)),
    "float32": (_FLOATS[:2], _FLOATS[2:]),
}
"""Numbers of LRS and LIS, and of HIS and HRS, as ISIS stores them."""

_HEAD = 65536
_PDS4 = re.compile(r"<(?:\w+:)?Special_Constants>(.*?)</(?:\w+:)?Special_Constants>", re.DOTALL)
_PDS4_NUMBER = re.compile(
    r"<(?:\w+:)?(\w+_(?:constant|saturation)|valid_(?:min|max)imum)\b[^>]*>\s*([^<\s]+)\s*<"
)
_PDS3_NUMBER = re.compile(
    r"^\s*(?:CORE_)?((?:LOW|HIGH)_(?:REPR|INSTR)_SATURATION|VALID_(?:MIN|MAX)IMUM)\s*=\s*(\S+)\s*$",
    re.MULTILINE,
)
_BASED = re.compile(r"16#([0-9A-Fa-f]+)#")


def is_isis_null(nodata: float | None) -> bool:
    """Whether a file's nodata value is that of cubes of real numbers, whose other special values it may hold too."""
    return nodata is not None and np.float32(nodata) == ISIS_NULL


def special_pixels(
    path: str, driver: str, dtype: str, nodata: float | None
) -> tuple[tuple[float, ...], Saturation | None]:
    """Return the numbers that stand for no data beside the nodata value, and those that stand for saturated pixels."""
    if driver == "PDS4":
        return _of_label(_pds4(path), dtype)
    if driver == "PDS":
        return _of_label(_pds3(path, dtype), dtype)
    if dtype in _ISIS and (driver in ISIS_DRIVERS or (dtype == "float32" and is_isis_null(nodata))):
        return (), Saturation(*_ISIS[dtype], ISIS_VALID.get(dtype))
    return (), None


def _of_label(said: dict[str, set[float]], dtype: str) -> tuple[tuple[float, ...], Saturation | None]:
    low = {one for name, numbers in said.items() if name.startswith("low_") for one in numbers}
    high = {one for name, numbers in said.items() if name.startswith("high_") for one in numbers}
    ends = [*said.pop("valid_minimum", ()), *said.pop("valid_maximum", ())]
    if len(ends) == 1 and dtype == "int16" and ends[0] == ISIS_VALID[dtype][0]:
        ends.append(ISIS_VALID[dtype][1])  # labels that ISIS wrote name only the smallest
    limits = (min(ends), max(ends)) if len(ends) > 1 else None
    every = tuple(sorted(set().union(*said.values())))
    if not low and not high:
        return every, None
    return every, Saturation(tuple(sorted(low)), tuple(sorted(high)), limits)


def _pds4(label: str) -> dict[str, set[float]]:
    """Return the special constants of a PDS4 label by name; GDAL takes only the first for no data."""
    said: dict[str, set[float]] = {}
    for block in _PDS4.findall(_text(label, None)):
        for name, number in _PDS4_NUMBER.findall(block):
            with contextlib.suppress(ValueError):
                said.setdefault(name, set()).add(float(number))
    return said


def _pds3(label: str, dtype: str) -> dict[str, set[float]]:
    """Return the special numbers of a PDS3 label by name, which GDAL gives as measurements."""
    said: dict[str, set[float]] = {}
    for name, written in _PDS3_NUMBER.findall(_text(label, _HEAD)):
        based = _BASED.fullmatch(written)
        kind = np.dtype(dtype)
        with contextlib.suppress(ValueError, OverflowError):
            # Hexadecimal numbers are the stored bits.
            bits = None if based is None else int(based[1], 16).to_bytes(kind.itemsize, "little")
            number = (
                float(written)
                if bits is None
                else float(np.frombuffer(bits, dtype=kind.newbyteorder("<"))[0])
            )
            said.setdefault(name.lower(), set()).add(number)
    return said


def _text(label: str, most: int | None) -> str:
    try:
        with Path(label).open("rb") as file:
            return file.read(-1 if most is None else most).decode("utf-8", errors="replace")
    except OSError:
        return ""
