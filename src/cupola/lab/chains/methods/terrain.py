"""The shape of surfaces: methods of chains whose values are heights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.lab.chains.graph.terrain import Aspect, Contour, Hillshade, Shape, Slope
from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Terrain"]


class Terrain(Methods):
    """What can be told from heights, in metres above a surface or from the body's centre.

    All of these look at a pixel and its eight neighbours, and at the true size of pixels on the ground, on any body and
    grid. What a viewport shows of them depends on its scale: slopes of larger pixels are gentler. ``chain.at(30).slope()``
    computes on pixels of 30 m whoever asks.
    """

    __slots__ = ()

    def hillshade(self, azimuth: float = 315.0, altitude: float = 45.0, z: float = 1.0) -> Self:
        """Return the shaded relief, from 1 (dark) to 255 (facing the light), after Horn (1981) as GDAL's gdaldem.

        Parameters
        ----------
        azimuth
            Where the light comes from, in degrees clockwise from the top of the image.
        altitude
            Of the light above the horizon, above 0 to 90 degrees.
        z
            Factor on the heights: 2 or 5 for gentle landscapes.

        Raises
        ------
        InputError
            When the light is below the horizon, or a value is no number.
        """
        options = {
            "azimuth": number(azimuth, "The light's azimuth is an angle in degrees"),
            "altitude": number(altitude, "The light's altitude is an angle in degrees"),
            "z": number(z, "z is a factor on the heights"),
        }
        return self._next(Hillshade.made((self.step,), options))

    def slope(self, unit: str = "degrees") -> Self:
        """Return how steep the surface is, in ``degrees`` or in ``percent`` (100 is 45 degrees), after Horn (1981).

        Raises
        ------
        InputError
            When the unit is another.
        """
        return self._next(Slope.made((self.step,), {"unit": unit}))

    def aspect(self) -> Self:
        """Return which way the surface falls, in degrees clockwise from true north, 0 up to 360; NaN where it is level.

        North is that of the place, also on polar maps, where it points another way in each pixel.
        """
        return self._next(Aspect((self.step,)))

    def contour(self, interval: float, base: float = 0.0) -> Self:
        """Return contour lines as an image: the level where a line passes, NaN elsewhere.

        Lines are one pixel wide. `contours` gives them as vectors.

        Parameters
        ----------
        interval
            Between two lines, in the unit of the heights.
        base
            A height at which there is a line; the others are whole intervals from it.

        Raises
        ------
        InputError
            When the interval is not positive.
        """
        options = {
            "interval": number(interval, "The interval of contour lines is a positive number"),
            "base": number(base, "The base of contour lines is a height"),
        }
        return self._next(Contour.made((self.step,), options))

    def curvature(self) -> Self:
        """Return the curvature of the surface in 1/m: positive on tops and ridges, negative in hollows, 0 on planes."""
        return self._next(Shape((self.step,), "curvature"))

    def position_index(self) -> Self:
        """Return the topographic position index: the height above the mean of the eight neighbours."""
        return self._next(Shape((self.step,), "position_index"))

    def roughness(self) -> Self:
        """Return the largest difference of heights among a pixel and its eight neighbours."""
        return self._next(Shape((self.step,), "roughness"))

    def ruggedness(self) -> Self:
        """Return the terrain ruggedness index of Riley (1999): the root of the summed squared differences to the neighbours."""
        return self._next(Shape((self.step,), "ruggedness"))
