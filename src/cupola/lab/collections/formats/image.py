"""What is known of an image file and of its bands, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cupola.lab import bodies
from cupola.lab.collections.placement import Affine, Celestial, Placement, Swath

if TYPE_CHECKING:
    from datetime import datetime

    from affine import Affine as Transform
    from rasterio.crs import CRS

    from cupola.lab.bodies import Body
    from cupola.lab.collections.formats.special import Kept, Saturation

__all__ = ["Band", "Image"]


@dataclass(frozen=True)
class Band:
    """One band of an item, and where its numbers are."""

    name: str
    path: str
    """A local path, an address that GDAL understands, or that of a part: ``file.fits#SCI,1``."""
    index: int = 1
    """Counts from 1."""
    scale: float | None = None
    """From the STAC item; it counts only where the file itself gives none."""
    offset: float | None = None
    nodata: float | None = None
    saturated: Kept | None = None
    """What becomes of saturated pixels where a chain keeps them; they are missing where nothing is said."""


@dataclass(frozen=True)
class Image:
    """What a file, or one of its parts, says about itself."""

    path: str
    driver: str
    """GDAL's name of the format; ``FITS``, ``HDF5``, ``netCDF``, ``Zarr`` or ``PDR`` for those read without it."""
    width: int
    height: int
    count: int
    """Bands with data, alpha left out."""
    crs: CRS | None
    transform: Transform
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str | None, ...]
    blocks: tuple[int, int]
    """Rows and columns of the file's blocks."""
    overviews: tuple[int, ...]
    """Decimation factors of the pyramid."""
    alpha: int | None
    """Number of the alpha band."""
    masked: bool
    """Whether the file has a mask of its own beside the nodata value."""
    special: tuple[float, ...] = ()
    """Further numbers that stand for no data, from the label of a PDS product."""
    saturation: Saturation | None = None
    """Which numbers stand for saturated pixels, where the format has such numbers."""
    wkt: str = field(default="", compare=False)
    curved: Swath | Celestial | None = None
    """Where the pixels lie that have no coordinate system of a plane."""
    valid: tuple[float, float] | None = None
    """Smallest and largest stored number that counts."""
    units: tuple[str | None, ...] = ()
    start: datetime | None = None
    """When the measurement began, where the file says so."""
    end: datetime | None = None

    @cached_property
    def placement(self) -> Placement | None:
        """Where the pixels lie; nothing for an image that only has columns and rows."""
        if self.curved is not None:
            return self.curved
        if self.crs is None:
            return None
        return Affine(self.crs, self.transform, self.width, self.height, self.wkt)

    @cached_property
    def body(self) -> Body | None:
        """The celestial body it shows (the sky counts as one); nothing for an image without a place."""
        if isinstance(self.curved, Celestial):
            return bodies.SKY
        if isinstance(self.curved, Swath):
            return bodies.EARTH
        return bodies.body_of_crs(self.crs)

    @cached_property
    def lattice(self) -> str:
        """The same text for all images whose pixels lie at the same places, pyramids included."""
        size = f"{self.width}x{self.height}"
        return f"{self.transform[:6]} {size} {self.overviews} {self.curved} {self.wkt}"

    @property
    def band_names(self) -> list[str]:
        """Names for the bands: the descriptions where each band has a different one, else b1, b2 ..."""
        given = [text.strip() if text else "" for text in self.descriptions]
        if all(given) and len(set(given)) == len(given):
            return given
        return [f"b{number}" for number in range(1, self.count + 1)]
