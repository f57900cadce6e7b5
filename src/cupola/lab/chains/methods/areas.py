"""Methods of chains that compute for an area or along a line: zonal statistics, contour lines, profiles, views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.lab.chains.methods.base import Methods, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import geopandas
    import pandas as pd
    import xarray

    from cupola.lab.chains.analysis.zonal import Zonal

__all__ = ["Areas"]


class Areas(Methods):
    """What a chain is worth in regions and along lines."""

    __slots__ = ()

    def zonal(
        self,
        regions: Any,
        stats: str | Sequence[str] = ("mean", "min", "max", "std", "count"),
        *,
        metres: float | None = None,
        by: str | None = None,
        by_area: bool = True,
    ) -> Zonal:
        """Return statistics in the regions of a vector layer, not computed yet.

        ``.compute()`` gives a GeoDataFrame, ``.run(name)`` a job that writes it as GeoParquet and CSV. A pixel belongs to a
        region when its centre lies in it or on its border.

        Parameters
        ----------
        regions
            Polygons: a GeoDataFrame, GeoJSON, a geometry of shapely or the path of a file, in degrees of the body (or in a
            coordinate system of it).
        stats
            Of ``mean``, ``min``, ``max``, ``std``, ``count``, ``sum``, ``median``, ``percentile_90`` (any from 0 to 100) and
            ``area`` (of the pixels with data, in m²).
        metres
            Size of the pixels; full resolution where nothing is said.
        by
            ``"item"`` for one row per region and image, a time series; else all images together, the newest on top.
        by_area
            Whether mean and standard deviation count a pixel by its area on the ground; medians and percentiles do not.

        Raises
        ------
        NotFoundError
            When there is no such file.
        BodyError
            When the regions lie on another body.
        InputError
            When there is no such statistic, or the regions cannot be read.
        """
        from cupola.lab.chains.analysis.zonal import zonal

        return zonal(self, regions, stats, metres=metres, by=by, by_area=by_area)  # type: ignore[arg-type]

    def contours(
        self,
        interval: float,
        *,
        base: float = 0.0,
        bbox: Iterable[float] | None = None,
        metres: float | None = None,
    ) -> geopandas.GeoDataFrame:
        """Return contour lines as vectors, computed at once.

        Parameters
        ----------
        interval
            Between two lines, in the unit of the values.
        base
            A height at which there is a line.
        bbox
            West, south, east, north in degrees; all images where nothing is said.
        metres
            Size of the pixels through which lines are drawn; full resolution where nothing is said.

        Returns
        -------
        lines
            One row per line with its ``level``; longitude and latitude of the body. Higher ground lies on the left.

        Raises
        ------
        NotFoundError
            When no image lies there.
        LimitError
            When there are too many pixels or lines.
        InputError
            When the interval is not positive, or the chain has several bands.
        """
        from cupola.lab.chains.analysis.contours import contours

        what = "The interval of contour lines is a positive number in the unit of the values"
        return contours(
            self,  # type: ignore[arg-type]
            number(interval, what, 1e-12),
            base=number(base, "The base of contour lines is a height"),
            bbox=bbox,
            metres=metres,
        )

    def profile(self, line: Sequence[tuple[float, float]], *, metres: float | None = None) -> pd.DataFrame:
        """Return the values along a line, computed at once.

        Parameters
        ----------
        line
            Places as (longitude, latitude) in degrees, at least two, joined by great circles; or a LineString of shapely.
        metres
            From one place to the next, and size of the pixels; the image's own pixels where nothing is said.

        Returns
        -------
        table
            ``distance`` in metres from the beginning, ``longitude``, ``latitude`` and ``value`` (``value_1`` ... for several
            bands), NaN where there is no data.

        Raises
        ------
        NotFoundError
            When no image lies at any of the places.
        LimitError
            When the line is too long for the size of the pixels.
        """
        from cupola.lab.chains.analysis.views import profile

        return profile(self, line, metres=metres)  # type: ignore[arg-type]

    def viewshed(  # noqa: PLR0913 - a place, an eye and how far
        self,
        longitude: float,
        latitude: float,
        *,
        height: float = 2.0,
        target: float = 0.0,
        radius: float = 10_000.0,
        metres: float | None = None,
        refraction: float = 0.0,
    ) -> xarray.DataArray:
        """Return what is seen from a place of a chain of heights, computed at once: 1 seen, 0 hidden, NaN not looked at.

        The curvature of the body counts: the sea ends at the horizon.

        Parameters
        ----------
        longitude, latitude
            Of the place, in degrees.
        height
            Of the eye above the ground, in metres.
        target
            Of what is looked at above its own ground, in metres.
        radius
            How far to look, in metres.
        metres
            Size of the pixels; those of the image where nothing is said.
        refraction
            How much the air bends the light, as a share of the curvature: about 0.13 on the Earth.

        Returns
        -------
        seen
            (band, y, x) in a plane around the place in which distances and directions from it are true; `attrs` has its
            ``crs`` and ``transform``.

        Raises
        ------
        NotFoundError
            When there is no height at the place.
        LimitError
            When there are too many pixels.
        """
        from cupola.lab.chains.analysis.views import viewshed

        return viewshed(
            self,  # type: ignore[arg-type]
            number(longitude, "The longitude is a number of degrees", -360, 360),
            number(latitude, "The latitude is a number of degrees", -90, 90),
            height=number(height, "The height of the eye is a number of metres"),
            target=number(target, "The height of the target is a number of metres"),
            radius=number(radius, "radius is a number of metres"),
            metres=None
            if metres is None
            else number(metres, "The size of pixels is a positive number of metres", 1e-6),
            refraction=number(refraction, "refraction is a share from 0 to 0.9", 0, 0.9),
        )
