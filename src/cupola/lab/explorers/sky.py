"""The explorer of the sky: exposures over one another, sources found in them, and their catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from cupola.exceptions import InputError
from cupola.lab.explorers import plots
from cupola.lab.explorers.base import Explorer, as_collection
from cupola.lab.sky.skymap import SkyMap

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy.typing import NDArray

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

__all__ = ["SkyExplorer", "find_sources"]

ALL = "all, the newest on top"
_MOST = 2000
"""Sources that are drawn at most, the brightest."""
_BOX = 32
"""Rows and columns of a box for the background."""


def find_sources(chain: Chain, item: str, *, sigma: float = 5.0, size: int = 5) -> Table:
    """Return the local maxima of one image that stand out of its background.

    The background is the median of boxes of 32 x 32 pixels, with slopes between them, so that a galaxy is not taken for
    a thousand stars; its noise is 1.4826 times their median absolute deviation, which stars do not disturb, and at
    least that of the whole image. This finds what one sees; it is no photometry.

    Parameters
    ----------
    chain
        What to look at; its first band counts.
    item
        Id of the image.
    sigma
        How many times the noise a maximum must stand out.
    size
        Rows and columns within which there is one maximum only, in pixels.

    Returns
    -------
    sources
        ``ra``, ``dec`` in degrees (ICRS), ``value`` above the background, ``column``, ``row`` in pixels from 0; the
        brightest first.
    """
    from astropy.table import Table
    from scipy.ndimage import maximum_filter

    from cupola.lab.collections.images import describe

    values = chain.compute(item).values[0]
    above = values - _medians(values)
    noise = 1.4826 * np.maximum(_medians(np.abs(above)), np.nanmedian(np.abs(above)))
    filled = np.nan_to_num(above, nan=-np.inf)
    peaks = (filled == maximum_filter(filled, size)) & (filled > sigma * noise)
    rows, columns = np.nonzero(peaks)
    order = np.argsort(filled[rows, columns])[::-1][:_MOST]
    rows, columns = rows[order], columns[order]
    scene = chain.collection.item(item)
    placement = describe(scene.band(chain.bands[0])[0].path).placement
    if placement is None:
        raise InputError(f"{scene} has no celestial coordinates, so its sources have no place on the sky.")
    ra, dec = placement.lonlat(columns + 0.5, rows + 0.5)
    return Table(
        {
            "ra": np.asarray(ra) % 360,
            "dec": dec,
            "value": filled[rows, columns],
            "column": columns,
            "row": rows,
        }
    )


def _medians(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median around each pixel: of boxes, with slopes between their middles."""
    from scipy.ndimage import map_coordinates

    rows, columns = (-(-length // _BOX) for length in values.shape)
    padded = np.full((rows * _BOX, columns * _BOX), np.nan, dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    boxes = padded.reshape(rows, _BOX, columns, _BOX).swapaxes(1, 2).reshape(rows, columns, -1)
    known = np.isfinite(boxes).any(axis=2)
    medians = np.full((rows, columns), np.nanmedian(values), dtype=np.float32)
    medians[known] = np.nanmedian(boxes[known], axis=1)
    down, across = ((np.arange(length) + 0.5) / _BOX - 0.5 for length in values.shape)
    places = np.meshgrid(down, across, indexing="ij")
    around: NDArray[np.float32] = map_coordinates(medians, places, order=1, mode="nearest")
    return around


class SkyExplorer(Explorer):
    """Exposures of the sky as layers of a sky map, with the sources in them.

    Parameters
    ----------
    collection
        Images with celestial coordinates: its name, path or itself.
    band
        The band to begin with; the first where nothing is said.
    """

    title = "Sky explorer"

    def __init__(self, collection: Collection | str = "sky-mosaic", band: str | None = None) -> None:
        super().__init__()
        self.collection = as_collection(collection)
        if not len(self.collection):
            raise InputError(f"{self.collection} holds no images.")
        bands = self.collection.bands
        self.frame = self.control(
            widgets.Dropdown, "Images", options=[ALL, *(item.id for item in self.collection)]
        )
        self.band = self.control(widgets.Dropdown, "Band", options=bands, value=band or bands[0])
        self.scale = self.control(widgets.Dropdown, "Scale", options=("asinh", "log", "sqrt", "linear"))
        self.cmap = self.control(
            widgets.Dropdown, "Colours", options=("gray", "viridis", "inferno", "cubehelix")
        )
        self.sigma = self.control(widgets.BoundedFloatText, "Sigma", min=2, max=100, value=8)
        self.map = SkyMap(height="520px")
        self.plot = plots.Plot("Press “Find sources”: how many there are of each brightness appears here")
        self.sources: Any = None
        self.watch(self._draw, self.frame, self.band, self.scale, self.cmap)
        self.arrange(
            [
                self.frame,
                self.band,
                self.scale,
                self.cmap,
                self.sigma,
                self.button(
                    "Find sources",
                    "Maxima that stand out of the background of the chosen image",
                    self.guarded(self.find),
                    icon="search",
                ),
                self.button("Outlines", "Where the images lie", self.guarded(self._outline), icon="square-o"),
            ],
            self.map,
            self.plot,
        )
        self.guarded(self._draw)()

    @property
    def chosen(self) -> Collection:
        """The images that are shown."""
        return self.collection if self.frame.value == ALL else self.collection.only(self.frame.value)

    @property
    def chain(self) -> Chain:
        """What is shown, to go on with in a notebook."""
        return self.chosen[self.band.value]

    def _draw(self) -> None:
        self.map.add(self.chain, name="Images", cmap=self.cmap.value, scale=self.scale.value)
        self.tell(f"{len(self.chosen)} images of {self.collection.title or self.collection.id}")

    def _outline(self) -> None:
        self.map.add_footprints(self.chosen, name="Outlines")

    def find(self) -> None:
        """Find sources in the chosen image (the newest of all), and lay them over the map."""
        item = self.chosen.items[0].id
        self.sources = find_sources(self.chain, item, sigma=self.sigma.value)
        if not len(self.sources):
            self.tell(f"Nothing in {item} stands out by {self.sigma.value:g} sigma: take less.")
            return
        self.map.add(self.sources, name="Sources", colour="#ff7f0e", shape="circle", size=12)
        brightness = np.asarray(self.sources["value"], dtype=float)
        edges = np.geomspace(brightness.min(), brightness.max() * 1.0001, 25)
        counts, _ = np.histogram(brightness, edges)
        self.plot.show(
            f"{len(self.sources)} sources in {item}",
            [plots.line("sources", np.sqrt(edges[1:] * edges[:-1]), counts)],
            x="value above the background",
            y="sources",
            xaxis_type="log",
        )
        self.tell(f"{len(self.sources)} sources in {item}; click one to see its row.")
