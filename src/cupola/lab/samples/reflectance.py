"""What a satellite sees of the made-up coast on a day of the year: reflectance, and what covers each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cupola.lab.samples.land import Land, mixed
from cupola.lab.samples.noise import Floats, blur, fractal, generator, ramp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BANDS", "Cover", "classify", "clear_sky", "cloudy"]

BANDS = ("B02", "B03", "B04", "B08", "B11")

_SPECTRA: Mapping[str, tuple[float, ...]] = {
    # blue, green, red, near infrared, short-wave infrared
    "soil": (0.070, 0.100, 0.135, 0.215, 0.310),
    "crop": (0.024, 0.062, 0.034, 0.440, 0.190),
    "straw": (0.085, 0.135, 0.180, 0.290, 0.360),
    "rape": (0.045, 0.150, 0.115, 0.470, 0.200),
    "broadleaf": (0.022, 0.044, 0.028, 0.360, 0.150),
    "conifer": (0.015, 0.028, 0.019, 0.230, 0.090),
    "heath": (0.042, 0.066, 0.078, 0.190, 0.220),
    "sand": (0.200, 0.260, 0.310, 0.370, 0.430),
    "roof": (0.120, 0.130, 0.150, 0.200, 0.230),
    "road": (0.105, 0.115, 0.125, 0.160, 0.200),
    "sea": (0.048, 0.037, 0.019, 0.013, 0.005),
    "shoal": (0.078, 0.088, 0.040, 0.024, 0.006),
    "mud": (0.065, 0.090, 0.080, 0.052, 0.012),
    "cloud": (0.740, 0.740, 0.750, 0.780, 0.520),
}

# Kinds of field: how green in April and in August, and how often they occur.
_CROPS = (("cereal", 0.85, 0.05, 30), ("maize", 0.08, 0.9, 22), ("meadow", 0.75, 0.6, 28), ("rape", 0.8, 0.1, 9),
          ("fallow", 0.2, 0.25, 11))  # fmt: skip

_KINDS_OF_FIELDS = 8191

_SHADE = np.array([0.42, 0.40, 0.36, 0.30, 0.28], dtype=np.float32)
"""What is left of the light in the shadow of a cloud: the sky lights most in blue."""

Cover = NDArray[np.uint8]
"""Codes of Sentinel-2's scene classification."""


def _spectrum(name: str) -> Floats:
    result: Floats = np.array(_SPECTRA[name], dtype=np.float32)
    return result


def clear_sky(land: Land, *, day: int, sun_azimuth: float, sun_elevation: float) -> tuple[Floats, Floats]:
    """Return the land without clouds.

    Parameters
    ----------
    land
        What lies where.
    day
        Of the year: 105 is mid-April, 225 mid-August.
    sun_azimuth, sun_elevation
        Degrees.

    Returns
    -------
    reflectance
        (band, rows, columns) in the order of `BANDS`.
    green
        Share of green vegetation (rows, columns).
    """
    shape = land.height.shape
    rng = generator("surface", day, *shape)
    fields, green = _fields(land, day, shape)
    patch = 1 + 0.10 * fractal(generator("patch", *shape), shape, 1.2, largest=90)
    layers = [
        (fields * patch, np.ones(shape, np.float32)),
        (_tinted("heath", patch), land.heath),
        (_trees(land, patch), land.wood),
        (_spectrum("sand")[:, None, None] * (1 + 0.3 * (patch - 1)), land.sand),
        (_town(land), land.town),
        (_tinted("road", patch), land.road * (1 - land.town)),
        (_river(patch), land.river),
        (_sea(land), land.sea),
    ]
    values = np.zeros((len(BANDS), *shape), dtype=np.float32)
    for colour, share in layers:
        values += share * (colour - values)
    green = green * (1 - land.heath) + 0.45 * land.heath
    for name, amount in (
        ("wood", 0.9),
        ("sand", 0.05),
        ("town", 0.15),
        ("road", 0.1),
        ("river", 0),
        ("sea", 0),
    ):
        share = getattr(land, name)
        green = green + share * (np.float32(amount) - green)
    values *= _sunlight(land, sun_azimuth, sun_elevation)
    # The instrument sees a little of each pixel's neighbours, and every measurement has noise.
    values = np.stack([blur(band, 0.55) for band in values])
    values *= 1 + 0.006 * rng.standard_normal(values.shape, dtype=np.float32)
    values += 0.0004 * rng.standard_normal(values.shape, dtype=np.float32)
    return values, green.astype(np.float32)


def _fields(land: Land, day: int, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the fields' reflectance and how green they are: each field has its crop, and grows as one."""
    # Fields that are 8191 numbers apart are alike, which nobody sees, and it saves sorting all pixels.
    place = (mixed(land.parcel) % _KINDS_OF_FIELDS).astype(np.intp)
    rng = generator("crops")
    odds = np.array([crop[3] for crop in _CROPS], dtype=float)
    kind = rng.choice(len(_CROPS), _KINDS_OF_FIELDS, p=odds / odds.sum())
    april, august = (np.array([crop[i] for crop in _CROPS])[kind] for i in (1, 2))
    season = np.clip((day - 105) / 120, 0, 1)
    grown = np.clip(april + season * (august - april) + rng.normal(0, 0.09, _KINDS_OF_FIELDS), 0.02, 0.97)
    bright = rng.normal(1, 0.13, _KINDS_OF_FIELDS).clip(0.6, 1.5)
    growth = grown.astype(np.float32)[place] + 0.055 * fractal(
        generator("growth", day, *shape), shape, 1.1, largest=60
    )
    growth = np.clip(growth, 0.01, 0.98).astype(np.float32)
    flowers = np.array([crop[0] == "rape" for crop in _CROPS])[kind] & (season < 0.5)
    reaped = np.array([crop[0] in {"cereal", "rape"} for crop in _CROPS])[kind] & (season > 0.5)
    bare = np.where(reaped, _spectrum("straw")[:, None], _spectrum("soil")[:, None]) * bright
    leaf = np.where(flowers, _spectrum("rape")[:, None], _spectrum("crop")[:, None])
    colours = np.empty((len(BANDS), *shape), dtype=np.float32)
    for number in range(len(BANDS)):
        ground = bare[number].astype(np.float32)[place]
        colours[number] = ground + growth * (leaf[number][place] - ground)
    return colours, growth


def _tinted(name: str, patch: Floats) -> Floats:
    result: Floats = _spectrum(name)[:, None, None] * patch
    return result


def _trees(land: Land, patch: Floats) -> Floats:
    """Return the woods: broad leaves in the plain, conifers on high ground, crowns in light and shadow."""
    conifers = ramp(land.height + 200 * (patch - 1), 90, 180)
    crowns = 1 + 0.13 * generator("crowns", *patch.shape).standard_normal(patch.shape, dtype=np.float32)
    leaf, needle = _spectrum("broadleaf")[:, None, None], _spectrum("conifer")[:, None, None]
    result: Floats = (leaf + conifers * (needle - leaf)) * blur(crowns, 0.6)
    return result


def _town(land: Land) -> Floats:
    """Return houses and yards: every block has its brightness, some roofs are of tiles."""
    code = mixed(land.blocks)
    bright = 0.65 + (code % 211).astype(np.float32) / 160
    tile = (code % 7 < 3).astype(np.float32) * 0.05
    garden = (code % 11 < 4).astype(np.float32) * 0.6
    rng = generator("houses", *code.shape)
    bright *= 1 + np.float32(0.28) * rng.standard_normal(code.shape, dtype=np.float32).clip(-2, 2)
    colours = _spectrum("roof")[:, None, None] * bright
    colours[2] += tile
    colours[1] += 0.4 * tile
    colours += garden * (_spectrum("broadleaf")[:, None, None] * np.float32(1.2) - colours)
    result: Floats = colours.astype(np.float32)
    return result


def _river(patch: Floats) -> Floats:
    mud, deep = _spectrum("mud")[:, None, None], _spectrum("sea")[:, None, None]
    result: Floats = (0.65 * mud + 0.35 * deep) * (1 + 0.4 * (patch - 1))
    return result


def _sea(land: Land) -> Floats:
    """Return the sea: bright over shoals, dark in the deep, brown where the river comes out."""
    shallow = np.exp(np.minimum(land.height, 0) / 3.5).astype(np.float32)
    swell = 1 + 0.05 * fractal(generator("swell", *shallow.shape), shallow.shape, 1, largest=40)
    sea, shoal, mud = (_spectrum(name)[:, None, None] for name in ("sea", "shoal", "mud"))
    water = sea + 0.65 * shallow * (shoal - sea)
    result: Floats = (water + land.plume * (mud - water)) * swell
    return result


def _sunlight(land: Land, azimuth: float, elevation: float) -> Floats:
    """Return how much sunlight falls on each slope, 1 on level ground; what shadows keep comes from the sky."""
    up, across = np.gradient(blur(np.maximum(land.height, 0), 1.0) / 10)
    east, north = -across, up
    a, e = np.radians(azimuth), np.radians(elevation)
    facing = (east * np.sin(a) + north * np.cos(a)) * np.cos(e) + np.sin(e)
    steep = facing / np.sqrt(1 + east**2 + north**2) / np.sin(e)
    result: Floats = (0.25 + 0.75 * np.clip(steep, 0.15, 1.6)).astype(np.float32)
    return result


def cloudy(
    clear: Floats, *, name: str, amount: float, sun_azimuth: float, haze: float
) -> tuple[Floats, Floats, Floats]:
    """Lay clouds and their shadows over a clear view.

    Parameters
    ----------
    clear
        (band, rows, columns).
    name
        Other names give other clouds.
    amount
        Share of the sky with clouds, about.
    sun_azimuth
        Degrees; shadows fall the other way.
    haze
        Reflectance that the air adds in blue.

    Returns
    -------
    reflectance, cloud, shadow
        (band, rows, columns) and two times (rows, columns), the last two from 0 to 1.
    """
    shape = clear.shape[1:]
    rows, columns = shape
    rng = generator("clouds", name, *shape)
    # Cumulus comes in groups, and is cauliflower-like at its edges.
    groups = fractal(rng, (rows, columns), 1.9, largest=700)
    puffs = fractal(rng, (rows, columns), 1.55, largest=110)
    field = groups + 0.55 * puffs
    level = float(np.quantile(field[::4, ::4], 1 - amount)) if amount else float(field.max()) + 1
    cloud = ramp(field, level - 0.04, level + 0.42) ** np.float32(0.8)
    thick = ramp(field, level, level + 1.3)
    a, far = np.radians(sun_azimuth), 38 * rows / 1024 + 14
    fall = (float(far * np.cos(a)), float(-far * np.sin(a)))
    shadow = ndimage.shift(cloud, fall, order=1, mode="nearest", prefilter=False)
    shadow = blur(shadow.astype(np.float32), 1.2) * (1 - cloud)
    values = clear * (1 - shadow * (1 - _SHADE[:, None, None]))
    top = (0.62 + 0.45 * thick + 0.03 * puffs) * _spectrum("cloud")[:, None, None]
    values = values + cloud * (top - values)
    values += (np.float32(haze) * np.array([1, 0.55, 0.3, 0.1, 0.03], np.float32))[:, None, None]
    return np.clip(values, 0.0001, 1.6).astype(np.float32), cloud, shadow.astype(np.float32)


def classify(land: Land, green: Floats, cloud: Floats, shadow: Floats) -> Cover:
    """Return the scene classification (codes of Sentinel-2's SCL; 0, no data, does not occur)."""
    cover = np.full(green.shape, 5, dtype=np.uint8)  # not vegetated
    cover[green > 0.38] = 4
    cover[(green > 0.3) & (green <= 0.38)] = 7
    cover[np.maximum(land.sea, land.river) > 0.5] = 6
    cover[shadow > 0.35] = 3
    cover[cloud > 0.06] = 10
    cover[cloud > 0.25] = 8
    cover[cloud > 0.6] = 9
    return cover
