"""Variables of netCDF, HDF5 and Zarr files as images: maps on regular grids, swaths, and plain arrays.

Which variables are pixels and where they lie follows the CF conventions: coordinate variables of one dimension make a
regular grid, those of two a swath; ``grid_mapping`` names the coordinate system; scale, offset, fill value and valid
range are applied as written.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from cupola.exceptions import ImageError
from cupola.lab.collections.formats.address import split
from cupola.lab.collections.formats.arrays import ArrayDataset
from cupola.lab.collections.formats.image import Image
from cupola.lab.collections.formats.ranges import explained
from cupola.lab.collections.formats.stores import Store, Variable, open_store
from cupola.lab.collections.formats.times import span
from cupola.lab.collections.placement import Swath

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rasterio.crs import CRS

__all__ = ["describe_variable", "open_variable", "parts_of_store", "read_geolocation"]

_SIDES = 2
_LEFT_OUT = ("METADATA/",)
"""Groups whose arrays are statistics about the measurement."""
_EVEN = 1e-3
"""How far coordinates of a regular grid may be from even steps, in steps."""
_MOST_BANDS = 2000
_KEPT_BYTES = 128 * 1024 * 1024
_KEPT_ARRAY = 48 * 1024 * 1024
"""An array below this size is kept whole once a part of it was read: swaths are compressed in long chunks."""
_KEPT_AFAR = 1024 * 1024
"""The same for files on other machines, where what is not needed is not fetched."""

_kept: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class _Part:
    """A variable that can be shown, and where it lies."""

    name: str
    rows: int
    """Which of its dimensions goes down."""
    columns: int
    longitude: str = ""
    latitude: str = ""
    curved: bool = False


def _is(variable: Variable, kind: str) -> bool:
    """Whether a variable holds longitudes or latitudes."""
    units = str(variable.attributes.get("units", "")).lower().replace(" ", "")
    standard = str(variable.attributes.get("standard_name", "")).lower()
    word = variable.name.rpartition("/")[2].lower()
    east = kind == "longitude"
    written = (
        ("degrees_east", "degree_east", "degreee", "degreese") if east else ("degrees_north", "degree_north")
    )
    if standard in ("longitude", "latitude"):
        return standard == kind
    return word in (("longitude", "lon", "x_lon") if east else ("latitude", "lat")) or (
        units in written and word.startswith(kind[:3]) and "bounds" not in word and "corner" not in word
    )


def _is_axis(variable: Variable, which: str) -> bool:
    """Whether a variable holds the x or y of a projection."""
    standard = str(variable.attributes.get("standard_name", ""))
    word = variable.name.rpartition("/")[2].lower()
    return standard == f"projection_{which}_coordinate" or word in (which, f"{which}c", f"{which}coord")


def _parts(store: Store) -> list[_Part]:
    """Return the variables that can be shown: those on swaths and maps first, then plain arrays."""
    longitudes = [v for v in store.variables.values() if _is(v, "longitude")]
    latitudes = [v for v in store.variables.values() if _is(v, "latitude")]
    bounds = {str(v.attributes.get("bounds", "")).lstrip("/") for v in store.variables.values()} - {""}
    placed, plain = [], []
    for variable in store.variables.values():
        word = variable.name.rpartition("/")[2]
        if (
            len(variable.shape) < _SIDES
            or variable.name.startswith(_LEFT_OUT)
            or variable.name in bounds
            or word.endswith(("_bounds", "_bnds", "bounds"))
            or variable in longitudes
            or variable in latitudes
            or 0 in variable.shape
        ):
            continue
        part = _curved(variable, longitudes, latitudes) or _regular(store, variable, longitudes, latitudes)
        if part is not None:
            placed.append(part)
        elif min(variable.shape[-2:]) >= _SIDES:
            plain.append(_Part(variable.name, len(variable.shape) - 2, len(variable.shape) - 1))
    # Numbers that say how good others are come after those others.
    placed.sort(
        key=lambda part: (not part.name.startswith("PRODUCT/"), "qa_" in part.name, part.name.count("/"))
    )
    return placed or plain


def _curved(variable: Variable, longitudes: list[Variable], latitudes: list[Variable]) -> _Part | None:
    """Return the variable as a swath, if two-dimensional longitudes and latitudes share its dimensions."""
    for longitude in longitudes:
        shape = [side for side in longitude.shape if side > 1]
        dimensions = [
            name for name, side in zip(longitude.dimensions, longitude.shape, strict=True) if side > 1
        ]
        if len(shape) != _SIDES or min(shape) < _SIDES:
            continue
        group = longitude.name.rpartition("/")[0]
        latitude = next(
            (
                other
                for other in latitudes
                if other.shape == longitude.shape and other.name.rpartition("/")[0] == group
            ),
            None,
        )
        if latitude is None:
            continue
        found = _axes(variable, dimensions, shape)
        if found is not None:
            return _Part(variable.name, *found, longitude.name, latitude.name, curved=True)
    return None


def _axes(variable: Variable, dimensions: list[str], shape: list[int]) -> tuple[int, int] | None:
    """Return which dimensions of a variable are the rows and columns of a geolocation."""
    if all(name in variable.dimensions for name in dimensions):
        return variable.dimensions.index(dimensions[0]), variable.dimensions.index(dimensions[1])
    named = all(":" not in name for name in (*variable.dimensions, *dimensions))
    if named:
        return None
    # HDF5 without names: the same sizes side by side.
    for first in range(len(variable.shape) - 1):
        if list(variable.shape[first : first + 2]) == shape:
            return first, first + 1
    return None


def _regular(
    store: Store, variable: Variable, longitudes: list[Variable], latitudes: list[Variable]
) -> _Part | None:
    """Return the variable as a map, if two of its dimensions have coordinates."""
    across = [v for v in store.variables.values() if _is_axis(v, "x")] + longitudes
    down = [v for v in store.variables.values() if _is_axis(v, "y")] + latitudes
    x = next((v for v in across if _along(v, variable) is not None), None)
    y = next((v for v in down if _along(v, variable) is not None), None)
    if x is None or y is None or _along(x, variable) == _along(y, variable):
        return None
    rows, columns = _along(y, variable), _along(x, variable)
    assert rows is not None and columns is not None  # noqa: PT018, S101 - found above
    return _Part(variable.name, rows, columns, x.name, y.name)


def _along(axis: Variable, variable: Variable) -> int | None:
    """Return the dimension of a variable that an axis of one dimension belongs to."""
    if len(axis.shape) != 1 or axis.shape[0] < _SIDES or axis.dimensions[0] not in variable.dimensions:
        return None
    return variable.dimensions.index(axis.dimensions[0])


@lru_cache(maxsize=1024)
def parts_of_store(path: str, _mtime: int, _size: int) -> tuple[str, ...]:
    """Return the names of the variables of a file that can be shown, the most telling first.

    Raises
    ------
    ImageError
        When the file is damaged, or has none.
    """
    with open_store(path) as store:
        return tuple(part.name for part in _wanted_parts(store, path))


def _wanted_parts(store: Store, path: str) -> list[_Part]:
    parts = _parts(store)
    if not parts:
        raise ImageError(
            f"{path} holds no raster band of its own: it has no variable with rows and columns of pixels."
        )
    return parts


def describe_variable(address: str, mtime: int, size: int) -> Image:
    """Return what a variable of a file is; the first one that can be shown where none is named.

    Raises
    ------
    ImageError
        When there is no such variable.
    """
    path, name = split(address)
    with open_store(path) as store:
        parts = _wanted_parts(store, path)
        part = _find(parts, name, path)
        variable = store.variables[part.name]
        height, width = variable.shape[part.rows], variable.shape[part.columns]
        crs: CRS | None = None
        transform, curved = Affine.identity(), None
        if part.curved:
            curved = Swath(path, (mtime, size), width, height, part.longitude, part.latitude)
        elif part.longitude:
            transform, crs, curved = _map_of(store, part, path, (mtime, size))
        start, end = span(store.attributes, store.variables)
        return _image(address, store.driver, variable, part, transform, crs, curved, start, end)


def _find(parts: list[_Part], name: str, path: str) -> _Part:
    if not name:
        return parts[0]
    wanted = name.strip("/")
    found = [part for part in parts if part.name == wanted] or [
        part for part in parts if part.name.rpartition("/")[2] == wanted
    ]
    if not found:
        raise ImageError(
            f"{path} has no variable {name!r} with pixels; it has {', '.join(p.name for p in parts[:12])}."
        )
    return found[0]


def _image(  # noqa: PLR0913, PLR0917 - what an image is made of
    address: str,
    driver: str,
    variable: Variable,
    part: _Part,
    transform: Affine,
    crs: CRS | None,
    curved: Swath | None,
    start: Any,
    end: Any,
) -> Image:
    said = variable.attributes
    height, width = variable.shape[part.rows], variable.shape[part.columns]
    count = int(np.prod(variable.shape)) // (height * width)
    if count > _MOST_BANDS:
        raise ImageError(f"{address} has {count:,} layers, and an image has {_MOST_BANDS:,} bands at most.")
    chunks = variable.chunks or (1,) * part.columns + (width,)
    fill = said.get("_FillValue", said.get("missing_value"))
    return Image(
        path=address,
        driver=driver,
        width=width,
        height=height,
        count=count,
        crs=crs,
        transform=transform,
        dtypes=(variable.dtype.newbyteorder("=").name,) * count,
        nodata=(_number(fill),) * count,
        scales=(_number(said.get("scale_factor")) or 1.0,) * count,
        offsets=(_number(said.get("add_offset")) or 0.0,) * count,
        descriptions=(variable.name.rpartition("/")[2] if count == 1 else None,) * count,
        blocks=(int(chunks[part.rows]), int(chunks[part.columns])) if variable.chunks else (1, width),
        overviews=(),
        alpha=None,
        masked=False,
        wkt=crs.to_wkt() if crs else "",
        curved=curved,
        valid=_valid(said),
        units=(str(said["units"]) if said.get("units") not in (None, "1", 1, "") else None,) * count,
        start=start,
        end=end,
    )


def _number(value: Any) -> float | None:
    """Return an attribute as a number; the first of several."""
    if isinstance(value, list):
        value = value[0] if value else None
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _valid(said: dict[str, Any]) -> tuple[float, float] | None:
    """Return the valid range of the stored numbers."""
    both = said.get("valid_range")
    if isinstance(both, list) and len(both) == 2:  # noqa: PLR2004
        return float(both[0]), float(both[1])
    low, high = _number(said.get("valid_min")), _number(said.get("valid_max"))
    if low is None and high is None:
        return None
    return -math.inf if low is None else low, math.inf if high is None else high


def _map_of(
    store: Store, part: _Part, path: str, revision: tuple[int, int]
) -> tuple[Affine, CRS | None, Swath | None]:
    """Return the transform and the system of a regular grid; a swath where its steps are uneven."""
    x, y = (_decoded(store.variables[name]) for name in (part.longitude, part.latitude))
    crs = _system(store, store.variables[part.name], store.variables[part.longitude])
    step_x, step_y = (x[-1] - x[0]) / (len(x) - 1), (y[-1] - y[0]) / (len(y) - 1)
    if (
        step_x
        and step_y
        and all(
            np.abs(axis - (axis[0] + step * np.arange(len(axis)))).max() <= _EVEN * abs(step)
            for axis, step in ((x, step_x), (y, step_y))
        )
    ):
        return Affine(step_x, 0, x[0] - step_x / 2, 0, step_y, y[0] - step_y / 2), crs, None
    if crs is None or not crs.is_geographic:
        raise ImageError(
            f"{path} has a projected grid with uneven steps, which has no place: resample it first."
        )
    return Affine.identity(), None, Swath(path, revision, len(x), len(y), part.longitude, part.latitude)


def _decoded(variable: Variable) -> NDArray[np.float64]:
    """Return a coordinate with scale, offset and fill value applied."""
    raw = np.asarray(variable.array[...]).squeeze()
    values: NDArray[np.float64] = raw.astype(np.float64)
    for key in ("_FillValue", "missing_value"):
        fill = _number(variable.attributes.get(key))
        if fill is not None:
            values[raw == fill] = np.nan
    values *= _number(variable.attributes.get("scale_factor")) or 1.0
    values += _number(variable.attributes.get("add_offset")) or 0.0
    if str(variable.attributes.get("units", "")).lower() in ("km", "kilometers", "kilometres"):
        values *= 1000.0
    return values


def _system(store: Store, variable: Variable, axis: Variable) -> CRS | None:
    """Return the coordinate system that ``grid_mapping`` names; longitude and latitude of the Earth where it says none."""
    from rasterio.crs import CRS

    group = variable.name.rpartition("/")[0]
    name = str(variable.attributes.get("grid_mapping", "")).split(":")[0].strip()
    for place in (f"{group}/{name}".lstrip("/"), name.lstrip("/")):
        mapping = store.variables.get(place)
        if name and mapping is not None:
            wkt = _wkt_of(mapping.attributes)
            if wkt:
                return CRS.from_wkt(wkt)
    return CRS.from_epsg(4326) if _is(axis, "longitude") else None


def _wkt_of(said: dict[str, Any]) -> str | None:
    import pyproj

    for key in ("crs_wkt", "spatial_ref"):
        if isinstance(said.get(key), str) and said[key].strip():
            return str(said[key])
    try:
        return str(pyproj.CRS.from_cf(dict(said)).to_wkt())
    except (KeyError, ValueError, pyproj.exceptions.CRSError):
        return None


def read_geolocation(
    path: str, longitude: str, latitude: str, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitudes and latitudes (rows, columns) of a swath.

    Raises
    ------
    ImageError
        When they cannot be read.
    """
    # One array after the other: going through all that such a file holds takes longer than reading both.
    with open_store(path, longitude) as first, open_store(path, latitude) as second:
        try:
            x, y = _decoded(first.variables[longitude]), _decoded(second.variables[latitude])
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            raise ImageError(f"{path} cannot be read to its end: the file is damaged or cut off.") from error
    if x.ndim == 1:
        x, y = np.meshgrid(x, y)
    if x.shape != (height, width) or y.shape != x.shape:
        raise ImageError(f"{path} has longitudes and latitudes of another size than its pixels.")
    return x, y


def open_variable(image: Image, revision: tuple[int, int]) -> ArrayDataset:
    """Open a variable of a file for reading.

    Raises
    ------
    ImageError
        When the file is damaged or the variable is gone.
    """
    path, name = split(image.path)
    part = _part_of(path, revision, name)
    store = open_store(path, part.name)
    variable = store.variables[part.name]
    others = [side for number, side in enumerate(variable.shape) if number not in (part.rows, part.columns)]

    def layer(place: tuple[int, ...]) -> Any:
        def read(rows: slice, columns: slice) -> NDArray[Any]:
            rest = iter(place)
            index = tuple(
                rows if number == part.rows else columns if number == part.columns else next(rest)
                for number in range(len(variable.shape))
            )
            with explained(variable.afar):
                found = np.asarray(_remembered(variable, (path, *revision, part.name))[index])
            return found.T if part.rows > part.columns else found

        return read

    return ArrayDataset(image, [layer(place) for place in np.ndindex(*others)], store.close)


@lru_cache(maxsize=1024)
def _part_of(path: str, _revision: tuple[int, int], name: str) -> _Part:
    """Return which variable is meant; what a file holds is looked through once, not for each reader of it."""
    with open_store(path) as whole:
        return _find(_wanted_parts(whole, path), name, path)


def _chunk_bytes(variable: Variable) -> int:
    """Return what is unpacked at least, whatever is asked for."""
    return int(np.prod(variable.chunks or (1,))) * variable.dtype.itemsize


def _remembered(variable: Variable, key: tuple[Any, ...]) -> Any:
    """Return the whole array from memory if it is small, else what reads parts of it."""
    size = int(np.prod(variable.shape)) * variable.dtype.itemsize
    if size > (_KEPT_ARRAY if variable.afar is None else max(_KEPT_AFAR, _chunk_bytes(variable))):
        return variable.array
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    found = np.asarray(variable.array[...])
    with _lock:
        _kept[key] = found
        while sum(array.nbytes for array in _kept.values()) > _KEPT_BYTES:
            _kept.popitem(last=False)
    return found
