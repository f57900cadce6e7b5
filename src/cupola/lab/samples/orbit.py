"""Where a push-broom instrument on a polar orbit looks: a circular orbit over a turning sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Swath", "fly"]

Doubles = NDArray[np.float64]

_EARTH_KM = 6371.0
_ALTITUDE_KM = 824.0
_INCLINATION = np.radians(98.74)
_PERIOD_S = 101.5 * 60
_DAY_S = 86_164.1


@dataclass(frozen=True)
class Swath:
    """Geometry of the ground pixels (scanline, ground_pixel); angles in degrees."""

    latitude: Doubles
    longitude: Doubles
    latitude_bounds: Doubles
    """(scanline, ground_pixel, 4): the corners, counter-clockwise."""
    longitude_bounds: Doubles
    viewing_zenith: Doubles
    satellite_latitude: Doubles
    """(scanline,)"""
    satellite_longitude: Doubles


def fly(*, scanlines: int, pixels: int, seconds: float, crossing: float, middle: float) -> Swath:
    """Return the swath of a pass northwards.

    Parameters
    ----------
    scanlines, pixels
        Of the swath; pixels cover 52 degrees to either side of the track.
    seconds
        From one scanline to the next.
    crossing
        Longitude of the track where it crosses the equator.
    middle
        Latitude in the middle of the pass.
    """
    start = np.arcsin(np.sin(np.radians(middle)) / np.sin(_INCLINATION)) * _PERIOD_S / (2 * np.pi)
    times = start + (np.arange(scanlines) - (scanlines - 1) / 2) * seconds
    scan = np.radians(np.linspace(-52, 52, 2 * pixels + 1))
    latitude, longitude = _look(times, scan[1::2], crossing)
    edges = np.concatenate([times - seconds / 2, times[-1:] + seconds / 2])
    corner_lat, corner_lon = _look(edges, scan[::2], crossing)
    below_lat, below_lon = _look(times, np.zeros(1), crossing)
    slant = np.arcsin((_EARTH_KM + _ALTITUDE_KM) / _EARTH_KM * np.sin(np.abs(scan[1::2])))
    return Swath(
        latitude=latitude,
        longitude=longitude,
        latitude_bounds=_corners(corner_lat),
        longitude_bounds=_corners(corner_lon),
        viewing_zenith=np.broadcast_to(np.degrees(slant), latitude.shape),
        satellite_latitude=below_lat[:, 0],
        satellite_longitude=below_lon[:, 0],
    )


def _look(times: Doubles, scan: Doubles, crossing: float) -> tuple[Doubles, Doubles]:
    """Return latitude and longitude where lines of sight meet the ground; shape (times, scan)."""
    u = 2 * np.pi * times / _PERIOD_S
    cos_i, sin_i = np.cos(_INCLINATION), np.sin(_INCLINATION)
    up = np.stack([np.cos(u), np.sin(u) * cos_i, np.sin(u) * sin_i], axis=-1)
    # Across the track, to the right: with the satellite going north that is east.
    right = np.broadcast_to(np.array([0.0, sin_i, -cos_i]), up.shape)
    # Angle at the Earth's centre, from the triangle satellite - ground - centre.
    slant = np.arcsin((_EARTH_KM + _ALTITUDE_KM) / _EARTH_KM * np.sin(scan))
    centre = slant - scan
    ground = up[:, None] * np.cos(centre)[None, :, None] + right[:, None] * np.sin(centre)[None, :, None]
    latitude = np.degrees(np.arcsin(ground[..., 2]))
    turned = np.degrees(np.arctan2(ground[..., 1], ground[..., 0])) - (360 * times / _DAY_S)[:, None]
    longitude = (turned + crossing + 180) % 360 - 180
    return latitude, longitude


def _corners(grid: Doubles) -> Doubles:
    return np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=-1)
