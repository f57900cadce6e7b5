"""Cloud-optimised files of the sample archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rasterio.io import MemoryFile

if TYPE_CHECKING:
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.crs import CRS

__all__ = ["write_cog"]


def write_cog(  # noqa: PLR0913 - what a raster is
    path: Path,
    values: NDArray[Any],
    crs: CRS | str,
    transform: Affine,
    *,
    nodata: float,
    resampling: str = "AVERAGE",
    scale: float = 1.0,
    offset: float = 0.0,
) -> None:
    """Write a cloud-optimised GeoTIFF of one band, whose stored numbers (rows, columns) mean number x scale + offset."""
    profile: dict[str, Any] = {
        "driver": "COG", "count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype,
        "crs": crs, "transform": transform, "nodata": nodata, "blocksize": 256, "compress": "DEFLATE",
        "predictor": "YES", "overview_resampling": resampling,
    }  # fmt: skip
    # Through memory: GDAL does not always tell when a disk is full, Python does.
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(values, 1)
            if (scale, offset) != (1.0, 0.0):
                dataset.scales, dataset.offsets = (scale,), (offset,)
        path.write_bytes(memory.read())
