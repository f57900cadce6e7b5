"""Steps over heights: hillshade, slope, aspect, curvature, roughness, contour lines.

What they compute is in `cupola.lab.chains.graph.relief`. Here is what they stand on: the true size of the pixels on the ground,
on any body and grid. Heights may also be radii from the body's centre, as in many planetary models of terrain: a pixel is
then as large as it is at that radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph import relief
from cupola.lab.chains.graph.base import Part, Step, Value, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["Aspect", "Contour", "Hillshade", "Shape", "Slope", "ground", "north_on_map"]

_SHAPES = {
    "curvature": "the curvature of",
    "position_index": "the height above the surroundings of",
    "roughness": "the roughness of",
    "ruggedness": "the ruggedness of",
}
_UNITS = ("degrees", "percent")
_RADIUS = 0.5
"""Heights beyond this share of the body's radius are radii: no mountain is so high, and no radius so small."""


def ground(heights: NDArray[np.float32], context: Context) -> tuple[Any, Any]:
    """Return metres on the ground from column to column and from row to row; arrays that go with `heights`.

    Raises
    ------
    InputError
        When the image has no coordinate system.
    """
    if context.grid is None or context.body is None:
        name = f"{context.item}" if context.item is not None else "the image"
        raise InputError(
            f"Slopes need distances on the ground, which {name} without a coordinate system does not have: "
            "use map() with a function that knows the size of a pixel."
        )
    across, down = _signed(context)
    radius = context.body.radius
    with np.errstate(invalid="ignore"):
        radii = heights > _RADIUS * radius
    if radii.any():
        factor = np.where(radii, heights / np.float32(radius), np.float32(1))
        across, down = across * factor, down * factor
    return across, down


def _signed(context: Context) -> tuple[Any, Any]:
    """Return the spacing, negative where columns run to the left or rows run up, as in many netCDF files."""
    across, down = context.spacing()
    transform = getattr(getattr(getattr(context.grid, "image", None), "placement", None), "transform", None)
    if transform is None or transform.b or transform.d:
        return across, down
    return (-across if transform.a < 0 else across), (-down if transform.e > 0 else down)


def north_on_map(context: Context) -> Any:
    """Return the direction of north on the grid in degrees clockwise from its top: 0, or an array (rows, columns)."""
    grid = context.grid
    if grid is None:
        return 0.0
    placement = getattr(getattr(grid, "image", None), "placement", None)
    plane = getattr(grid, "plane", None) or getattr(placement, "plane", None)
    transform = getattr(placement, "transform", None)
    askew = transform is not None and bool(transform.b or transform.d)
    if plane is not None and plane.period is not None and not askew:
        return 0.0  # meridians run up everywhere
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    half = 0.25
    rise: list[Any] = []
    for x, y, size in zip((half, 0.0), (0.0, half), _signed(context), strict=True):
        one = np.asarray(grid.lonlat((columns - x).ravel(), (rows - y).ravel())[1])
        other = np.asarray(grid.lonlat((columns + x).ravel(), (rows + y).ravel())[1])
        with np.errstate(invalid="ignore"):
            rise.append((other - one).reshape(columns.shape) / size)
    # How far north it goes per metre to the right, and per metre upwards: that is the way to the north.
    return np.degrees(np.arctan2(rise[0], -rise[1])).astype(np.float32)


class _OfHeights(Step):
    """A step that looks at a pixel and its eight neighbours, band by band."""

    arity: ClassVar[int | None] = 1

    @property
    @override
    def halo(self) -> int:
        return 1

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        return np.stack([self._one(band, context) for band in parts[0]])

    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        raise NotImplementedError

    @override
    def label(self, bands: str) -> str:
        return f"{getattr(self, 'name', self.op).replace('_', ' ')} of {bands}"


@step("hillshade")
@dataclass(frozen=True, eq=False)
class Hillshade(_OfHeights):
    """Shaded relief, 1 to 255."""

    azimuth: float = 315.0
    altitude: float = 45.0
    z: float = 1.0

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        made = super().made(inputs, {name: float(value) for name, value in options.items()})
        if not 0 < made.altitude <= 90:  # noqa: PLR2004 - the zenith
            raise InputError(
                f"The light's altitude is above 0 and at most 90 degrees, not {made.altitude:g}."
            )
        if not (np.isfinite(made.azimuth) and np.isfinite(made.z) and made.z != 0):
            raise InputError("The light's azimuth is an angle in degrees, and z a factor other than 0.")
        return made

    @override
    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        across, down = ground(heights, context)
        return relief.hillshade(heights, across, down, self.azimuth, self.altitude, self.z)  # type: ignore[no-any-return]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"the hillshade of {parts[0]}, lit from {self.azimuth:g}° at {self.altitude:g}°"


@step("slope")
@dataclass(frozen=True, eq=False)
class Slope(_OfHeights):
    """How steep the surface is."""

    unit: str = "degrees"

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        made = super().made(inputs, options)
        if made.unit not in _UNITS:
            raise InputError(f"A slope's unit is 'degrees' or 'percent', not {made.unit!r}.")
        return made

    @override
    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return relief.slope(heights, *ground(heights, context), self.unit)  # type: ignore[no-any-return]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"the slope of {parts[0]} in {self.unit}"


@step("aspect")
@dataclass(frozen=True, eq=False)
class Aspect(_OfHeights):
    """Which way the surface falls, clockwise from true north."""

    @override
    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return relief.aspect(heights, *ground(heights, context), north_on_map(context))  # type: ignore[no-any-return]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"the aspect of {parts[0]} in degrees from north"


@step("shape")
@dataclass(frozen=True, eq=False)
class Shape(_OfHeights):
    """A measure of the surface around a pixel: curvature, position index, roughness or ruggedness."""

    name: str = "roughness"

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        made = super().made(inputs, options)
        if made.name not in _SHAPES:
            raise InputError(f"There is no measure {made.name!r}; choose one of {', '.join(_SHAPES)}.")
        return made

    @override
    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        if self.name == "curvature":
            return relief.curvature(heights, *ground(heights, context))  # type: ignore[no-any-return]
        measure = {
            "position_index": relief.position_index,
            "roughness": relief.roughness,
            "ruggedness": relief.ruggedness,
        }
        return measure[self.name](heights)  # type: ignore[no-any-return]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"{_SHAPES[self.name]} {parts[0]}"


@step("contour")
@dataclass(frozen=True, eq=False)
class Contour(_OfHeights):
    """The levels of contour lines where they pass, NaN elsewhere."""

    interval: float = 100.0
    base: float = 0.0

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        made = super().made(inputs, {name: float(value) for name, value in options.items()})
        if not (np.isfinite(made.interval) and made.interval > 0 and np.isfinite(made.base)):
            raise InputError(
                f"The interval of contour lines is a positive number in the unit of the heights, not {made.interval:g}."
            )
        return made

    @override
    def _one(self, heights: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return relief.contour_lines(heights, self.interval, self.base)  # type: ignore[no-any-return]

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"contour lines of {parts[0]} every {self.interval:g}"
