"""Circles on a sphere: the cone of a search on the sky, or the surroundings of a place on a body."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["box_distances", "in_circle", "touches"]

_FULL = 360.0
_HALF = 180.0
_QUARTER = 90.0
_TORN = 150.0
_HAIR = 1e-9
_SAME = 1e-9
_TINY = 1e-12
_POLYGONS = (3, 6)
"""Shapely's numbers for polygons, single and several."""
_STEP = 1.0
"""Degrees between the points that stand for an edge."""


def box_distances(
    boxes: NDArray[np.float64], longitude: float, latitude: float, within: float = np.inf
) -> NDArray[np.float64]:
    """Return how far a point is from boxes of longitude and latitude, in degrees along the sphere.

    Parameters
    ----------
    boxes
        West, south, east, north in degrees (n, 4); west > east across the antimeridian.
    longitude, latitude
        The point in degrees.
    within
        Only such distances count: infinite is as good as any that is larger.

    Returns
    -------
    distances
        0 within a box; NaN where no box is known (n,).
    """
    west, south, east, north = boxes.T
    with np.errstate(invalid="ignore"):
        near = np.maximum(south - latitude, latitude - north) <= within
    if not near.all():
        # Whatever lies north or south of the circle needs no trigonometry.
        distances: NDArray[np.float64] = np.where(np.isnan(west), np.nan, np.inf)
        if near.any():
            distances[near] = box_distances(boxes[near], longitude, latitude)
        return distances
    width = np.where(np.abs(east - west) >= _FULL, _FULL, (east - west) % _FULL)
    ahead = (longitude - west) % _FULL
    # Straight along the meridian where the point lies between the sides of the box.
    above = np.maximum(0.0, np.maximum(south - latitude, latitude - north))
    # Else the nearest place lies on one of the sides, which are meridians.
    sides = [_side_distance(side, south, north, longitude, latitude) for side in (west, east)]
    with np.errstate(invalid="ignore"):
        distance = np.where(ahead <= width, np.minimum(above, np.minimum(*sides)), np.minimum(*sides))
    found: NDArray[np.float64] = np.where(np.isnan(west), np.nan, distance)
    return found


def _side_distance(
    side: NDArray[np.float64],
    south: NDArray[np.float64],
    north: NDArray[np.float64],
    longitude: float,
    latitude: float,
) -> NDArray[np.float64]:
    """Return how far a point is from pieces of meridians, in degrees."""
    apart = np.radians(side - longitude)
    phi = np.radians(latitude)
    foot = np.degrees(np.arctan2(np.sin(phi), np.cos(phi) * np.cos(apart)))
    # A foot beyond the pole lies on the opposite meridian: the nearest end of this one counts then.
    reached = (np.abs(foot) <= _QUARTER) & (foot >= south) & (foot <= north)
    ends = [_angle(apart, phi, np.radians(end)) for end in (south, north)]
    inside = np.where(reached, _angle(apart, phi, np.radians(foot)), np.inf)
    nearest: NDArray[np.float64] = np.minimum(inside, np.minimum(*ends))
    return nearest


def _angle(apart: Any, one: Any, other: Any) -> Any:
    """Return the angle in degrees between points of latitudes `one` and `other`, `apart` in longitude (radians)."""
    half = np.sin((one - other) / 2) ** 2 + np.cos(one) * np.cos(other) * np.sin(apart / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def in_circle(
    boxes: NDArray[np.float64],
    footprint: Callable[[int], Any],
    longitude: float,
    latitude: float,
    radius: float,
) -> NDArray[np.bool_]:
    """Tell which items touch a circle: by their boxes, and only at its edge by what they really cover.

    Parameters
    ----------
    boxes
        West, south, east, north in degrees (n, 4).
    footprint
        Gives the shapely geometry of an item by its number; nothing where only its box is known.
    longitude, latitude, radius
        The circle in degrees.

    Returns
    -------
    touching
        One for each item (n,).
    """
    found = np.zeros(len(boxes), dtype=np.bool_)
    some = np.flatnonzero(_around_the_same_meridian(boxes, longitude, latitude, radius))
    with np.errstate(invalid="ignore"):
        distances = box_distances(boxes[some], longitude, latitude, radius)
        near = distances <= radius
    some, distances = some[near], distances[near]
    found[some] = True
    edge = ~_within(boxes[some], longitude, latitude, radius)
    some, distances = some[edge], distances[edge]
    geometries = np.array([footprint(int(row)) for row in some], dtype=object)
    found[some] = _touching(geometries, boxes[some], distances == 0, (longitude, latitude, radius))
    return found


def _around_the_same_meridian(
    boxes: NDArray[np.float64], longitude: float, latitude: float, radius: float
) -> NDArray[np.bool_]:
    """Tell which boxes may touch a circle by their longitudes and latitudes alone."""
    west, south, east, north = boxes.T
    with np.errstate(invalid="ignore"):
        near = np.maximum(south - latitude, latitude - north) <= radius
        if abs(latitude) + radius >= _QUARTER:
            return np.asarray(near)
        reach = np.degrees(np.arcsin(np.sin(np.radians(radius)) / np.cos(np.radians(latitude)))) + _HAIR
        wide = np.abs(east - west) >= _FULL
        # Counted from the circle's west side, a box begins or ends within the circle, or goes all the way around it.
        width, begin = (east - west) % _FULL, (west - longitude + reach) % _FULL
        result: NDArray[np.bool_] = near & (wide | (begin <= 2 * reach) | (begin + width >= _FULL))
    return result


def _within(
    boxes: NDArray[np.float64], longitude: float, latitude: float, radius: float
) -> NDArray[np.bool_]:
    """Tell which boxes lie wholly in a circle: so does whatever they are drawn around."""
    west, south, east, north = boxes.T
    if radius >= _QUARTER:
        return np.zeros(len(boxes), dtype=np.bool_)
    # Away from the meridian opposite, the farthest place of a box is one of its corners.
    opposite = (longitude + _HALF - west) % _FULL
    result = (np.abs(east - west) < _HALF) & (opposite > (east - west) % _FULL)
    phi = np.radians(latitude)
    for side in (west, east):
        for end in (south, north):
            result &= _angle(np.radians(side - longitude), np.radians(end), phi) <= radius
    return np.asarray(result)


def _touching(
    geometries: NDArray[Any],
    boxes: NDArray[np.float64],
    around: NDArray[np.bool_],
    circle: tuple[float, float, float],
) -> NDArray[np.bool_]:
    """Tell which footprints touch a circle, where their boxes do; `around`: the box holds the circle's middle."""
    # Who says nothing of its footprint, or is its box (whose edges are parallels and no great circles), is near already.
    found = np.ones(len(geometries), dtype=np.bool_)
    given = np.flatnonzero([one is not None and not one.is_empty for one in geometries])
    if not len(given):
        return found
    import shapely

    given = given[~_are_boxes(shapely.area(geometries[given]), boxes[given])]
    flat = np.isin(shapely.get_type_id(geometries[given]), _POLYGONS)
    slow = given[~flat]
    if flat.any():
        given = given[flat]
        nearest, long = _edge_distances(geometries[given], *circle[:2])
        found[given] = nearest <= circle[2]
        # Whether the circle lies within a footprint, only the footprint tells.
        slow = np.concatenate([slow, given[long | (~found[given] & around[given])]])
    for row in slow:
        found[row] = touches(geometries[row], *circle)
    return found


def _are_boxes(areas: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which footprints are nothing but their boxes: nothing within a box has its area, whichever way it is cut."""
    west, south, east, north = boxes.T
    width = np.where(np.abs(east - west) >= _FULL, east - west, (east - west) % _FULL)
    whole = width * (north - south)
    result: NDArray[np.bool_] = np.abs(areas - whole) <= _SAME * np.maximum(1.0, whole)
    return result


def _edge_distances(
    polygons: NDArray[Any], longitude: float, latitude: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return how far a point is from the edges of polygons, and which have edges too long for great circles."""
    import shapely

    parts, of_part = shapely.get_parts(polygons, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    places, of_place = shapely.get_coordinates(rings, return_index=True)
    owner = of_part[of_ring[of_place]]
    vectors = _vectors(places[:, 0], places[:, 1])
    (point,) = _vectors(np.array([longitude]), np.array([latitude]))
    distances = _apart(vectors, point)
    same = of_place[:-1] == of_place[1:]
    start, end = vectors[:-1][same], vectors[1:][same]
    normal = np.cross(start, end)
    length = np.linalg.norm(normal, axis=1)
    # The foot of the point lies on an edge where it is ahead of its start and before its end.
    on = (np.cross(normal, start) @ point >= 0) & (np.cross(end, normal) @ point >= 0) & (length > _TINY)
    beside = np.full(len(start), np.inf)
    beside[on] = np.degrees(np.arcsin(np.clip(np.abs(normal[on] @ point) / length[on], 0.0, 1.0)))
    distances[:-1][same] = np.minimum(distances[:-1][same], beside)
    is_long = np.einsum("ij,ij->i", start, end) < 0
    firsts = np.searchsorted(owner, np.arange(len(polygons)))
    nearest: NDArray[np.float64] = np.minimum.reduceat(distances, firsts)
    long = np.zeros(len(polygons), dtype=np.bool_)
    long[owner[:-1][same][is_long]] = True
    return nearest, long


def _apart(vectors: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles in degrees between unit vectors and one of them."""
    half = np.linalg.norm(vectors - point, axis=1) / 2
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(half, 0.0, 1.0))))


def touches(geometry: Any, longitude: float, latitude: float, radius: float) -> bool:
    """Tell whether a footprint touches a circle; its edges are taken for great circles.

    Parameters
    ----------
    geometry
        A shapely geometry in degrees of longitude and latitude.
    longitude, latitude, radius
        The circle in degrees.
    """
    import shapely

    if geometry.geom_type in ("Point", "MultiPoint"):
        places = shapely.get_coordinates(geometry)
        return bool(np.linalg.norm(_around(places, longitude, latitude), axis=1).min() <= radius)
    dense = _dense(geometry)
    for part in shapely.get_parts(dense):
        if _holds(part, longitude, latitude):
            return True
        if any(
            _line_distance(_around(shapely.get_coordinates(line), longitude, latitude)) <= radius
            for line in _lines(part)
        ):
            return True
    return False


def _lines(part: Any) -> list[Any]:
    return [part.exterior, *part.interiors] if part.geom_type == "Polygon" else [part]


def _holds(part: Any, longitude: float, latitude: float) -> bool:
    """Tell whether a point lies within a polygon that is smaller than half the sphere."""
    import shapely

    if part.geom_type != "Polygon":
        return False
    places = shapely.get_coordinates(part.exterior)
    middle = _vectors(places[:, 0], places[:, 1]).mean(axis=0)
    x, y, z = middle / max(float(np.linalg.norm(middle)), 1e-12)
    ra, dec = float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arcsin(np.clip(z, -1.0, 1.0))))
    flat = shapely.transform(part, lambda places: _around(places, ra, dec))
    where = _around(np.array([[longitude, latitude]]), ra, dec)[0]
    if np.linalg.norm(where) > _QUARTER:
        return False
    if not flat.is_valid:
        flat = shapely.make_valid(flat)
    return bool(flat.intersects(shapely.Point(where)))


def _line_distance(places: NDArray[np.float64]) -> float:
    """Return how far a line is from the middle of the plane, in degrees.

    Distances from the middle are true, however far; but what lies around its antipode is torn apart there, so only
    the ends of such pieces count.
    """
    start, end = places[:-1], places[1:]
    step = end - start
    length = np.maximum((step**2).sum(axis=1), 1e-30)
    share = np.clip(-(start * step).sum(axis=1) / length, 0.0, 1.0)[:, np.newaxis]
    distances = np.linalg.norm(start + share * step, axis=1)
    ends = np.minimum(np.linalg.norm(start, axis=1), np.linalg.norm(end, axis=1))
    return float(np.where(ends > _TORN, ends, distances).min())


def _dense(geometry: Any) -> Any:
    """Return a geometry whose edges have points about every degree, along great circles."""
    import shapely

    def ring(places: NDArray[np.float64]) -> NDArray[np.float64]:
        vectors = _vectors(places[:, 0], places[:, 1])
        pieces = []
        for start, end in pairwise(vectors):
            angle = np.degrees(np.arccos(np.clip(start @ end, -1.0, 1.0)))
            share = np.linspace(0.0, 1.0, max(1, int(angle / _STEP)) + 1)[:-1, np.newaxis]
            chord = start * (1 - share) + end * share
            pieces.append(chord / np.maximum(np.linalg.norm(chord, axis=1, keepdims=True), 1e-12))
        x, y, z = np.concatenate([*pieces, vectors[-1:]]).T
        return np.column_stack([np.degrees(np.arctan2(y, x)), np.degrees(np.arcsin(np.clip(z, -1.0, 1.0)))])

    polygons = []
    for part in shapely.get_parts(geometry):
        if part.geom_type != "Polygon":
            polygons.append(part)
            continue
        rings = [ring(shapely.get_coordinates(line)) for line in (part.exterior, *part.interiors)]
        polygons.append(shapely.Polygon(rings[0], rings[1:]))
    return shapely.GeometryCollection(polygons)


def _vectors(longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    a, d = np.radians(longitudes), np.radians(latitudes)
    return np.column_stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _around(places: NDArray[np.float64], longitude: float, latitude: float) -> NDArray[np.float64]:
    """Return places as degrees east and north of a middle, at their true distance and bearing from it."""
    apart = np.radians(places[:, 0] - longitude)
    phi, middle = np.radians(places[:, 1]), np.radians(latitude)
    distance = _angle(apart, phi, middle)
    bearing = np.arctan2(
        np.sin(apart) * np.cos(phi),
        np.cos(middle) * np.sin(phi) - np.sin(middle) * np.cos(phi) * np.cos(apart),
    )
    return np.column_stack([distance * np.sin(bearing), distance * np.cos(bearing)])
