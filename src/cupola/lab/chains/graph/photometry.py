"""Steps for planetary images: angles of light and view on the ground, and photometric normalisation.

What they compute is in `cupola.lab.planets`. SPICE is loaded only by chains that name kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.base import Part, Step, Value, check_counts, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context
    from cupola.lab.collections.items import Item
    from cupola.lab.planets.spice import Geometry, Kernels

__all__ = ["Angle", "Photometry"]

_ANGLES = ("incidence", "emission", "phase")


@step("angle")
@dataclass(frozen=True, eq=False)
class Angle(Step):
    """Incidence, emission or phase in degrees on the body's surface, where the input has data."""

    which: str = "incidence"
    sun: tuple[float, ...] = ()
    """Longitude and latitude of the subsolar point, perhaps the distance in metres; from kernels where it is empty."""
    observer: tuple[float, ...] = ()
    """Longitude, latitude and distance from the body's centre in metres; from straight above where there is none."""
    kernels: str = ""
    """Folder of SPICE kernels."""
    spacecraft: str = ""
    """Name of the observer for SPICE."""

    arity: ClassVar[int | None] = 1

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        made = super().made(inputs, options)
        if made.which not in _ANGLES:
            raise InputError(f"There is no angle {made.which!r}; choose one of {', '.join(_ANGLES)}.")
        if len(made.sun) not in (0, 2, 3) or len(made.observer) not in (0, 3):
            raise InputError(
                "The Sun is given as (longitude, latitude), the observer as (longitude, latitude, distance from the "
                "body's centre in metres)."
            )
        if not made.sun and not made.kernels:
            raise InputError(
                "Angles need the Sun: give sun=(longitude, latitude) of the subsolar point, or kernels= with a folder."
            )
        return made

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        from cupola.lab.planets.angles import angles, vector

        if context.grid is None or context.body is None:
            name = f"{context.item}" if context.item is not None else "The image"
            raise InputError(
                f"{name[0].upper()}{name[1:]} has no coordinate system, so its pixels have no place under the Sun: "
                "project it first, or give the angles as numbers."
            )
        longitudes, latitudes = context.lonlat()
        radii = (context.body.radius,) * 3
        sun = vector(*self.sun) if self.sun else None
        observer = vector(*self.observer) if self.observer else None
        if sun is None:
            found = self._from_kernels(context)
            radii, sun = found.radii, np.array(found.sun)
            observer = np.array(found.observer) if found.observer is not None else observer
        with np.errstate(invalid="ignore"):
            angle = angles(longitudes, latitudes, radii, sun, observer)[self.which].astype(np.float32)
        angle[np.isnan(parts[0]).all(axis=0)] = np.nan
        return np.asarray(angle[np.newaxis])

    def _from_kernels(self, context: Context) -> Geometry:
        if context.item is None or context.body is None:
            raise InputError(
                "After a reduction no image has a time of its own: compute the angles before it, or give sun=(longitude, "
                "latitude)."
            )
        return _geometry(self.kernels, context.body.name, _time_of(context.item), self.spacecraft)

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"the {self.which} angle at the pixels of {parts[0]}, in degrees"

    @override
    def label(self, bands: str) -> str:
        return f"{self.which} angle"


def _geometry(kernels: str, target: str, time: str, spacecraft: str) -> Geometry:
    """Return a geometry, from memory while the folder (or meta-kernel) does not change: it is asked for each tile."""
    try:
        stamp = Path(kernels).stat().st_mtime_ns
    except OSError:
        stamp = 0  # said by `Kernels`, in a sentence
    return _known_geometry(kernels, stamp, target, time, spacecraft)


@lru_cache(maxsize=256)
def _known_geometry(kernels: str, stamp: int, target: str, time: str, spacecraft: str) -> Geometry:
    return _kernels(kernels, stamp).geometry(target, time, spacecraft or None)


@lru_cache(maxsize=8)
def _kernels(path: str, _stamp: int) -> Kernels:
    from cupola.lab.planets.spice import Kernels

    return Kernels(path)


def _time_of(item: Item) -> str:
    """Return the middle of an image's taking.

    Raises
    ------
    InputError
        When neither the item nor its label tells it.
    """
    first, last = item.datetime, item.end
    if first is None:
        return _time_of_label(item)
    return (first + ((last or first) - first) / 2).isoformat()


def _time_of_label(item: Item) -> str:
    import datetime as dt

    from cupola.exceptions import CupolaError
    from cupola.lab.planets.label import label

    for asset in item.images.values():
        try:
            said = label(asset.href)
        except CupolaError:
            continue
        if said["start_time"]:
            first = dt.datetime.fromisoformat(said["start_time"])
            last = dt.datetime.fromisoformat(said["stop_time"] or said["start_time"])
            return (first + (last - first) / 2).isoformat()
    raise InputError(
        f"Neither {item} nor its label says when it was taken: give the Sun as sun=(longitude, latitude)."
    )


@step("photometry")
@dataclass(frozen=True, eq=False)
class Photometry(Step):
    """The first input brought to one geometry of light and view; the others are incidence, emission and phase."""

    model: str = "lambert"
    k: float = 0.7
    weight: float | None = None
    reference: tuple[float, float, float] = (0.0, 0.0, 0.0)
    steepest: float = 85.0

    arity: ClassVar[int | None] = 4

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        from cupola.lab.planets.photometry import normalise

        made = super().made(inputs, options)
        if len(inputs) != 4:  # noqa: PLR2004 - the image and three angles
            raise InputError("Photometry takes an image and its incidence, emission and phase.")
        phase = inputs[3]
        known = isinstance(phase, Step) or phase == phase  # noqa: PLR0124 - nothing is said by NaN
        normalise(
            1.0,
            made.model,
            0.0,
            0.0,
            0.0 if known else None,
            k=made.k,
            weight=made.weight,
            reference=made.reference,
        )
        return made

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        from cupola.lab.planets.photometry import normalise

        check_counts(parts)
        image, incidence, emission, phase = parts
        unknown = not isinstance(phase, np.ndarray) and bool(np.isnan(phase))
        found = normalise(
            image,
            self.model,
            incidence,
            emission,
            None if unknown else phase,
            k=self.k,
            weight=self.weight,
            reference=self.reference,
            steepest=self.steepest,
        )
        return np.asarray(found, dtype=np.float32)

    @override
    def words(self, parts: Sequence[str]) -> str:
        angles = ", ".join(
            f"{name} {part}" for name, part in zip(_ANGLES, parts[1:], strict=False) if part != "nan"
        )
        return f"{parts[0]} normalised by the model {self.model} ({angles})"

    @override
    def label(self, bands: str) -> str:
        return f"{bands}, normalised ({self.model})"
