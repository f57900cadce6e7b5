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

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

__all__ = ["SkyExplorer", "find_sources"]

ALL = "all, the newest on top"
_MOST = 2000
"""Sources that are drawn at most, the brightest."""


def find_sources(chain: Chain, item: str, *, sigma: float = 5.0, size: int = 5) -> Table:
    """Return the local maxima of one image that stand out of its background.

    The background is the median, and its noise 1.4826 times the median absolute deviation, which stars do not disturb.
    This finds what one sees; it is no photometry.

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
    background = float(np.nanmedian(values))
    noise = 1.4826 * float(np.nanmedian(np.abs(values - background)))
    filled = np.nan_to_num(values, nan=-np.inf)
    peaks = (filled == maximum_filter(filled, size)) & (filled > background + sigma * noise)
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
            "value": filled[rows, columns] - background,
            "column": columns,
            "row": rows,
        }
    )


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
