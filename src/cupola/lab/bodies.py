"""Celestial bodies: which one a coordinate system belongs to, and the tile grids of its maps.

A body is told by the name in its coordinate system or else by the radius of its ellipsoid (the drivers for
ISIS and PDS files give made-up names such as ``Mars_localRadius``, never an IAU code). The Earth's maps are the
usual Web Mercator; those of all other bodies are drawn in metres on the IAU sphere: equirectangular, or polar
stereographic around either pole.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyproj

from cupola.exceptions import InputError, NotFoundError

if TYPE_CHECKING:
    import morecantile
    from rasterio.crs import CRS

__all__ = [
    "BODIES",
    "EARTH",
    "PROJECTIONS",
    "SKY",
    "Body",
    "body_named",
    "body_of_crs",
    "body_of_tms",
    "leaflet_crs",
    "tile_matrix_set",
    "tms_name",
]

PROJECTIONS = ("eqc", "npolar", "spolar")
"""Equirectangular, and polar stereographic around the north and the south pole."""

_MAX_ZOOM = 24
_POLAR_LATITUDE = 30.0
"""Down (or up) to which latitude a polar map reaches, in degrees."""

_EARTH_RADII = (6_330_000.0, 6_400_000.0)
_NAME_TOLERANCE = 0.03
_RADIUS_TOLERANCE = 0.002


@dataclass(frozen=True)
class Body:
    """A planet, moon or small body; radii in metres."""

    name: str
    radius: float
    """Of the sphere that its maps are drawn on: equatorial for planets, mean or largest for small bodies."""
    smallest: float
    largest: float


def _body(name: str, radius: float, smallest: float | None = None, largest: float | None = None) -> Body:
    """Build a body from radii in kilometres."""
    low, high = smallest or radius, largest or radius
    return Body(name, radius * 1000, min(low, radius) * 1000, max(high, radius) * 1000)


EARTH = Body("Earth", 6_378_137.0, 6_356_752.0, 6_378_388.0)

SKY = Body("Sky", *[math.degrees(1) * 3600] * 3)
"""The sphere of the sky: an arcsecond of it is a metre long."""

BODIES: dict[str, Body] = {
    body.name: body
    for body in (
        EARTH,
        _body("Moon", 1737.4),
        _body("Mercury", 2439.4, 2438.26, 2440.53),
        _body("Venus", 6051.8),
        _body("Mars", 3396.19, 3373.19, 3396.19),
        _body("Phobos", 11.08, 9.1, 13.0),
        _body("Deimos", 6.2, 5.1, 7.8),
        _body("Jupiter", 71492, 66854),
        _body("Io", 1821.49, 1815.7, 1829.4),
        _body("Europa", 1560.8, 1559.5, 1562.6),
        _body("Ganymede", 2631.2, 2631.2, 2632.345),
        _body("Callisto", 2410.3, 2409.3, 2410.3),
        _body("Saturn", 60268, 54364),
        _body("Mimas", 198.2, 190.6, 207.8),
        _body("Enceladus", 252.1, 248.3, 256.6),
        _body("Tethys", 531.0, 526.3, 538.4),
        _body("Dione", 561.4, 559.6, 563.4),
        _body("Rhea", 763.5, 762.4, 765.0),
        _body("Titan", 2575.0, 2574.47, 2575.15),
        _body("Hyperion", 135.0, 102.7, 180.1),
        _body("Iapetus", 734.3, 712.1, 745.7),
        _body("Phoebe", 106.5, 101.8, 109.4),
        _body("Uranus", 25559, 24973),
        _body("Miranda", 235.8, 232.9, 240.4),
        _body("Ariel", 578.9, 577.7, 581.1),
        _body("Umbriel", 584.7),
        _body("Titania", 788.9),
        _body("Oberon", 761.4),
        _body("Neptune", 24764, 24341),
        _body("Triton", 1352.6),
        _body("Pluto", 1188.3),
        _body("Charon", 606.0),
        _body("Ceres", 470.0, 446.0, 487.3),
        _body("Vesta", 289.0, 229.0, 289.0),
        _body("Lutetia", 62.0, 46.5, 62.0),
        _body("Eros", 8.45, 5.5, 17.0),
        _body("Itokawa", 0.1615, 0.104, 0.268),
        _body("Ryugu", 0.502, 0.438, 0.502),
        _body("Bennu", 0.2825, 0.2450, 0.2825),
    )
}
"""The bodies known by name; radii after the IAU working group's report of 2015."""

_WORDS = re.compile(r"[A-Za-z]+")
_UNKNOWN = re.compile(r"Body(\d+)")


def body_named(name: str) -> Body:
    """Return the body called `name`, whatever its capitals.

    Raises
    ------
    NotFoundError
        When no body is known by that name.
    """
    wanted = name.strip().casefold()
    for body in BODIES.values():
        if body.name.casefold() == wanted:
            return body
    if match := _UNKNOWN.fullmatch(name):
        return _unknown(float(match[1]))
    near = difflib.get_close_matches(name.title(), BODIES, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise NotFoundError(f"There is no celestial body called {name!r} in Cupola{hint}")


def body_of_crs(crs: CRS | None) -> Body | None:
    """Return the body that a coordinate system belongs to; nothing where there is no system."""
    if not crs:
        return None
    return _body_of_wkt(crs.to_wkt())


@lru_cache(maxsize=512)
def _body_of_wkt(wkt: str) -> Body | None:
    system = pyproj.CRS.from_wkt(wkt)
    if system.ellipsoid is None:
        return None
    radius = system.ellipsoid.semi_major_metre
    if _EARTH_RADII[0] <= radius <= _EARTH_RADII[1]:
        return EARTH
    geodetic = system.geodetic_crs
    names = " ".join(
        [system.name, system.ellipsoid.name, geodetic.name if geodetic else "", *_datum_names(system)]
    ).replace("_", " ")
    words = {word.casefold() for word in _WORDS.findall(names)}
    return _match(radius, words)


def _datum_names(system: pyproj.CRS) -> list[str]:
    return [system.datum.name] if system.datum is not None else []


def _match(radius: float, words: set[str]) -> Body:
    """Choose by name where name and radius roughly agree, else by radius alone."""
    for body in BODIES.values():
        near = body.smallest * (1 - _NAME_TOLERANCE) <= radius <= body.largest * (1 + _NAME_TOLERANCE)
        if near and body.name.casefold() in words:
            return body
    fits = [
        body
        for body in BODIES.values()
        if body.smallest * (1 - _RADIUS_TOLERANCE) <= radius <= body.largest * (1 + _RADIUS_TOLERANCE)
    ]
    if fits:
        return min(fits, key=lambda body: abs(body.radius - radius))
    return _unknown(radius)


def _unknown(radius: float) -> Body:
    """Make a body of its own for a radius that none has."""
    rounded = float(round(radius))
    return Body(f"Body{rounded:.0f}", rounded, rounded, rounded)


def tms_name(body: Body, projection: str = "eqc") -> str:
    """Return the name of the tile grid for `body`.

    Raises
    ------
    InputError
        When there is no such projection.
    """
    if projection not in PROJECTIONS:
        raise InputError(f"There is no projection {projection!r}; choose one of {', '.join(PROJECTIONS)}.")
    if body.name == EARTH.name and projection == "eqc":
        return "WebMercatorQuad"
    return f"{body.name}2015{projection}"


_TMS_NAME = re.compile(rf"([A-Za-z]+|Body\d+)2015({'|'.join(PROJECTIONS)})")


@lru_cache(maxsize=256)
def _parse(name: str) -> tuple[Body, str]:
    if name == "WebMercatorQuad":
        return EARTH, "eqc"
    match = _TMS_NAME.fullmatch(name)
    if match is None:
        raise NotFoundError(
            f"There is no tile grid called {name!r}; names look like 'WebMercatorQuad' or 'Mars2015eqc'."
        )
    return body_named(match[1]), match[2]


def body_of_tms(name: str) -> Body:
    """Return the body that a tile grid belongs to.

    Raises
    ------
    NotFoundError
        When there is no such grid.
    """
    return _parse(name)[0]


@lru_cache(maxsize=256)
def tile_matrix_set(name: str) -> morecantile.TileMatrixSet:
    """Return the tile grid called `name`, such as ``WebMercatorQuad``, ``Moon2015eqc`` or ``Mars2015npolar``.

    Raises
    ------
    NotFoundError
        When there is no such grid.
    """
    import morecantile

    body, projection = _parse(name)
    if name == "WebMercatorQuad":
        return morecantile.tms.get(name)
    left, bottom, right, top = _extent(body, projection)
    grid: morecantile.TileMatrixSet = morecantile.TileMatrixSet.custom(
        [left, bottom, right, top],
        pyproj.CRS.from_proj4(_proj4(body, projection)),
        matrix_scale=[2, 1] if projection == "eqc" else [1, 1],
        maxzoom=_MAX_ZOOM,
        id=name,
        title=f"{body.name}, {projection}",
    )
    return grid


def _extent(body: Body, projection: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top in metres."""
    if projection == "eqc":
        return (
            -math.pi * body.radius,
            -math.pi * body.radius / 2,
            math.pi * body.radius,
            math.pi * body.radius / 2,
        )
    reach = 2 * body.radius * math.tan(math.radians(90 - _POLAR_LATITUDE) / 2)
    return -reach, -reach, reach, reach


def _proj4(body: Body, projection: str) -> str:
    if projection == "eqc":
        return f"+proj=eqc +lat_ts=0 +lon_0=0 +x_0=0 +y_0=0 +R={body.radius:.3f} +units=m +no_defs"
    pole = 90 if projection == "npolar" else -90
    return f"+proj=stere +lat_0={pole} +lon_0=0 +k=1 +x_0=0 +y_0=0 +R={body.radius:.3f} +units=m +no_defs"


def leaflet_crs(body: Body, projection: str = "eqc") -> dict[str, Any]:
    """Return what ``ipyleaflet.Map(crs=...)`` needs to show the tiles of this body's grid.

    The numbers are those of `tile_matrix_set`, in metres: Leaflet draws ``+proj=longlat`` in metres wrongly.
    """
    name = tms_name(body, projection)
    if name == "WebMercatorQuad":
        return {"name": "EPSG3857", "custom": False}
    grid = tile_matrix_set(name)
    left, bottom, right, top = _extent(body, projection)
    return {
        "name": name,
        "custom": True,
        "proj4def": _proj4(body, projection),
        "origin": [left, top],
        "bounds": [[left, bottom], [right, top]],
        "resolutions": [grid.matrix(zoom).cellSize for zoom in range(_MAX_ZOOM + 1)],
    }
