"""One chain on a map: a layer of tiles that the session's Jupyter server computes."""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from ipyleaflet import TileLayer

from cupola.exceptions import CupolaError, InputError
from cupola.lab.chains import Chain, store
from cupola.lab.chains.graph.scale import At
from cupola.lab.collections import Collection
from cupola.lab.collections.images import describe
from cupola.lab.maps.views import FARTHEST, native_resolution
from cupola.lab.tiles.styles import Style, gradient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cupola.lab.maps.views import View

__all__ = ["WAYS", "ChainLayer", "as_chain", "base_url", "picture_limits"]

WAYS = ("auto", "tiles", "view")
"""By tiles, by one image for the whole viewport, or whichever the server finds cheaper."""

PICTURE_BANDS = 3
STAMPED = 1000
"""So many items of a collection are looked at for changes, the newest first."""


def base_url() -> str:
    """Return under which path this session's Jupyter server answers; starts and ends with a slash."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or os.environ.get("CUPOLA_BASE_URL") or "/"
    return f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"


def as_chain(thing: Any) -> Chain:
    """Return what to draw for a chain, a collection, or a job (its products).

    Raises
    ------
    InputError
        It is none of these, or a filter has left nothing of its collection.
    """
    products = getattr(thing, "products", None)
    chain = _chain_of(products if isinstance(products, Collection) else thing)
    for collection in chain.collections:
        if collection.filters:  # One without them may be a folder that a job is about to fill.
            collection.expect_items()
    return chain


def _chain_of(thing: Any) -> Chain:
    """Return a chain as it is, and what shows a collection best."""
    if isinstance(thing, Chain):
        return thing
    if isinstance(thing, Collection):
        colours = _colours(thing)
        # A chain has no truth value.
        return thing.preview() if colours is None else colours
    raise InputError(
        f"A map shows chains, collections and job.products, not {type(thing).__name__}; "
        "open files with cupola.open(path) first."
    )


def _colours(collection: Collection) -> Chain | None:
    """Return the three bands of bare picture files as one chain; nothing for anything else."""
    if not collection.items or len(collection.items[0].images) != 1:
        return None
    (asset,) = collection.items[0].images.values()
    try:
        image = describe(asset.href)
        if image.dtypes == ("uint8",) * PICTURE_BANDS and image.band_names == collection.bands:
            return collection[tuple(image.band_names)]
    except CupolaError:
        # What is wrong with the file shows when its tiles are asked for.
        return None
    return None


class ChainLayer(TileLayer):  # type: ignore[misc]
    """A chain on a map.

    Parameters
    ----------
    chain
        What to draw.
    view
        The grid of the map.
    style
        Colours, and the values between which they are spread.
    unit
        Unit of the values, for the legend.
    exact
        Whether each pixel is computed from full resolution.
    way
        One of `WAYS`.
    """

    def __init__(  # noqa: PLR0913 - what is drawn, where and how
        self,
        chain: Chain,
        view: View,
        style: Style,
        *,
        unit: str = "",
        exact: bool = False,
        way: str = "auto",
        whole: Chain | None = None,
        **options: Any,
    ) -> None:
        self.chain = chain
        self.whole = chain if whole is None else whole
        """The chain over its whole collection, where `chain` is over one item of it."""
        self.style = style
        self.exact = exact
        self.way = way
        self.unit = unit or _unit(chain)
        self.restyled: list[Callable[[], None]] = []
        """Called when a person chose another style on the map."""
        self._view = view
        self.resolution = native_resolution(chain)
        """The finest pixel of the images, in metres."""
        self.revision = _revision(chain)
        self.hash = store.save(chain)
        super().__init__(url=self._address(), max_zoom=FARTHEST, **options, **self._limits())
        self.observe(self._read_style, "url")

    def _limits(self) -> dict[str, Any]:
        """Return from which zoom level on the browser enlarges tiles itself.

        Beyond the images' own pixels there is nothing to compute, and a neighbourhood function would look at
        copies of one pixel.
        """
        if self._view.is_image:
            # Leaflet's plane has level 0 where the grid has the one with an image's own pixels.
            return {
                "min_zoom": self._view.lowest,
                "zoom_offset": -self._view.lowest,
                "max_native_zoom": 0,
                "no_wrap": True,
                "bounds": [(-self._view.size[1], 0), (0, self._view.size[0])],
            }
        if self.resolution is None:
            return {}
        box = self.chain.collection.bbox or (0.0, 0.0, 0.0, 0.0)
        # Towards the poles a Mercator pixel shrinks: what suffices there suffices everywhere.
        flattest = 0.0 if box[1] <= 0.0 <= box[3] else min(abs(box[1]), abs(box[3]))
        return {"max_native_zoom": self._view.native_zoom(self.resolution, flattest)}

    def _address(self) -> str:
        """Return the address of the tiles."""
        query = {"cmap": self.style.cmap}
        for name, limits in (("vmin", self.style.vmin), ("vmax", self.style.vmax)):
            if limits:
                query[name] = ",".join(f"{limit:.9g}" for limit in limits)
        if self.style.scale != "linear":
            query["scale"] = self.style.scale
        if self.exact:
            query["exact"] = "1"
        query["v"] = self.revision
        return f"{self.root}/{quote(self._view.tms)}/{{z}}/{{x}}/{{y}}.png?{urlencode(query, safe=',')}"

    def _read_style(self, _change: Any) -> None:
        """Take over the style that a person chose in the browser, which draws it without asking the kernel."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.url).query).items()}
        try:
            style = Style.parse(query)
        except InputError:
            return
        exact = query.get("exact") == "1"
        if (style, exact) != (self.style, self.exact):
            self.style, self.exact = style, exact
            for told in self.restyled:
                told()

    def restyle(self, style: Style, *, exact: bool | None = None) -> None:
        """Draw with another style."""
        self.style = style
        self.exact = self.exact if exact is None else exact
        self.url = self._address()

    @property
    def pinned(self) -> float | None:
        """Metres per pixel of the coarsest step that is computed at a scale of its own."""
        return max((step.metres for step in self.chain.program.of_kind(At)), default=None)

    @property
    def root(self) -> str:
        """The part of the address that all about this chain has in common."""
        return f"{base_url()}cupola/tiles/{self.hash}"

    def move(self, view: View) -> None:
        """Draw on another grid."""
        self._view = view
        self.look()

    def replace(self, chain: Chain) -> None:
        """Draw another chain in the same style and place."""
        self.chain = chain
        self.hash = store.save(chain)
        self.look()

    def look(self) -> None:
        """Make the address fit the collection as it is now: the browser then asks for all tiles in view."""
        self.revision = _revision(self.chain)
        if self.resolution is None:
            self.resolution = native_resolution(self.chain)
            for name, value in self._limits().items():
                setattr(self, name, value)
        self.url = self._address()

    def legend(self) -> dict[str, Any]:
        """Return what the legend shows, as plain data."""
        style = self.style
        return {
            "model": self.model_id,
            "name": self.name,
            "colours": gradient(style.cmap),
            "style": {**style.to_json(), "exact": self.exact},
            "unit": self.unit,
            "halo": self.chain.halo,
            "pinned": self.pinned,
            "way": self.way,
            "resolution": self.resolution,
        }


def _revision(chain: Chain) -> str:
    """Return a short word that changes when items come, go or are written anew."""
    digest = hashlib.sha256()
    for collection in chain.collections:
        # Of a larger collection the number of items and the newest of them say enough: it would take seconds to look
        # at all of its files whenever one appears.
        digest.update(f"{len(collection)}\n".encode())
        for item in islice(collection.items, STAMPED):
            path = item.path or next((asset.href for asset in item.assets.values()), None)
            digest.update(f"{item.id}\0{_stamp(path)}\n".encode())
    return digest.hexdigest()[:12]


def _stamp(path: Path | str | None) -> int:
    """Return when a file was changed, 0 for what is no file here."""
    try:
        return os.stat(path).st_mtime_ns if path else 0  # noqa: PTH116 - an address may be no path at all
    except (OSError, ValueError):
        return 0


def _unit(chain: Chain) -> str:
    """Return the unit of a chain that is a band and no computation, if its item tells."""
    if (
        len(chain.bands) != 1
        or not chain.collection.items
        or chain.hash != chain.collection[chain.bands].hash
    ):
        return ""
    item = chain.collection.items[0]
    try:
        (band,) = item.band(chain.bands[0])
    except (CupolaError, ValueError):
        return ""
    for asset in item.images.values():
        if asset.href == band.path:
            said = asset.fields.get("bands") or asset.fields.get("raster:bands") or []
            entry = said[band.index - 1] if band.index <= len(said) else {}
            return str(entry.get("unit") or asset.fields.get("unit") or "")
    return ""


def picture_limits(chain: Chain) -> tuple[float, float] | None:
    """Return 0 and 255 for a ready-made colour picture: it must not be stretched once more."""
    if chain.bands != ("visual",) or not chain.collection.items:
        return None
    try:
        images = [describe(band.path) for band in chain.collection.items[0].band("visual")]
    except CupolaError:
        return None
    return (0.0, 255.0) if all(set(image.dtypes) == {"uint8"} for image in images) else None
