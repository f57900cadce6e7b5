"""The south pole of a made-up Moon: two map sheets in polar stereographic projection, terrain and image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.crs import CRS

from cupola.lab.samples import stac
from cupola.lab.samples.craters import ground, shaded
from cupola.lab.samples.rasters import write_cog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray

__all__ = ["ABOUT", "write"]

ABOUT = stac.Collected(
    id="moon-south-pole",
    title="South pole of the Moon, terrain and image",
    description=(
        "Made-up ground around the south pole of the Moon at 240 m, in two map sheets that meet at the pole: polar "
        "stereographic on the sphere of 1,737,400 m. Heights are stored as half metres of radius, as the laser "
        "altimeter's maps have them, and the same ground as an image with the sun low on the horizon."
    ),
    keywords=("moon", "lunar", "south pole", "dtm", "polar"),
)

_CRS = CRS.from_user_input("IAU_2015:30135")
_RADIUS = 1_737_400.0
_PIXEL = 240.0
_STEP = 0.5
_NULL = -32768
_SHEETS = ("west", "east")
_TIMES = {"west": "2026-05-11T06:40:00Z", "east": "2026-05-11T08:38:00Z"}


def write(folder: Path, *, side: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    side
        Rows of the sheets; each has half as many columns, so that both make a square around the pole.
    """
    height = ground((side, side), _PIXEL, place="moon", lava=False) + 2100
    stored = np.clip(np.rint(height / _STEP), -32000, 32000).astype(np.int16)
    image = shaded(height, _PIXEL, sun_elevation=4)
    yield "the ground of the Moon"
    edge = side * _PIXEL / 2
    for number, sheet in enumerate(_SHEETS):
        columns = slice(number * side // 2, (number + 1) * side // 2)
        place = stac.north_up(-edge + columns.start * _PIXEL, edge, _PIXEL)
        _write_sheet(folder, sheet, place, stored[:, columns], image[:, columns])
    stac.write_collection(folder, ABOUT, summaries={"ssys:targets": ["Moon"], "gsd": [_PIXEL]})
    yield "the south pole of the Moon"


def _write_sheet(
    folder: Path, sheet: str, place: Affine, stored: NDArray[np.int16], image: NDArray[np.uint8]
) -> None:
    name = f"moon-south-pole-{sheet}"
    target = folder / name
    target.mkdir()
    write_cog(target / "radius.tif", stored, _CRS, place, nodata=_NULL, scale=_STEP, offset=_RADIUS)
    write_cog(target / "image.tif", image, _CRS, place, nodata=0)
    box, ring = _outline(place, stored.shape)
    stac.write_item(
        target / f"{name}.json",
        ABOUT.id,
        geometry={"type": "Polygon", "coordinates": [ring]},
        box=box,
        properties={
            "title": f"Made-up south pole of the Moon, sheet {sheet}",
            "datetime": _TIMES[sheet],
            "mission": "made-up",
            "gsd": _PIXEL,
            "ssys:targets": ["Moon"],
            "ssys:target_class": "satellite",
            **stac.image_fields(_CRS, stored.shape, place),
        },
        assets=_assets(),
    )


def _outline(place: Affine, shape: tuple[int, ...]) -> tuple[list[float], list[list[float]]]:
    """Return the box and the ring, in degrees, of a sheet whose inner edge runs through the pole.

    Longitude says nothing at the pole itself, so the ring goes along it from one side to the other.
    """
    rows, columns = shape
    steps = np.linspace(0, 1, 9)
    left, right, top, bottom = place.c, place.c + place.a * columns, place.f, place.f + place.e * rows
    outer, inner = (left, right) if abs(left) > abs(right) else (right, left)
    x = np.concatenate([inner + (outer - inner) * steps, np.full(9, outer), outer + (inner - outer) * steps])
    y = np.concatenate([np.full(9, top), top + (bottom - top) * steps, np.full(9, bottom)])
    longitudes = np.degrees(np.arctan2(x, y))
    latitudes = -90 + np.degrees(2 * np.arctan(np.hypot(x, y) / (2 * _RADIUS)))
    if outer < 0:
        longitudes = np.where(longitudes > 0, longitudes - 360, longitudes)
    longitudes = np.where(np.isclose(longitudes, -360), 0, longitudes)
    points = [(float(lon), float(lat)) for lon, lat in zip(longitudes, latitudes, strict=True)]
    points += [(points[-1][0], -90.0), (points[0][0], -90.0)]
    ring = [[round(lon, 6), round(lat, 6)] for lon, lat in [*points, points[0]]]
    west, east = (0.0, 180.0) if outer > 0 else (-180.0, 0.0)
    return [west, -90.0, east, round(float(latitudes.max()), 6)], ring


def _assets() -> dict[str, dict[str, Any]]:
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    return {
        "radius": {
            "href": "./radius.tif",
            "type": kind,
            "title": "Radius of the ground in metres",
            "roles": ["data"],
            "bands": [
                {
                    "name": "radius",
                    "description": "Distance from the centre of the Moon",
                    "data_type": "int16",
                    "nodata": _NULL,
                    "unit": "m",
                    "raster:scale": _STEP,
                    "raster:offset": _RADIUS,
                    "raster:spatial_resolution": _PIXEL,
                }
            ],
        },
        "image": {
            "href": "./image.tif",
            "type": kind,
            "title": "Image, sun low on the horizon",
            "roles": ["data"],
            "bands": [{"name": "brightness", "data_type": "uint8", "nodata": 0}],
        },
    }
