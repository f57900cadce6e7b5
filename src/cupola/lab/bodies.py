"""Celestial bodies: which one a coordinate system belongs to, and the tile grids of its maps.

A body is told by the name in its coordinate system or else by the radius of its ellipsoid (the drivers for
ISIS and PDS files give made-up names such as ``Mars_localRadius``, never an IAU code). The Earth's maps are the
usual Web Mercator; those of all other bodies are drawn in metres on the IAU sphere: equirectangular, Mercator, or polar
stereographic around either pole. The sky is a body too, whose metres are arcseconds.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyproj
from typing_extensions import override

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.iau import code_of_wkt, worlds
from cupola.lab.projection import system_of_wkt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import morecantile
    from rasterio.crs import CRS

__all__ = [
    "EARTH",
    "PROJECTIONS",
    "SKY",
    "Body",
    "all_bodies",
    "best_projection",
    "body_named",
    "body_of_crs",
    "body_of_tms",
    "code_of_crs",
    "iau_code",
    "leaflet_crs",
    "tile_matrix_set",
    "tms_name",
]

PROJECTIONS = ("eqc", "merc", "npolar", "spolar")
"""Equirectangular, Mercator, and polar stereographic around the north and the south pole."""

_MAX_ZOOM = 24
_POLAR_LATITUDE = 30.0
"""Down (or up) to which latitude a polar map reaches, in degrees."""
_FAR_NORTH = 60.0
"""Data beyond this latitude are shown around the pole."""
_AT_THE_POLE = 85.0
"""Web Mercator ends here, and an equirectangular map tears everything apart."""

_EARTH_RADII = (6_330_000.0, 6_400_000.0)
_NAME_TOLERANCE = 0.03
_ODD_TOLERANCE = 0.7
"""For bodies below `_ODD`, which are no spheres: maps of Vesta are drawn on 255, 265 or 289 km."""
_ODD = 300_000.0
_ROUND = 150_000.0
"""Bodies of this radius and more are told by it alone: below, too many have the same."""
_RADIUS_TOLERANCE = 0.002


@dataclass(frozen=True)
class Body:
    """A planet, moon or small body; radii in metres."""

    name: str
    radius: float
    """Of the sphere that its maps are drawn on: equatorial for planets, mean or largest for small bodies."""
    smallest: float
    largest: float
    number: int = 0
    """NAIF's, with which the codes of the IAU's coordinate systems begin; 0 for a body that has none."""


def _body(name: str, radius: float, smallest: float | None = None, largest: float | None = None) -> Body:
    """Build a body from radii in kilometres."""
    low, high = smallest or radius, largest or radius
    return Body(name, radius * 1000, min(low, radius) * 1000, max(high, radius) * 1000)


EARTH = Body("Earth", 6_378_137.0, 6_356_752.0, 6_378_388.0, 399)

_ARCSECONDS = math.degrees(1) * 3600
SKY = Body("Sky", _ARCSECONDS, _ARCSECONDS, _ARCSECONDS)
"""The sphere of the sky: an arcsecond of it is a metre long."""

_YOUNGER = (_body("Ryugu", 0.502, 0.438, 0.502), _body("Bennu", 0.2825, 0.245, 0.2825))
"""Bodies that were visited after the IAU's report of 2015; radii after the papers on their shapes."""


@lru_cache(maxsize=1)
def all_bodies() -> dict[str, Body]:
    """Return the bodies known by name: those of the IAU's report of 2015 as PROJ's database has them, and younger ones."""
    found = {EARTH.name: EARTH}
    for world in worlds():
        found.setdefault(world.name, Body(world.name, world.radius, world.polar, world.radius, world.number))
    return found | {body.name: body for body in _YOUNGER}


_WORDS = re.compile(r"[A-Za-z]+")
_UNKNOWN = re.compile(r"Body(\d+)")


def body_named(name: str) -> Body:
    """Return the body called `name`, whatever its capitals.

    Raises
    ------
    NotFoundError
        When no body is known by that name.
    """
    wanted = _slug(name).casefold()
    if wanted in (EARTH.name.casefold(), SKY.name.casefold()):
        # Most maps show these: they need no database.
        return EARTH if wanted == EARTH.name.casefold() else SKY
    for body in all_bodies().values():
        if _slug(body.name).casefold() == wanted:
            return body
    if match := _UNKNOWN.fullmatch(name):
        return _unknown(float(match[1]))
    close = difflib.get_close_matches(name.title(), all_bodies(), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    raise NotFoundError(f"There is no celestial body called {name!r} in Cupola{hint}")


def _slug(name: str) -> str:
    """Return a name as it stands in that of a tile grid: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9-]", "", name)


def body_of_crs(crs: CRS | None) -> Body | None:
    """Return the body that a coordinate system belongs to; nothing where there is no system."""
    if not crs:
        return None
    return _body_of_wkt(crs.to_wkt())


@lru_cache(maxsize=512)
def _body_of_wkt(wkt: str) -> Body | None:
    system = system_of_wkt(wkt)
    if system.ellipsoid is None:
        return None
    radius = system.ellipsoid.semi_major_metre
    if _EARTH_RADII[0] <= radius <= _EARTH_RADII[1]:
        return EARTH
    names = " ".join([system.name, system.ellipsoid.name, *_datum_names(system)]).replace("_", " ")
    words = {word.casefold() for word in _WORDS.findall(names)}
    return _match(radius, words)


def _datum_names(system: pyproj.CRS) -> list[str]:
    return [system.datum.name] if system.datum is not None else []


def _match(radius: float, words: set[str]) -> Body:
    """Choose by name where name and radius roughly agree, else by radius alone."""
    for body in all_bodies().values():
        slack = _NAME_TOLERANCE if body.radius >= _ODD else _ODD_TOLERANCE
        near = body.smallest * (1 - slack) <= radius <= body.largest * (1 + slack)
        if near and {word.casefold() for word in _WORDS.findall(body.name)} <= words:
            return body
    fits = [
        body
        for body in all_bodies().values()
        if body.radius >= _ROUND
        and body.smallest * (1 - _RADIUS_TOLERANCE) <= radius <= body.largest * (1 + _RADIUS_TOLERANCE)
    ]
    if fits:
        return min(fits, key=lambda body: abs(body.radius - radius))
    return _unknown(radius)


def _unknown(radius: float) -> Body:
    """Make a body of its own for a radius that none has."""
    rounded = float(round(radius))
    return Body(f"Body{rounded:.0f}", rounded, rounded, rounded)


def iau_code(crs: CRS | None) -> str | None:
    """Return the code of a coordinate system, such as ``IAU_2015:49910``, whatever its name; nothing if it has none.

    The Earth's systems have codes of their own, so they have none here.
    """
    body = body_of_crs(crs)
    if crs is None or body is None or not body.number or body.name == EARTH.name:
        return None
    return code_of_wkt(crs.to_wkt(), body.number)


def code_of_crs(crs: CRS | None) -> str | None:
    """Return the code of any coordinate system: EPSG's on the Earth, the IAU's elsewhere; nothing if it has none."""
    if not crs:
        return None
    body = body_of_crs(crs)
    return _code_on_earth(crs.to_wkt()) if body is not None and body.name == EARTH.name else iau_code(crs)


@lru_cache(maxsize=512)
def _code_on_earth(wkt: str) -> str | None:
    # PROJ looks through its database for what is alike: half a second where nothing is.
    found = system_of_wkt(wkt).to_authority()
    return ":".join(found) if found is not None else None


def best_projection(box: Sequence[float] | None) -> str:
    """Return the projection that shows a box of west, south, east, north best: around a pole, or equirectangular."""
    if box is None:
        return "eqc"
    south, north = box[1], box[3]
    if south >= _FAR_NORTH or (north > _AT_THE_POLE and south >= _POLAR_LATITUDE):
        return "npolar"
    if north <= -_FAR_NORTH or (south < -_AT_THE_POLE and north <= -_POLAR_LATITUDE):
        return "spolar"
    return "eqc"


def tms_name(body: Body, projection: str = "eqc") -> str:
    """Return the name of the tile grid for `body`; that of the sky is always ``Sky2015car``.

    Raises
    ------
    InputError
        When there is no such projection.
    """
    if projection not in PROJECTIONS:
        raise InputError(f"There is no projection {projection!r}; choose one of {', '.join(PROJECTIONS)}.")
    if body.name == SKY.name:
        return _SKY_GRID
    if body.name == EARTH.name and projection in ("eqc", "merc"):
        return "WebMercatorQuad"
    return f"{_slug(body.name)}2015{projection}"


_TMS_NAME = re.compile(rf"([A-Za-z0-9-]+)2015({'|'.join(PROJECTIONS)})")
_SKY_GRID = "Sky2015car"


@lru_cache(maxsize=256)
def _parse(name: str) -> tuple[Body, str]:
    if name == "WebMercatorQuad":
        return EARTH, "eqc"
    if name == _SKY_GRID:
        return SKY, "eqc"
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


class _Nameless(pyproj.CRS):
    """A coordinate system that is not looked up.

    morecantile puts the system that PROJ finds most alike in the place of a system without a code: for polar maps of the
    Earth that is one of the asteroid 52 Europa.
    """

    @override
    def to_authority(self, auth_name: str | None = None, min_confidence: int = 70) -> None:
        """Return nothing."""


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
        _Nameless(_proj4(body, projection)),
        matrix_scale=[2, 1] if projection == "eqc" else [1, 1],
        maxzoom=_MAX_ZOOM,
        id=name,
        title=f"{body.name}, {projection}",
    )
    return grid


def _extent(body: Body, projection: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top in metres."""
    if projection == "merc":
        return -math.pi * body.radius, -math.pi * body.radius, math.pi * body.radius, math.pi * body.radius
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
    if projection == "merc":
        return f"+proj=merc +lon_0=0 +k=1 +x_0=0 +y_0=0 +R={body.radius:.3f} +units=m +no_defs"
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
