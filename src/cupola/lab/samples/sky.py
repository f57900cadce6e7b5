"""A made-up field of stars with a spiral galaxy: two overlapping frames, turned against one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from cupola.lab.samples import stac
from cupola.lab.samples.noise import Floats, blur, fractal, generator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ABOUT", "write"]

ABOUT = stac.Collected(
    id="sky-mosaic",
    title="Sky mosaic with a spiral galaxy",
    description=(
        "A made-up field of the sky in two overlapping, slightly turned frames (FITS, gnomonic projection TAN, "
        "ICRS): some thousand stars, a spiral galaxy and its companion, faint galaxies far away, noise, and a "
        "few cosmic rays. Values are electrons per second."
    ),
    keywords=("astronomy", "fits", "wcs", "galaxy", "stars"),
)

Doubles = NDArray[np.float64]

_CENTRE = (150.36, 2.18)
"""Right ascension and declination in degrees."""
_SCALE = 0.4 / 3600
"""Degrees per pixel."""
_EXPOSURE_S = 600.0


@dataclass(frozen=True)
class _Frame:
    name: str
    time: str
    shift: tuple[float, float]
    """East and north of the centre, in shares of a frame's side."""
    turn: float
    """Position angle in degrees."""
    seeing: float
    """Width of a star's image at half its height, in pixels."""


_FRAMES = (
    _Frame("frame-1", "2026-02-11T01:14:40Z", (0.19, 0.06), 0.0, 2.3),
    _Frame("frame-2", "2026-02-11T01:26:05Z", (-0.21, -0.05), 7.5, 2.7),
)


def write(folder: Path, *, side: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    side
        Rows and columns of a frame.
    """
    for frame in _FRAMES:
        wcs = _wcs(frame, side)
        _write_frame(folder / frame.name, frame, wcs, _expose(frame, wcs, side))
        yield f"the sky's {frame.name}"
    stac.write_collection(folder, ABOUT)


def _wcs(frame: _Frame, side: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    reach = side * _SCALE
    wcs.wcs.crval = [
        _CENTRE[0] + frame.shift[0] * reach / np.cos(np.radians(_CENTRE[1])),
        _CENTRE[1] + frame.shift[1] * reach,
    ]
    wcs.wcs.crpix = [side / 2 + 0.5, side / 2 + 0.5]
    a = np.radians(frame.turn)
    wcs.wcs.cd = _SCALE * np.array([[-np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]])
    wcs.wcs.set()
    return wcs


def _expose(frame: _Frame, wcs: WCS, side: int) -> Floats:
    """Return what the camera reads in electrons per second, (rows, columns)."""
    y, x = np.mgrid[:side, :side]
    ra, dec = wcs.all_pix2world(x, y, 0)
    # East and north of the field's centre, in arc seconds.
    east = (ra - _CENTRE[0]) * np.cos(np.radians(_CENTRE[1])) * 3600
    north = (dec - _CENTRE[1]) * 3600
    light = _galaxy(east, north, side).astype(np.float32)
    light += _far_galaxies(wcs, side)
    light = blur(light, frame.seeing / 2.355)
    light += _stars(wcs, frame.seeing, side)
    rng = generator("camera", frame.name, side)
    sky = 2.1 + 0.015 * fractal(rng, (side, side), 2.5)
    electrons = rng.poisson(np.maximum(light + sky, 0) * _EXPOSURE_S) + rng.normal(0, 6, light.shape)
    values = electrons / _EXPOSURE_S - 2.1
    for _ in range(max(2, side // 40)):
        row, column = rng.uniform(0, side, 2)
        path = np.arange(int(rng.uniform(1, 14)))
        angle = rng.uniform(0, 2 * np.pi)
        rows = np.clip(np.rint(row + path * np.sin(angle)), 0, side - 1).astype(int)
        columns = np.clip(np.rint(column + path * np.cos(angle)), 0, side - 1).astype(int)
        values[rows, columns] += rng.uniform(3, 40)
    return values.astype(np.float32)


def _galaxy(east: Doubles, north: Doubles, side: int) -> Doubles:
    """Return a spiral galaxy seen at an angle: bulge, disc, two arms with knots and dust, and a companion."""
    size = 0.13 * side * _SCALE * 3600
    angle, flat = np.radians(35), 0.56
    major = east * np.sin(angle) + north * np.cos(angle)
    minor = (east * np.cos(angle) - north * np.sin(angle)) / flat
    radius = np.hypot(major, minor) / size
    phi = np.arctan2(minor, major)
    # Arms are logarithmic spirals: their angle grows with the logarithm of the radius.
    wind = np.log(np.maximum(radius, 0.02)) / np.tan(np.radians(17))
    arms = np.exp(5 * (np.cos(2 * (phi - wind)) - 1))
    dust = 1 - 0.55 * np.exp(9 * (np.cos(2 * (phi - wind + 0.28)) - 1)) * (radius > 0.12)
    knots = _clumps(major, minor, size)
    disc = 9 * np.exp(-radius / 0.42)
    bulge = 34 * np.exp(
        -2.6 * np.maximum(np.hypot(major, 0.75 * minor * flat / 0.6) / (0.12 * size), 1e-3) ** 0.55
    )
    spiral = disc * (0.35 + 1.5 * arms * (0.55 + 0.9 * knots)) * dust
    edge = 1 / (1 + np.exp((radius - 2.1) / 0.16))
    away = np.hypot(east + 1.25 * size, north - 1.5 * size) / (0.3 * size)
    companion = 16 * np.exp(-3.2 * np.maximum(away, 1e-3) ** 0.6)
    result: Doubles = spiral * edge + bulge + companion
    return result


def _clumps(major: Doubles, minor: Doubles, size: float) -> Doubles:
    """Return the clumpiness of young stars, fixed to the galaxy so that all frames agree."""
    grid = 512
    noise = fractal(generator("knots"), (grid, grid), 1.25, largest=60)
    knots = np.exp(1.1 * noise)
    i = ((major / (5 * size) + 0.5) * grid).astype(int).clip(0, grid - 1)
    j = ((minor / (5 * size) + 0.5) * grid).astype(int).clip(0, grid - 1)
    result: Doubles = knots[i, j] / knots.mean()
    return result


def _catalogue(name: str, side: int, count: int) -> tuple[np.random.Generator, Doubles, Doubles]:
    """Return right ascension and declination of things all over the field."""
    rng = generator(name, side)
    reach = 1.1 * side * _SCALE
    ra = _CENTRE[0] + rng.uniform(-reach, reach, count)
    dec = _CENTRE[1] + rng.uniform(-reach, reach, count)
    return rng, ra, dec


def _stars(wcs: WCS, seeing: float, side: int) -> Floats:
    """Return the stars: many faint and few bright ones, each a Moffat profile, the brightest with spikes."""
    rng, ra, dec = _catalogue("stars", side, side * side // 420)
    flux = 2.2 * (1 - rng.uniform(0, 1 - 1e-5, len(ra))) ** (-1 / 1.05)
    flux = np.minimum(flux, 30_000)
    x, y = wcs.all_world2pix(ra, dec, 0)
    image = np.zeros((side, side), dtype=np.float32)
    beta = 2.9
    width = seeing / (2 * np.sqrt(2 ** (1 / beta) - 1))
    for column, row, light in zip(x, y, flux, strict=True):
        reach = int(min(60, 6 + 2.2 * light**0.36))
        top, left = int(row) - reach, int(column) - reach
        bottom, right = top + 2 * reach + 1, left + 2 * reach + 1
        if bottom <= 0 or right <= 0 or top >= side or left >= side:
            continue
        window = np.s_[max(0, top) : min(side, bottom), max(0, left) : min(side, right)]
        dy = np.arange(max(0, top), min(side, bottom))[:, None] - row
        dx = np.arange(max(0, left), min(side, right))[None, :] - column
        profile = (1 + (dy**2 + dx**2) / width**2) ** -beta * (beta - 1) / (np.pi * width**2)
        if light > 900:
            long = np.exp(-np.hypot(dx, dy) / (0.35 * reach))
            profile = profile + 0.0011 * long * (np.exp(-(dx**2) / 1.1) + np.exp(-(dy**2) / 1.1))
        image[window] += (light * profile).astype(np.float32)
    return image


def _far_galaxies(wcs: WCS, side: int) -> Floats:
    """Return small galaxies far behind: ellipses of every direction."""
    rng, ra, dec = _catalogue("far", side, side * side // 5200)
    x, y = wcs.all_world2pix(ra, dec, 0)
    image = np.zeros((side, side), dtype=np.float32)
    half = 14
    for column, row in zip(x, y, strict=True):
        size, flat, angle = rng.uniform(0.7, 2.3), rng.uniform(0.3, 1), rng.uniform(0, np.pi)
        light = 0.5 * rng.pareto(1.3) + 0.25
        top, left = int(row) - half, int(column) - half
        if top < 0 or left < 0 or top + 2 * half >= side or left + 2 * half >= side:
            continue
        dy, dx = np.mgrid[: 2 * half + 1, : 2 * half + 1].astype(float)
        dy, dx = dy + top - row, dx + left - column
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = (dy * np.cos(angle) - dx * np.sin(angle)) / flat
        image[top : top + 2 * half + 1, left : left + 2 * half + 1] += np.float32(min(light, 12)) * np.exp(
            -np.hypot(u, v) / size
        )
    return image


def _write_frame(target: Path, frame: _Frame, wcs: WCS, values: Floats) -> None:
    target.mkdir()
    header: Any = wcs.to_header()
    header["BUNIT"] = ("electron/s", "sky subtracted")
    header["EXPTIME"] = (_EXPOSURE_S, "[s]")
    header["FILTER"] = ("r", "made-up red filter")
    header["DATE-OBS"] = frame.time.removesuffix("Z")
    header["OBJECT"] = "Made-up spiral"
    header["ORIGIN"] = ("Cupola", "made-up data, CC0-1.0: nothing was measured")
    fits.PrimaryHDU(values, header=header).writeto(target / f"{frame.name}.fits", checksum=False)
    centre = [float(value) for value in wcs.wcs.crval]
    side = values.shape[0]
    stac.write_item(
        target / f"{frame.name}.json",
        ABOUT.id,
        # A place in the sky is none on Earth: STAC allows an item without geometry.
        geometry=None,
        properties={
            "title": f"Sky mosaic, {frame.name}",
            "datetime": frame.time,
            "instruments": ["made-up camera"],
            "cupola:sky": {
                "frame": "ICRS",
                "ra": centre[0],
                "dec": centre[1],
                "width": side * _SCALE,
                "height": side * _SCALE,
                "position_angle": frame.turn,
            },
        },
        assets={
            "r": {
                "href": f"./{frame.name}.fits",
                "type": "application/fits",
                "title": "Frame in the filter r, electrons per second",
                "roles": ["data"],
            }
        },
    )
