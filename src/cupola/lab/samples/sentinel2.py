"""Sentinel-2-like scenes of the made-up coast: three tiles on two days."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rasterio.crs import CRS

from cupola.lab.samples import stac
from cupola.lab.samples.land import Land, make_land
from cupola.lab.samples.rasters import write_cog
from cupola.lab.samples.reflectance import BANDS, Cover, classify, clear_sky, cloudy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray

    from cupola.lab.samples.noise import Floats

__all__ = ["ABOUT", "coast", "heights", "write"]

ABOUT = stac.Collected(
    id="sentinel-2-l2a",
    title="Sentinel-2-like surface reflectance",
    description=(
        "A made-up coast in the Bay of Biscay, where there is only water in truth, as Sentinel-2 would see it: "
        "three overlapping tiles in April and in August, surface reflectance times 10,000 at 10 m and 20 m with "
        "a scene classification. Clouds, their shadows and the edge of the swath are in it."
    ),
    keywords=("sentinel-2", "msi", "reflectance", "land"),
)

_CRS = CRS.from_epsg(32630)
_LEFT, _TOP = 240_000.0, 5_150_000.0
_PIXEL = 10.0
_OVERLAP = 64
"""Pixels that neighbouring tiles share."""
_TILES = ("W", "M", "E")
_SCALE = 10_000


@dataclass(frozen=True)
class _Day:
    """A flight over the coast."""

    date: str
    time: str
    day: int
    """Of the year."""
    sun_azimuth: float
    sun_elevation: float
    clouds: float
    """Share of the sky, about."""
    haze: float
    swath_edge: float | None = None
    """Where the swath begins: share of the whole width, in the middle row."""


_DAYS = (
    _Day("2026-04-18", "11:06:21", 108, 155.2, 52.4, 0.04, 0.006),
    _Day("2026-08-16", "11:06:24", 228, 148.7, 55.1, 0.11, 0.010, swath_edge=0.115),
)

# Key, file, band of BANDS, common name, text, centre and width of the band in micrometres, metres per pixel.
_ASSETS = (
    ("blue", "B02", "blue", "Blue", 0.49, 0.098, 10),
    ("green", "B03", "green", "Green", 0.56, 0.045, 10),
    ("red", "B04", "red", "Red", 0.665, 0.038, 10),
    ("nir", "B08", "nir", "Near infrared", 0.842, 0.145, 10),
    ("swir16", "B11", "swir16", "Short-wave infrared at 1.6 µm", 1.61, 0.143, 20),
)

# Which classes of the scene classification count for which property.
_SHARES = {
    "s2:cloud_shadow_percentage": (3,),
    "s2:vegetation_percentage": (4,),
    "s2:not_vegetated_percentage": (5,),
    "s2:water_percentage": (6,),
    "s2:unclassified_percentage": (7,),
    "s2:medium_proba_clouds_percentage": (8,),
    "s2:high_proba_clouds_percentage": (9,),
    "s2:thin_cirrus_percentage": (10,),
}


def write(folder: Path, *, side: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    side
        Rows and columns of a tile at 10 m.
    """
    pitch = side - _OVERLAP
    land = coast(side)
    yield "the land"
    for day in _DAYS:
        values, cover = _view(land, day)
        yield f"the view of {day.date}"
        for number, tile in enumerate(_TILES):
            columns = slice(number * pitch, number * pitch + side)
            _write_scene(
                folder, day, tile, _LEFT + columns.start * _PIXEL, values[:, :, columns], cover[:, columns]
            )
            yield f"tile {tile} of {day.date}"
    stac.write_collection(folder, ABOUT, summaries={"gsd": [10, 20], "platform": ["made-up"]})


@lru_cache(maxsize=1)
def coast(side: int) -> Land:
    """Return the landscape that tiles of `side` rows and columns show, kept: its terrain model is written too."""
    return make_land((side, side + (len(_TILES) - 1) * (side - _OVERLAP)))


def heights(side: int) -> tuple[Floats, CRS, Affine]:
    """Return the coast's heights in metres, 0 on the sea, with the coordinate system and place of the tiles at 10 m."""
    return np.maximum(coast(side).height, 0), _CRS, stac.north_up(_LEFT, _TOP, _PIXEL)


def _view(land: Land, day: _Day) -> tuple[NDArray[np.uint16], Cover]:
    """Return stored numbers (band, rows, columns) and the classification of the whole coast, 0 off the swath."""
    clear, green = clear_sky(land, day=day.day, sun_azimuth=day.sun_azimuth, sun_elevation=day.sun_elevation)
    seen, cloud, shadow = cloudy(
        clear, name=day.date, amount=day.clouds, sun_azimuth=day.sun_azimuth, haze=day.haze
    )
    cover = classify(land, green, cloud, shadow)
    values = np.rint(seen * _SCALE).astype(np.uint16)
    if day.swath_edge is not None:
        edge = _swath_edge(day, cover.shape)
        off = np.arange(cover.shape[1])[None, :] < edge[:, None]
        values[:, off] = 0
        cover[off] = 0
    return values, cover


def _swath_edge(day: _Day, shape: tuple[int, ...]) -> Floats:
    """Return the first column inside the swath, per row: the orbit is inclined, so its edge is slanting."""
    rows, columns = shape
    middle = (day.swath_edge or 0) * columns
    return (middle + 0.21 * (rows / 2 - np.arange(rows))).astype(np.float32)


def _write_scene(  # noqa: PLR0913, PLR0917 - a scene is that much
    folder: Path, day: _Day, tile: str, left: float, values: NDArray[np.uint16], cover: Cover
) -> None:
    """Write one tile of one day: the images, a preview and the item."""
    name = f"S2X_30TTS_{tile}_{day.date.replace('-', '')}_0_L2A"
    scene = folder / name
    scene.mkdir()
    fine = stac.north_up(left, _TOP, _PIXEL)
    coarse = stac.north_up(left, _TOP, 2 * _PIXEL)
    half = _halved(values[BANDS.index("B11")])
    for _, band, *_, metres in _ASSETS:
        stored = values[BANDS.index(band)] if metres == _PIXEL else half
        write_cog(scene / f"{band}.tif", stored, _CRS, fine if metres == _PIXEL else coarse, nodata=0)
    classes = np.ascontiguousarray(cover[::2, ::2])
    write_cog(scene / "SCL.tif", classes, _CRS, coarse, nodata=0, resampling="MODE")
    _write_preview(scene / "preview.jpg", values)
    shape = (values.shape[1], values.shape[2])
    stac.write_item(
        scene / f"{name}.json",
        ABOUT.id,
        geometry=_footprint(fine, values[0] > 0),
        properties=_properties(day, classes) | stac.image_fields(_CRS, shape, fine),
        assets=_assets(shape, fine, coarse),
    )


def _halved(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the means of 2 by 2 pixels; no data where one of them has none."""
    rows, columns = values.shape
    parts = values.reshape(rows // 2, 2, columns // 2, 2)
    mean: NDArray[np.uint16] = np.rint(parts.mean(axis=(1, 3))).astype(np.uint16)
    mean[(parts == 0).any(axis=(1, 3))] = 0
    return mean


def _write_preview(path: Path, values: NDArray[np.uint16]) -> None:
    """Write a small picture in true colours."""
    step = max(1, values.shape[1] // 256)
    rgb = np.stack([values[BANDS.index(band), ::step, ::step] for band in ("B04", "B03", "B02")], axis=-1)
    shown = (np.clip(rgb / (0.28 * _SCALE), 0, 1) ** 0.8 * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "JPEG", quality=85)
    path.write_bytes(buffer.getvalue())


def _footprint(transform: Affine, valid: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the outline of the pixels with data, which begin at a slanting line or at the left edge."""
    rows, columns = valid.shape
    first = valid.argmax(axis=1)
    corners = [(first[0], 0), (first[-1], rows), (columns, rows), (columns, 0)]
    return stac.outline(_CRS, transform, corners)


def _properties(day: _Day, classes: Cover) -> dict[str, Any]:
    count = np.bincount(classes.ravel(), minlength=12)
    seen = max(1, int(count[1:].sum()))
    shares = {name: round(100 * float(count[list(codes)].sum()) / seen, 4) for name, codes in _SHARES.items()}
    return {
        "datetime": f"{day.date}T{day.time}Z",
        "platform": "made-up",
        "constellation": "sentinel-2-like",
        "instruments": ["msi"],
        "gsd": 10,
        "eo:cloud_cover": round(100 * float(count[[8, 9, 10]].sum()) / seen, 4),
        "grid:code": "MGRS-30TTS",
        "mgrs:utm_zone": 30,
        "mgrs:latitude_band": "T",
        "mgrs:grid_square": "TS",
        "view:sun_azimuth": day.sun_azimuth,
        "view:sun_elevation": day.sun_elevation,
        "s2:nodata_pixel_percentage": round(100 * float(count[0]) / classes.size, 4),
        **shares,
    }


def _assets(shape: tuple[int, int], fine: Affine, coarse: Affine) -> dict[str, dict[str, Any]]:
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    half = [shape[0] // 2, shape[1] // 2]
    found: dict[str, dict[str, Any]] = {}
    for key, band, common, text, centre, width, metres in _ASSETS:
        is_fine = metres == _PIXEL
        found[key] = {
            "href": f"./{band}.tif",
            "type": kind,
            "title": f"{text} ({band}), {metres} m",
            "roles": ["data", "reflectance"],
            "gsd": metres,
            "proj:shape": list(shape) if is_fine else half,
            "proj:transform": list((fine if is_fine else coarse)[:6]),
            "bands": [
                {
                    "name": band,
                    "description": text,
                    "data_type": "uint16",
                    "nodata": 0,
                    "eo:common_name": common,
                    "eo:center_wavelength": centre,
                    "eo:full_width_half_max": width,
                    "raster:scale": 0.0001,
                    "raster:offset": 0,
                    "raster:spatial_resolution": metres,
                }
            ],
        }
    found["scl"] = {
        "href": "./SCL.tif",
        "type": kind,
        "title": "Scene classification (SCL), 20 m",
        "roles": ["data"],
        "gsd": 20,
        "proj:shape": half,
        "proj:transform": list(coarse[:6]),
        "bands": [{"name": "SCL", "data_type": "uint8", "nodata": 0, "raster:spatial_resolution": 20}],
    }
    found["thumbnail"] = {
        "href": "./preview.jpg",
        "type": "image/jpeg",
        "title": "Preview in true colours",
        "roles": ["thumbnail"],
    }
    return found
