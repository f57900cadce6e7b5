"""Steps that read bands, choose them and put them together."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.base import Part, Step, Value, step
from cupola.lab.chains.graph.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context
    from cupola.lab.collections.formats.image import Band
    from cupola.lab.collections.formats.special import Kept

__all__ = ["RESAMPLINGS", "Bands", "Select", "Stack"]

RESAMPLINGS = ("nearest", "bilinear", "cubic", "average", "mode")
"""How pixels are brought to another grid."""


@step("bands")
@dataclass(frozen=True, eq=False)
class Bands(Step):
    """The bands with which a chain starts, read from the files; one image for each item."""

    source: Source
    names: tuple[str, ...]
    resampling: str | None = None
    """One of `RESAMPLINGS`; nothing for the usual one: the nearest pixel, and averages for a coarser `At`."""
    saturated: Kept | None = None
    """What becomes of saturated pixels at the low and the high end; nothing where they are missing."""

    leaf: ClassVar[bool] = True

    @property
    @override
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @override
    def options(self) -> dict[str, Any]:
        said: dict[str, Any] = {"resampling": self.resampling} if self.resampling else {}
        if self.saturated is not None:
            said["saturated"] = list(self.saturated)
        return {"names": list(self.names), **said}

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        names, source, resampling = options["names"], options["source"], options.get("resampling")
        if isinstance(names, str) or not names or not isinstance(source, Source):
            raise ValueError("bands are a list of names")
        if resampling is not None and resampling not in RESAMPLINGS:
            raise ValueError(f"there is no resampling {resampling!r}")
        saturated = options.get("saturated")
        return cls(
            (),
            source,
            tuple(str(name) for name in names),
            resampling,
            None if saturated is None else _kept(saturated),
        )

    def of(self, source: Source) -> Bands:
        """Return the same choice of bands of another collection."""
        return dataclasses.replace(self, source=source)

    def taken(self, band: Band) -> Band:
        """Return a band of an item as this step reads it."""
        return band if self.saturated is None else dataclasses.replace(band, saturated=self.saturated)

    @override
    def words(self, parts: Sequence[str]) -> str:
        how = f", {self.resampling}" if self.resampling else ""
        kept = "" if self.saturated is None else ", saturated pixels kept"
        return f"{', '.join(self.names)} of {self.source.name}{how}{kept}"

    @override
    def label(self, bands: str) -> str:
        return ", ".join(self.names)


def _kept(said: Any) -> Kept:
    """Return what becomes of saturated pixels, as the JSON says it."""
    low, high = said
    for one in (low, high):
        if type(one) not in {bool, int, float} or not math.isfinite(one):
            raise ValueError("saturated pixels are true, false or a number at either end")
    return (low if type(low) is bool else float(low)), (high if type(high) is bool else float(high))


@step("select")
@dataclass(frozen=True, eq=False)
class Select(Step):
    """One band of the input."""

    index: int = 0

    arity: ClassVar[int | None] = 1

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        array: NDArray[np.float32] = parts[0]
        count = array.shape[0]
        if not -count <= self.index < count:
            raise InputError(
                f"The chain has {count} band{'s'[: count > 1]} here, so there is no band {self.index}."
            )
        number = self.index % count
        return array[number : number + 1]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"band {self.index} of {parts[0]}"

    @override
    def label(self, bands: str) -> str:
        return f"computed from {bands}"


@step("stack")
@dataclass(frozen=True, eq=False)
class Stack(Step):
    """The bands of all inputs, one after another."""

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if not arrays:
            raise InputError("A stack needs at least one chain.")
        shape = arrays[0].shape[1:]
        return np.concatenate(
            [part if isinstance(part, np.ndarray) else np.full((1, *shape), part) for part in parts],
            dtype=np.float32,
        )

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"bands {', '.join(parts)} together"

    @override
    def label(self, bands: str) -> str:
        return f"computed from {bands}"
