"""Angles of light and view on the surface of an ellipsoid, for whole images at once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ANGLES", "angles", "surface", "vector"]

ANGLES = ("incidence", "emission", "phase")

_FAR = 1e15
"""Metres (6,700 au) to what is so far that only its direction is known."""

Array = Any  # NDArray[np.float64]


def vector(longitude: float, latitude: float, distance: float | None = None) -> Array:
    """Return the place above longitude and latitude (degrees, planetocentric) at a distance from the centre in metres.

    Without a distance it is so far away that light comes parallel.
    """
    far = _FAR if distance is None else distance
    lon, lat = np.radians(longitude), np.radians(latitude)
    return far * np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def surface(longitude: Array, latitude: Array, radii: tuple[float, float, float]) -> tuple[Array, Array]:
    """Return points of an ellipsoid in metres, and its outward normals: arrays (3, ...).

    Parameters
    ----------
    longitude, latitude
        East and planetocentric, in degrees.
    radii
        Of the ellipsoid along x, y and z, in metres.
    """
    lon, lat = np.radians(longitude), np.radians(latitude)
    outward = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    shape = np.asarray(radii, dtype=np.float64).reshape(3, *[1] * (outward.ndim - 1))
    points = outward / np.sqrt(((outward / shape) ** 2).sum(axis=0))
    normals = points / shape**2
    return points, normals / np.sqrt((normals**2).sum(axis=0))


def angles(
    longitude: Array,
    latitude: Array,
    radii: tuple[float, float, float],
    sun: Array,
    observer: Array | None = None,
) -> dict[str, Array]:
    """Return incidence, emission and phase in degrees.

    Parameters
    ----------
    longitude, latitude
        Of places on the surface: east and planetocentric, in degrees; arrays.
    radii
        Of the body's ellipsoid, in metres.
    sun, observer
        Where they are in the body's own frame, in metres (see `vector`). Without an observer each place is seen from
        straight above.
    """
    points, normals = surface(longitude, latitude, radii)
    to_sun = _unit(_column(sun, points) - points)
    to_observer = normals if observer is None else _unit(_column(observer, points) - points)
    return {
        "incidence": _between(normals, to_sun),
        "emission": _between(normals, to_observer),
        "phase": _between(to_sun, to_observer),
    }


def _column(place: Array, like: Array) -> Array:
    return np.asarray(place, dtype=np.float64).reshape(3, *[1] * (like.ndim - 1))


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors**2).sum(axis=0))


def _between(one: Array, other: Array) -> Array:
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=0), -1, 1)))
