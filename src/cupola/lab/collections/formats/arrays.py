"""Arrays that answer as a rasterio dataset does, as far as readers of images ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from rasterio.enums import Resampling

from cupola.exceptions import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from numpy.typing import NDArray
    from rasterio.windows import Window

    from cupola.lab.collections.formats.image import Image

__all__ = ["ArrayDataset", "Layer"]


class Layer(Protocol):
    """One band of an array: takes a slice of rows and one of columns, and returns numbers as stored; see `picks`."""

    def __call__(self, rows: Any, columns: Any) -> NDArray[Any]:
        """Return the numbers there."""


class ArrayDataset:
    """Bands of an array file, read by window.

    Parameters
    ----------
    image
        What it holds.
    layers
        A function for each band.
    close
        Lets the file go.
    picks
        Whether the layers take numbers of rows and columns in place of slices: a file that is mapped into memory gives
        single pixels without reading what lies between them.
    """

    def __init__(
        self, image: Image, layers: list[Layer], close: Callable[[], object], *, picks: bool = False
    ) -> None:
        self.picks = picks
        self.name = image.path
        self.driver = image.driver
        self.width, self.height, self.count = image.width, image.height, image.count
        self.dtypes, self.nodatavals = image.dtypes, image.nodata
        self.scales, self.offsets = image.scales, image.offsets
        self.descriptions, self.units = image.descriptions, image.units
        self.crs, self.transform = image.crs, image.transform
        self.files = [image.path]
        self.closed = False
        self._layers, self._close = layers, close

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands, from 1."""
        return tuple(range(1, self.count + 1))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        if not self.closed:
            self.closed = True
            self._close()

    def read(
        self,
        indexes: int | Iterable[int] | None = None,
        *,
        window: Window | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[Any]:
        """Return numbers as stored, (bands, rows, columns), or (rows, columns) for one number.

        Raises
        ------
        ImageError
            When the file is damaged, or the window is not in it.
        """
        if resampling != Resampling.nearest:
            raise ImageError(f"{self.name} is read by the nearest pixel only, not by {resampling.name}.")
        single = isinstance(indexes, int)
        wanted = [indexes] if isinstance(indexes, int) else list(indexes or self.indexes)
        top, left = (int(window.row_off), int(window.col_off)) if window is not None else (0, 0)
        rows, columns = (int(window.height), int(window.width)) if window is not None else self.shape
        if top < 0 or left < 0 or top + rows > self.height or left + columns > self.width:
            raise ImageError(
                f"{self.name} has {self.height} rows and {self.width} columns, and was asked for others."
            )
        shape = (rows, columns) if out_shape is None else tuple(int(side) for side in out_shape[-2:])
        try:
            found = [
                self._read(number, slice(top, top + rows), slice(left, left + columns), shape)
                for number in wanted
            ]
        except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
            # What the libraries raise for a file that was cut off or replaced under our hands.
            raise ImageError(
                f"{self.name} cannot be read to its end: the file is damaged or cut off."
            ) from error
        return found[0] if single else np.stack(found)

    def pick(self, number: int, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
        """Return numbers as stored of single pixels of the band `number`; rows and columns are taken in pairs.

        Raises
        ------
        ImageError
            When the file is damaged.
        """
        try:
            values: NDArray[Any] = self._layers[number - 1](rows, columns)
        except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
            raise ImageError(
                f"{self.name} cannot be read to its end: the file is damaged or cut off."
            ) from error
        return (
            values if values.dtype.byteorder in ("=", "|") else values.astype(values.dtype.newbyteorder("="))
        )

    def _read(self, number: int, rows: slice, columns: slice, shape: tuple[int, ...]) -> NDArray[Any]:
        if not 1 <= number <= self.count:
            raise IndexError(number)
        layer = self._layers[number - 1]
        size = (rows.stop - rows.start, columns.stop - columns.start)
        # Whole strides are left to the file: much of it is never touched then.
        stride_y, stride_x = (max(1, whole // part) for whole, part in zip(size, shape, strict=True))
        values: NDArray[Any] = layer(
            slice(rows.start + stride_y // 2, rows.stop, stride_y),
            slice(columns.start + stride_x // 2, columns.stop, stride_x),
        )
        if values.dtype.byteorder not in ("=", "|"):
            values = values.astype(values.dtype.newbyteorder("="))
        if values.shape == shape:
            return values
        down = np.arange(shape[0]) * values.shape[0] // shape[0]
        across = np.arange(shape[1]) * values.shape[1] // shape[1]
        return np.asarray(values[down][:, across])

    def dataset_mask(
        self, *, window: Window | None = None, out_shape: tuple[int, ...] | None = None
    ) -> NDArray[np.uint8]:
        """Return 255 everywhere: arrays have no mask beside their fill values."""
        size = (int(window.height), int(window.width)) if window is not None else self.shape
        return np.full(size if out_shape is None else out_shape[-2:], 255, dtype=np.uint8)
