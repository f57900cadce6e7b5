"""Points, lines and areas on a map: GeoJSON, GeoParquet, anything that geopandas reads, GeoDataFrames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets
from ipywidgets import Widget

from cupola.exceptions import CupolaError, InputError, NotFoundError
from cupola.lab import bodies
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from cupola.lab.maps.views import View

__all__ = ["MOST_BYTES", "MOST_FEATURES", "VectorLayer", "is_vectors", "read_vectors"]

MOST_FEATURES = 20_000
"""A browser draws so many smoothly."""
MOST_BYTES = 16_000_000
"""Of GeoJSON that is sent to the browser."""
DETAIL = 4000
"""Shapes keep corners that lie further apart than this part of the whole layer's extent."""
ENDINGS = {".geojson", ".parquet", ".geoparquet", ".gpkg", ".shp", ".fgb", ".kml", ".gml"}
GEOJSON = {
    *("Feature", "FeatureCollection", "GeometryCollection"),
    *("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"),
}
COLOURS = ("#1769c4", "#b3261e", "#2e7d32", "#8e24aa", "#ef6c00", "#00838f")


class VectorLayer(Widget):  # type: ignore[misc]
    """Shapes that a map shows; what they are like is drawn by the browser.

    It is a bare model, without a picture of its own in a cell.
    """

    _model_name = traitlets.Unicode("WidgetModel").tag(sync=True)
    _model_module = traitlets.Unicode("@jupyter-widgets/base").tag(sync=True)
    _model_module_version = traitlets.Unicode("2.0.0").tag(sync=True)

    name = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    """GeoJSON in degrees of the body."""
    count = traitlets.Int().tag(sync=True)
    style = traitlets.Dict().tag(sync=True)
    """Options of Leaflet's paths."""
    word = traitlets.Unicode().tag(sync=True)
    """What was left out of it, for people."""
    visible = traitlets.Bool(default_value=True).tag(sync=True)

    bounds: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; nothing where there are no shapes."""


def is_vectors(thing: Any) -> bool:
    """Tell whether `thing` is something that `read_vectors` reads."""
    if isinstance(thing, Mapping):
        return thing.get("type") in GEOJSON
    if isinstance(thing, (str, Path)):
        return Path(thing).suffix.lower() in ENDINGS
    return hasattr(thing, "__geo_interface__")


def read_vectors(
    thing: Any, view: View, name: str | None = None, style: Mapping[str, Any] | None = None
) -> VectorLayer:
    """Return a layer of the shapes in `thing`.

    Parameters
    ----------
    thing
        A GeoJSON dict, a path, a GeoDataFrame, a shapely geometry or anything with ``__geo_interface__``.
    view
        What the map shows: longitudes and latitudes are those of its body.
    name
        For the list of layers.
    style
        Leaflet's path options: ``color``, ``weight``, ``fillColor``, ``fillOpacity``, ``dashArray`` ...

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        It is no vector data, or lies on another body than the map.
    """
    title, frame = _frame(thing)
    frame = frame[frame.geometry.notna()]
    # Nothing drawn is not an error: a query may find nothing.
    frame = _to_degrees(frame, view)
    total = len(frame)
    frame, words = _limited(frame)
    text, cut = _text(frame)
    if cut:
        words.append(f"{cut:,} shapes were left out as there are too many corners")
    layer = VectorLayer(
        name=name or title,
        text=text,
        count=total,
        word="; ".join(words)
        + ("; cut out what you need, for instance with frame.cx[...]." if words else ""),
        style={"color": COLOURS[0], "weight": 1.5, "fillOpacity": 0.15, **(style or {})},
    )
    if total:
        west, south, east, north = (float(side) for side in frame.total_bounds)
        layer.bounds = (west, south, east, north)
    return layer


def _frame(thing: Any) -> tuple[str, Any]:
    """Return a name and a GeoDataFrame."""
    import geopandas

    if isinstance(thing, geopandas.GeoDataFrame):
        return "Shapes", thing
    if isinstance(thing, geopandas.GeoSeries):
        return "Shapes", geopandas.GeoDataFrame(geometry=thing)
    if isinstance(thing, (str, Path)):
        return _read(Path(thing))
    shape = thing if isinstance(thing, Mapping) else thing.__geo_interface__
    features = _features(shape)
    try:
        frame = geopandas.GeoDataFrame.from_features(features)
    except Exception as error:
        raise InputError(f"This is no GeoJSON that can be drawn: {error}.") from error
    return "Shapes", frame if "geometry" in frame else geopandas.GeoDataFrame(geometry=[])


def _features(shape: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return GeoJSON of any kind as features."""
    if shape.get("type") == "FeatureCollection":
        found = shape.get("features")
    else:
        found = [
            shape
            if shape.get("type") == "Feature"
            else {"type": "Feature", "properties": {}, "geometry": shape}
        ]
    if not isinstance(found, (list, tuple)):
        raise InputError("This is no GeoJSON that can be drawn: its features are no list.")
    return [{**feature, "properties": feature.get("properties") or {}} for feature in found]


def _read(path: Path) -> tuple[str, Any]:
    import geopandas

    if not path.exists():
        raise NotFoundError(f"There is no file {path}.")
    try:
        reads = (
            geopandas.read_parquet
            if path.suffix.lower() in {".parquet", ".geoparquet"}
            else geopandas.read_file
        )
        return path.stem, reads(path)
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be read as vector data: {' '.join(str(error).split())[:200]}."
        ) from error


def _to_degrees(frame: Any, view: View) -> Any:
    """Return the shapes in longitude and latitude of the map's body."""
    import geopandas
    import shapely

    if view.is_image or frame.crs is None:
        return frame
    wkt = frame.crs.to_wkt()
    body = _body(wkt)
    # GeoJSON and many files name the Earth's system whatever the body is: plain degrees are those of the map.
    if body is not None and body.name != view.body.name and not frame.crs.is_geographic:
        raise InputError(
            f"These shapes lie on {body.name}, and the map shows {view.body.name}; put them on a map of their own."
        )
    if frame.crs.is_geographic:
        return frame
    plane = lonlat_of_wkt(wkt)

    def degrees(points: Any) -> Any:
        points[:, 0], points[:, 1] = plane.inverse(points[:, 0], points[:, 1])
        return points

    moved = shapely.transform(frame.geometry.to_numpy(), degrees)
    return geopandas.GeoDataFrame(frame.drop(columns=frame.geometry.name), geometry=moved)


def _body(wkt: str) -> Any:
    from rasterio.crs import CRS

    try:
        return bodies.body_of_crs(CRS.from_wkt(wkt))
    except (CupolaError, ValueError):
        return None


def _limited(frame: Any) -> tuple[Any, list[str]]:
    """Return what a browser can draw of the shapes, and what was left out."""
    words = []
    if len(frame) > MOST_FEATURES:
        words.append(f"{MOST_FEATURES:,} of {len(frame):,} shapes are shown, the largest first")
        size = frame.geometry.area if frame.geometry.area.any() else frame.geometry.length
        frame = frame.loc[size.sort_values(ascending=False, kind="stable").index[:MOST_FEATURES]]
    if not len(frame):
        return frame, words
    west, south, east, north = frame.total_bounds
    step = max(east - west, north - south) / DETAIL
    corners = int(frame.geometry.count_coordinates().sum())
    if step > 0 and corners > MOST_FEATURES * 5:
        frame = frame.copy()
        lines = ~frame.geometry.geom_type.str.contains("Point")
        simple = frame.geometry.simplify(step, preserve_topology=False)
        frame.geometry = frame.geometry.where(~lines, simple)
        frame = frame[~frame.geometry.is_empty]
        words.append(f"outlines are simplified to {step:.2g}°")
    return frame, words


def _text(frame: Any) -> tuple[str, int]:
    """Return shapes as GeoJSON of at most `MOST_BYTES`, and how many did not fit."""
    parts: list[str] = []
    size = 0
    for number, feature in enumerate(frame.iterfeatures(na="null", drop_id=True)):
        text = json.dumps(_rounded(feature), default=str, ensure_ascii=False)
        size += len(text)
        if size > MOST_BYTES:
            return _collection(parts), len(frame) - number
        parts.append(text)
    return _collection(parts), 0


def _collection(parts: list[str]) -> str:
    return '{"type": "FeatureCollection", "features": [' + ",".join(parts) + "]}"


def _rounded(value: Any) -> Any:
    """Return GeoJSON with numbers of at most seven places: 1 cm on the Earth."""
    if isinstance(value, float):
        return round(value, 7) if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - NaN
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
