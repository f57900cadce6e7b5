"""The terrain of the made-up coast, as an elevation model of the Earth comes: tiles in degrees, one arc second apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject, transform_bounds

from cupola.lab.samples import sentinel2, stac
from cupola.lab.samples.rasters import write_cog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from affine import Affine

    from cupola.lab.samples.noise import Floats

__all__ = ["ABOUT", "write"]

ABOUT = stac.Collected(
    id="coast-dem",
    title="Terrain of the coast",
    description=(
        "Heights of the made-up coast in the Bay of Biscay, in metres above the sea, as global elevation models "
        "come: tiles of 0.1 by 0.1 degrees with a pixel for each second of arc, which are not square in metres. "
        "It is the ground of the Sentinel-2-like scenes."
    ),
    keywords=("dem", "elevation", "terrain"),
)

_DEGREES = CRS.from_epsg(4326)
_TILE = 0.1
_PIXEL = 1 / 3600
_TIME = "2026-01-01T00:00:00Z"


def write(folder: Path, *, side: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    side
        Rows and columns of the Sentinel-2 tiles that lie on this ground.
    """
    height, crs, place = sentinel2.heights(side)
    rows, columns = height.shape
    box = (place.c, place.f + place.e * rows, place.c + place.a * columns, place.f)
    west, south, east, north = transform_bounds(crs, _DEGREES, *box)
    for x in range(math.floor(west / _TILE), math.ceil(east / _TILE)):
        for y in range(math.floor(south / _TILE), math.ceil(north / _TILE)):
            _write_tile(folder, (x, y), height, crs, place)
    stac.write_collection(folder, ABOUT, summaries={"gsd": [30]})
    yield "the terrain of the coast"


def _write_tile(folder: Path, corner: tuple[int, int], height: Floats, crs: CRS, place: Affine) -> None:
    """Write the tile with this lower left corner, in tenths of a degree, if it has any ground."""
    x, y = corner
    side = round(_TILE / _PIXEL)
    transform = stac.north_up(x * _TILE, (y + 1) * _TILE, _PIXEL)
    values = np.full((side, side), np.nan, dtype=np.float32)
    reproject(
        height, values, src_crs=crs, src_transform=place, dst_crs=_DEGREES, dst_transform=transform,
        dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    if not np.isfinite(values).any():
        return
    name = f"DEM_{_name(y, 'N', 'S')}_{_name(x, 'E', 'W')}"
    target = folder / name
    target.mkdir()
    write_cog(target / f"{name}.tif", values.astype(np.float32), _DEGREES, transform, nodata=np.nan)
    corners = [(0.0, 0.0), (0.0, float(side)), (float(side), float(side)), (float(side), 0.0)]
    stac.write_item(
        target / f"{name}.json",
        ABOUT.id,
        geometry=stac.outline(_DEGREES, transform, corners),
        properties={
            "datetime": _TIME,
            "gsd": 30,
            "platform": "made-up",
            **stac.image_fields(_DEGREES, values.shape, transform),
        },
        assets={
            "height": {
                "href": f"./{name}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "title": "Height above the sea",
                "roles": ["data"],
                "bands": [{"name": "height", "data_type": "float32", "nodata": "nan", "unit": "m"}],
            }
        },
    )


def _name(tenths: int, positive: str, negative: str) -> str:
    """Return a corner's coordinate as it stands in the names of tiles: N46_40."""
    whole, part = divmod(abs(tenths), 10)
    return f"{positive if tenths >= 0 else negative}{whole:02d}_{part * 10:02d}"
