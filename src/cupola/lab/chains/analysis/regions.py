"""Regions of a vector layer: read from what people have, in longitude and latitude of the body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import BodyError, InputError, NotFoundError

if TYPE_CHECKING:
    import os

    import geopandas
    from numpy.typing import NDArray

    from cupola.lab.bodies import Body

__all__ = ["inside", "read_regions"]


def read_regions(regions: Any, body: Body) -> geopandas.GeoDataFrame:
    """Return regions as a table without a coordinate system: longitude and latitude of `body` in degrees.

    Parameters
    ----------
    regions
        A GeoDataFrame, GeoJSON (as a dictionary), a geometry of shapely, or the path of a file: GeoParquet, or whatever
        geopandas reads. GeoJSON is taken to be in degrees of the body, whichever it is.
    body
        The body that they lie on.

    Raises
    ------
    NotFoundError
        When there is no such file.
    BodyError
        When they lie on another body.
    InputError
        When they cannot be read, or have no areas.
    """
    import geopandas
    import shapely

    if isinstance(regions, geopandas.GeoDataFrame):
        table = regions
    elif isinstance(regions, geopandas.GeoSeries):
        table = regions.to_frame("geometry")
    elif isinstance(regions, shapely.Geometry):
        table = geopandas.GeoDataFrame(geometry=[regions])
    elif isinstance(regions, dict):
        table = _of_geojson(regions)
    elif isinstance(regions, (str, Path)):
        table = _of_file(regions)
    else:
        raise InputError(
            f"Regions are a GeoDataFrame, GeoJSON or the path of a file, not {type(regions).__name__}."
        )
    table = table.reset_index(drop=True)
    placed = _in_degrees(table, body)
    kinds = set(placed.geometry.geom_type[~placed.geometry.isna()])
    if placed.empty or not kinds <= {"Polygon", "MultiPolygon"} or placed.geometry.isna().any():
        said = ", ".join(sorted(kind for kind in kinds if kind)) or "nothing"
        raise InputError(
            f"Statistics need regions with an area (Polygon or MultiPolygon), and these are: {said}."
        )
    placed["geometry"] = shapely.make_valid(placed.geometry.to_numpy())
    return placed.set_geometry("geometry")


def _of_geojson(document: dict[str, Any]) -> geopandas.GeoDataFrame:
    import geopandas
    from shapely.errors import ShapelyError

    try:
        if document.get("type") == "FeatureCollection":
            features = document["features"]
        elif document.get("type") == "Feature":
            features = [document]
        else:
            features = [{"type": "Feature", "properties": {}, "geometry": document}]
        features = [{**one, "properties": one.get("properties") or {}} for one in features]
        return geopandas.GeoDataFrame.from_features(features)
    except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
        raise InputError(f"This is no GeoJSON that can be read ({error}).") from error


def _of_file(path: str | os.PathLike[str]) -> geopandas.GeoDataFrame:
    import geopandas

    file = Path(path).expanduser()
    if not file.exists():
        raise NotFoundError(f"There is no file {file} with regions.")
    try:
        if file.suffix.lower() in (".geojson", ".json"):
            return _of_geojson(json.loads(file.read_text(encoding="utf-8")))
        if file.suffix.lower() in (".parquet", ".geoparquet"):
            return geopandas.read_parquet(file)
        return geopandas.read_file(file)
    except InputError:
        raise
    except Exception as error:  # each driver has errors of its own
        raise InputError(f"The regions in {file} cannot be read: {str(error).splitlines()[0]}.") from error


def _in_degrees(table: geopandas.GeoDataFrame, body: Body) -> geopandas.GeoDataFrame:
    """Bring regions to degrees of the body; those without a system are in degrees already."""
    import geopandas
    import shapely

    from cupola.lab import bodies
    from cupola.lab.projection import lonlat_of_wkt

    geometry = table.geometry.to_numpy()
    properties = table.drop(columns=table.geometry.name)
    if table.crs is not None:
        # A file without a word about its body is said to be in WGS 84 by the libraries.
        named = table.crs.to_epsg() not in (4326, 4979)
        of = bodies.body_of_crs(table.crs) if named else body
        if of is not None and of.name != body.name:
            raise BodyError(
                f"The regions lie on {of.name} and the images show {body.name}: take regions of {body.name}."
            )
        if table.crs.is_projected:
            plane = lonlat_of_wkt(table.crs.to_wkt())

            def degrees(places: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.column_stack(plane.inverse(places[:, 0], places[:, 1]))

            geometry = shapely.transform(geometry, degrees)
    return geopandas.GeoDataFrame(properties, geometry=shapely.force_2d(geometry))


def inside(region: Any, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which places lie in a region or on its border, whichever turn of longitude both are counted from."""
    import shapely

    west, south, east, north = region.bounds
    found = np.zeros(longitudes.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        between = (latitudes >= south) & (latitudes <= north)
        for turn in (-360.0, 0.0, 360.0):
            near = between & (longitudes + turn >= west) & (longitudes + turn <= east)
            if near.any():
                found[near] |= shapely.intersects_xy(region, longitudes[near] + turn, latitudes[near])
    return found
