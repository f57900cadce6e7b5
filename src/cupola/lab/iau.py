"""The bodies and coordinate systems of the IAU's report of 2015, from PROJ's own database.

Drivers for ISIS and PDS files make up names for coordinate systems; a system is recognised by what it does to places
instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
from pyproj.database import query_crs_info
from pyproj.enums import PJType

from cupola.lab.projection import LonLat, lonlat_of_wkt, system_of_wkt

__all__ = ["World", "code_of_wkt", "worlds"]

AUTHORITY = "IAU_2015"
_BODY_DIGITS = 100
_SAME = 1e-9
"""How far two systems may put a place apart and still be one, in radii of the body."""
_RADII = 1e-6


@dataclass(frozen=True)
class World:
    """A body of the database; radii in metres."""

    name: str
    number: int
    """NAIF's number: codes of its systems are this, and two digits."""
    radius: float
    """Of the sphere that the IAU's maps are drawn on."""
    polar: float
    """The smallest of its ellipsoids."""


@lru_cache(maxsize=1)
def worlds() -> tuple[World, ...]:
    """Return all bodies; those with a number before their name (asteroids that share it with a moon) come last."""
    kinds = [PJType.GEODETIC_CRS, PJType.GEOGRAPHIC_2D_CRS]
    radii: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    for info in query_crs_info(auth_name=AUTHORITY, pj_types=kinds):
        ellipsoid = pyproj.CRS.from_authority(AUTHORITY, info.code).ellipsoid
        if ellipsoid is None:
            continue
        name, (number, kind) = info.name.partition(" (2015)")[0], divmod(int(info.code), _BODY_DIGITS)
        radii.setdefault((name, number), []).append(
            (kind, ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre)
        )
    found = [
        World(name, number, min(systems)[1], min(polar for _, _, polar in systems))
        for (name, number), systems in radii.items()
    ]
    return tuple(sorted(found, key=lambda world: world.name[0].isdigit()))


@lru_cache(maxsize=128)
def _systems(number: int) -> tuple[tuple[str, str], ...]:
    """Return code and method of all systems of a body, spheres before ellipsoids."""
    kinds = [PJType.GEODETIC_CRS, PJType.GEOGRAPHIC_2D_CRS, PJType.PROJECTED_CRS]
    found = []
    for info in query_crs_info(auth_name=AUTHORITY, pj_types=kinds):
        if int(info.code) // _BODY_DIGITS == number:
            operation = pyproj.CRS.from_authority(AUTHORITY, info.code).coordinate_operation
            found.append((info.code, _method(operation.method_name if operation is not None else "")))
    return tuple(sorted(found, key=lambda pair: int(pair[0])))


def _method(name: str) -> str:
    """Return the first words of a method: databases differ in the rest, such as ``(variant B)``."""
    return re.split(r"\(|Conformal|Azimuthal| 1SP| 2SP", name)[0].strip()


@lru_cache(maxsize=512)
def code_of_wkt(wkt: str, number: int) -> str | None:
    """Return ``IAU_2015:CODE`` of a coordinate system of the body with this number; nothing if it is none of them."""
    system = system_of_wkt(wkt)
    # Looking for a code by what a system is takes PROJ the better part of a second: only one that names it is asked.
    known = system.to_authority() if '"IAU' in wkt else None
    if known is not None and known[0] == AUTHORITY:
        return ":".join(known)
    operation = system.coordinate_operation
    method = _method(operation.method_name if operation is not None else "")
    mine = lonlat_of_wkt(wkt)
    for code, other in _systems(number):
        if other != method:
            continue
        candidate = pyproj.CRS.from_authority(AUTHORITY, code)
        if _same_ellipsoid(system, candidate) and _same_places(
            mine, lonlat_of_wkt(candidate.to_wkt()), system
        ):
            return f"{AUTHORITY}:{code}"
    return None


def _same_ellipsoid(one: pyproj.CRS, other: pyproj.CRS) -> bool:
    first, second = one.ellipsoid, other.ellipsoid
    if first is None or second is None:
        return False
    radius = float(second.semi_major_metre)
    return bool(
        abs(first.semi_major_metre - radius) < _RADII * radius
        and abs(first.semi_minor_metre - second.semi_minor_metre) < _RADII * radius
    )


def _same_places(one: LonLat, other: LonLat, system: pyproj.CRS) -> bool:
    """Whether two systems put places all over the body at the same coordinates."""
    longitudes, latitudes = (
        part.ravel() for part in np.meshgrid(np.arange(-170.0, 180.0, 35.0), np.arange(-75.0, 80.0, 30.0))
    )
    first, second = (
        np.stack(one.forward(longitudes, latitudes)),
        np.stack(other.forward(longitudes, latitudes)),
    )
    good = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(np.isfinite(first), np.isfinite(second)) or not good.any():
        return False
    length = (
        360.0
        if system.is_geographic or system.ellipsoid is None
        else float(system.ellipsoid.semi_major_metre)
    )
    return bool(np.abs(first[good] - second[good]).max() < _SAME * length)
