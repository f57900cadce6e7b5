"""Files of named arrays, opened alike: HDF5 and netCDF 4 (h5py), classic netCDF (scipy), Zarr."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cupola.exceptions import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.lab.collections.formats.ranges import RemoteFile

__all__ = ["Store", "Variable", "open_store"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF4 = b"\x0e\x03\x13\x01"
_CLASSIC = b"CDF"
_CLASSIC_BYTES = 256 * 1024 * 1024
"""A classic netCDF file on another machine is read up to this size."""
_CHUNKS_AFAR = 32 * 1024 * 1024
"""Memory for unpacked chunks of a file on another machine: one that is fetched twice costs more."""
_SCALES_ONLY = "This is a netCDF dimension but not a netCDF variable"


@dataclass
class Variable:
    """An array of a file."""

    name: str
    """With its groups: ``PRODUCT/latitude``."""
    dimensions: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    attributes: dict[str, Any]
    array: Any = field(repr=False)
    """Gives numbers as stored for slices."""
    afar: RemoteFile | None = field(default=None, repr=False)
    """The file that it is fetched from, where that is on another machine."""


@dataclass
class Store:
    """An open file."""

    driver: str
    variables: dict[str, Variable]
    attributes: dict[str, Any]
    close: Callable[[], object]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(path: str, only: str | None = None) -> Store:
    """Open a file of arrays; with `only`, as little as reading that one array needs.

    Raises
    ------
    ImageError
        When it is none, or is damaged; for HDF4 the text says what to do.
    """
    if "://" in path:
        return _open_afar(path, only)
    place = Path(path)
    try:
        if place.is_dir():
            return _zarr(path)
        with place.open("rb") as file:
            head = file.read(8)
        if head.startswith(_HDF4):
            raise _hdf4(path)
        if head == _HDF5:
            return _hdf5(path, only)
        if head.startswith(_CLASSIC):
            return _classic(path)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ImageError(
            f"{path} cannot be read: the file is damaged, cut off or of another format."
        ) from error
    raise ImageError(f"{path} is neither HDF5 nor netCDF: its first bytes are of another format.")


def _hdf4(path: str) -> ImageError:
    return ImageError(
        f"{path} is HDF4, which cannot be read here: convert it to netCDF (h4tonccf, or gdal_translate of a GDAL "
        "with HDF4) and open that."
    )


def _open_afar(address: str, only: str | None) -> Store:
    """Open a file on another machine; what is not looked at is not fetched."""
    from cupola.lab.collections.formats.ranges import explained, open_remote

    file = open_remote(address)
    head = file.part(0, 8)
    try:
        with explained(file):
            if head == _HDF5:
                store = _hdf5(file, only)
                for variable in store.variables.values():
                    variable.afar = file
                return store
            if head.startswith(_CLASSIC) and file.size <= _CLASSIC_BYTES:
                return _classic(file)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ImageError(
            f"{address} cannot be read: the file is damaged, cut off or of another format."
        ) from error
    if head.startswith(_HDF4):
        raise _hdf4(address)
    if head.startswith(_CLASSIC):
        raise ImageError(
            f"{address} is a classic netCDF file of {file.size / 1e6:,.0f} MB, which is read as a whole: copy it to a "
            "volume, or convert it to netCDF 4."
        )
    raise ImageError(f"{address} is neither HDF5 nor netCDF: its first bytes are of another format.")


def _plain(value: Any) -> Any:
    """Return an attribute as text, a number or a list."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "SO":
            texts = [_plain(part) for part in value.ravel()]
            return texts[0] if len(texts) == 1 else texts
        return value.item() if value.size == 1 else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _attributes(holder: Any) -> dict[str, Any]:
    """Return what is said of an array; links to other arrays are left out."""
    found = {}
    for key in holder.attrs:
        if key in ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "_Netcdf4Coordinates", "_Netcdf4Dimid"):
            continue
        try:
            found[key] = _plain(holder.attrs[key])
        except (OSError, TypeError, ValueError):
            continue  # a type of HDF5 that NumPy does not have
    return found


@lru_cache(maxsize=1)
def _closing() -> weakref.WeakSet[Any]:
    """Return the files that are closed when the process ends."""
    found: weakref.WeakSet[Any] = weakref.WeakSet()

    def close() -> None:
        for one in list(found):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                one.close()

    atexit.register(close)
    return found


def _hdf5(path: str | RemoteFile, only: str | None) -> Store:
    import h5py

    if isinstance(path, str):
        file = h5py.File(path, "r")
    else:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNKS_AFAR)
        # Closed after Python's end, it would still ask a file of Python: that is a crash.
        _closing().add(file)
    variables: dict[str, Variable] = {}

    def add(name: str, thing: Any) -> None:
        if not isinstance(thing, h5py.Dataset) or thing.dtype.kind not in "iufb" or thing.shape is None:
            return
        attributes = _attributes(thing)
        if str(attributes.get("NAME", "")).startswith(_SCALES_ONLY):
            return
        variables[name] = Variable(
            name, _dimensions(file, name, thing), thing.shape, thing.dtype, thing.chunks, attributes, thing
        )

    try:
        if only is None:
            file.visititems(add)
        elif only in file:
            add(only, file[only])
        attributes = _attributes(file) if only is None else {}
    except BaseException:
        file.close()
        raise
    netcdf = "_NCProperties" in file.attrs or "Conventions" in file.attrs
    return Store("netCDF" if netcdf else "HDF5", variables, attributes, file.close)


def _dimensions(file: Any, name: str, dataset: Any) -> tuple[str, ...]:
    """Return the dimensions' names with their groups; those that have none are called by their array."""
    links = dataset.attrs.get("DIMENSION_LIST")
    if links is not None:
        return tuple(
            file[link[0]].name.lstrip("/") if len(link) else f"{name}:{number}"
            for number, link in enumerate(links)
        )
    if dataset.attrs.get("CLASS") == b"DIMENSION_SCALE" and dataset.ndim == 1:
        return (name,)
    return tuple(f"{name}:{number}" for number in range(dataset.ndim))


def _classic(path: str | RemoteFile) -> Store:
    from scipy.io import netcdf_file

    # Without mapping: an array that outlives a mapped file is a crash.
    file = netcdf_file(path, "r", mmap=False)
    variables = {
        name: Variable(
            name,
            tuple(found.dimensions),
            tuple(found.shape),
            np.dtype(found.data.dtype),
            None,
            {key: _plain(value) for key, value in found._attributes.items()},  # noqa: SLF001 - the only way to all
            found.data,
        )
        for name, found in file.variables.items()
        if found.data.dtype.kind in "iuf"
    }
    attributes = {key: _plain(value) for key, value in file._attributes.items()}  # noqa: SLF001
    return Store("netCDF", variables, attributes, file.close)


def _zarr(path: str) -> Store:
    import zarr

    root = zarr.open(path, mode="r")
    variables: dict[str, Variable] = {}
    todo: list[tuple[str, Any]] = [("", root)]
    while todo:
        name, thing = todo.pop()
        if isinstance(thing, zarr.Group):
            todo.extend((f"{name}/{key}".lstrip("/"), member) for key, member in thing.members())
            continue
        attributes = dict(thing.attrs)
        names = attributes.pop("_ARRAY_DIMENSIONS", None) or getattr(thing.metadata, "dimension_names", None)
        group = name.rpartition("/")[0]
        dimensions = tuple(
            (f"{group}/{label}".lstrip("/") if label else f"{name}:{number}")
            for number, label in enumerate(names or [None] * thing.ndim)
        )
        if thing.dtype.kind in "iufb":
            if "_FillValue" not in attributes and thing.fill_value is not None and thing.dtype.kind == "f":
                attributes["_FillValue"] = float(thing.fill_value)
            variables[name or "data"] = Variable(
                name or "data", dimensions, thing.shape, thing.dtype, thing.chunks, attributes, thing
            )
    order = sorted(variables)
    return Store("Zarr", {name: variables[name] for name in order}, dict(root.attrs), lambda: None)
