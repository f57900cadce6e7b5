"""A cratered plain on Mars: two map sheets, each with a terrain model (ISIS cube) and an image (PDS4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.crs import CRS

from cupola.exceptions import UnavailableError
from cupola.lab.samples import stac
from cupola.lab.samples.craters import ground, shaded, stereo_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray

__all__ = ["ABOUT", "write"]

ABOUT = stac.Collected(
    id="mars-crater",
    title="Craters on Mars, terrain and image",
    description=(
        "A made-up plain near the equator of Mars in two map sheets at 200 m: heights above the sphere of "
        "3,396,190 m as an ISIS cube (16 bit with base and multiplier, NULL where stereo matching failed), and "
        "the same ground as an image with the sun in the north-west, in PDS4."
    ),
    keywords=("mars", "dtm", "craters", "isis", "pds4"),
)

_RADIUS = 3_396_190.0
_CRS = CRS.from_wkt(
    'PROJCS["Equirectangular Mars",GEOGCS["GCS_Mars",DATUM["D_Mars",'
    f'SPHEROID["Mars",{_RADIUS:.0f},0]],PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],PARAMETER["central_meridian",0],'
    'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
_LEFT, _TOP = 1_424_000.0, 640_000.0
"""24.0 degrees east, 10.8 degrees north."""
_PIXEL = 200.0
_STEP, _BASE = 0.25, -2000.0
"""Stored numbers are heights in steps of 25 cm from -2 km."""
_NULL = -32768
_SHEETS = ("west", "east")
_TIMES = {"west": "2026-03-02T14:21:07Z", "east": "2026-03-04T14:48:52Z"}


def write(folder: Path, *, side: int) -> Iterator[str]:
    """Write the collection; yield after each step what it was.

    Parameters
    ----------
    folder
        The collection's folder; it exists.
    side
        Rows and columns of a sheet.
    """
    height = ground((side, side * len(_SHEETS)), _PIXEL)
    gaps = stereo_gaps(height)
    image = shaded(height, _PIXEL)
    yield "the ground of Mars"
    stored = np.rint((height - _BASE) / _STEP).astype(np.int16)
    stored[gaps] = _NULL
    for number, sheet in enumerate(_SHEETS):
        columns = slice(number * side, (number + 1) * side)
        place = stac.north_up(_LEFT + columns.start * _PIXEL, _TOP, _PIXEL)
        _write_sheet(folder, sheet, place, stored[:, columns], image[:, columns])
        yield f"sheet {sheet} of Mars"
    stac.write_collection(folder, ABOUT, summaries={"ssys:targets": ["Mars"], "gsd": [_PIXEL]})


def _write_sheet(
    folder: Path, sheet: str, place: Affine, stored: NDArray[np.int16], image: NDArray[np.uint8]
) -> None:
    name = f"mars-crater-{sheet}"
    target = folder / name
    target.mkdir()
    common: dict[str, Any] = {
        "count": 1, "height": stored.shape[0], "width": stored.shape[1], "crs": _CRS, "transform": place
    }  # fmt: skip
    _write_dtm(target / "dtm.cub", stored, common)
    _write_image(target / "image.xml", image, common, title=f"Made-up plain on Mars, sheet {sheet}")
    rows, columns = stored.shape
    corners = [(0, 0), (0, rows), (columns, rows), (columns, 0)]
    stac.write_item(
        target / f"{name}.json",
        ABOUT.id,
        geometry=stac.outline(_CRS, place, corners),
        properties={
            "title": f"Made-up plain on Mars, sheet {sheet}",
            "datetime": _TIMES[sheet],
            "mission": "made-up",
            "gsd": _PIXEL,
            "ssys:targets": ["Mars"],
            "ssys:target_class": "planet",
            **stac.image_fields(_CRS, stored.shape, place),
        },
        assets=_assets(),
        links=[{"rel": "enclosure", "href": "./image.img", "title": "Pixels of the PDS4 image (image.xml)"}],
    )


def _write_dtm(path: Path, stored: NDArray[np.int16], common: Mapping[str, Any]) -> None:
    """Write an ISIS cube; GDAL's history object is left out, for it names this machine and moment."""
    options = {
        "driver": "ISIS3", "dtype": "int16", "nodata": _NULL, "tiled": True, "blockxsize": 128,
        "blockysize": 128, "target_name": "Mars", "latitude_type": "Planetocentric",
        "longitude_direction": "PositiveEast", "add_gdal_history": "NO",
    }  # fmt: skip
    with rasterio.open(path, "w", **common, **options) as dataset:
        dataset.scales, dataset.offsets = (_STEP,), (_BASE,)
        dataset.write(stored, 1)
    _check(path, stored)


def _write_image(path: Path, image: NDArray[np.uint8], common: Mapping[str, Any], *, title: str) -> None:
    """Write a PDS4 product: the label, and the pixels in an .img file beside it."""
    said = {
        "LOGICAL_IDENTIFIER": f"urn:cupola:sample-archive:mars-crater:{path.parent.name}",
        "TITLE": title,
        "INVESTIGATION_AREA_NAME": "Made-up data of Cupola",
        "INVESTIGATION_AREA_LID_REFERENCE": "urn:cupola:context:investigation:sample-archive",
        "OBSERVING_SYSTEM_NAME": "None",
        "TARGET": "Mars",
        "TARGET_TYPE": "Planet",
    }
    options = {"driver": "PDS4", "dtype": "uint8", "nodata": 0, "image_extension": "img"}
    variables = {f"VAR_{key}": value for key, value in said.items()}
    with rasterio.open(path, "w", **common, **options, **variables) as dataset:
        dataset.write(image, 1)
    _check(path, image)


def _check(path: Path, written: NDArray[Any]) -> None:
    """Read a file back: GDAL does not always tell that a disk is full."""
    with rasterio.open(path) as dataset:
        same = np.array_equal(dataset.read(1), written)
    if not same:
        raise UnavailableError(f"The file {path.name} was not written to its end: make room on the disk.")


def _assets() -> dict[str, dict[str, Any]]:
    return {
        "dtm": {
            "href": "./dtm.cub",
            "type": "application/x-isis-cube",
            "title": "Terrain model, heights in metres",
            "roles": ["data"],
            "bands": [
                {
                    "name": "height",
                    "description": "Height above the sphere of 3,396,190 m",
                    "data_type": "int16",
                    "nodata": _NULL,
                    "unit": "m",
                    "raster:scale": _STEP,
                    "raster:offset": _BASE,
                    "raster:spatial_resolution": _PIXEL,
                }
            ],
        },
        "image": {
            "href": "./image.xml",
            "type": "application/x-pds4",
            "title": "Image, sun in the north-west at 27 degrees; this label, pixels in image.img",
            "roles": ["data"],
            "bands": [
                {
                    "name": "brightness",
                    "data_type": "uint8",
                    "nodata": 0,
                    "raster:spatial_resolution": _PIXEL,
                }
            ],
        },
    }
