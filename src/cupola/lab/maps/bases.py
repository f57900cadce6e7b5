"""What lies below the layers of a map: land, collections marked as base maps, public services."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from cupola.exceptions import BodyError, CupolaError, InputError
from cupola.lab.chains import Chain
from cupola.lab.collections import Collection
from cupola.lab.maps.layers import ChainLayer, as_chain, picture_limits
from cupola.lab.tiles.styles import Style

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.lab.maps.views import View

__all__ = ["MARK", "NONE", "any_volumes", "choices", "chosen", "marked"]

MARK = "cupola:basemap"
"""The property of a collection.json that makes the collection the base map of its body."""
NONE = "none"

OSM = {
    "key": "osm",
    "title": "OpenStreetMap",
    "kind": "tiles",
    "url": "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
    "finest": 19,
    "attribution": "© OpenStreetMap contributors",
}
USGS = "https://planetarymaps.usgs.gov/cgi-bin/mapserv?map=/maps/"
USGS_MAPS = {
    "Mercury": ("mercury/mercury_simp_cyl.map", "MESSENGER"),
    "Venus": ("venus/venus_simp_cyl.map", "MAGELLAN"),
    "Moon": ("earth/moon_simp_cyl.map", "LROC_WAC"),
    "Mars": ("mars/mars_simp_cyl.map", "MDIM21"),
    "Io": ("jupiter/io_simp_cyl.map", "SSI_VGR_color"),
    "Europa": ("jupiter/europa_simp_cyl.map", "GALILEO_VOYAGER"),
    "Ganymede": ("jupiter/ganymede_simp_cyl.map", "GALILEO_VOYAGER"),
    "Callisto": ("jupiter/callisto_simp_cyl.map", "GALILEO_VOYAGER"),
    "Enceladus": ("saturn/enceladus_simp_cyl.map", "CASSINI"),
    "Titan": ("saturn/titan_simp_cyl.map", "CASSINI"),
}
"""Maps of the USGS Astrogeology Science Center and one layer of each, by body."""

logger = logging.getLogger(__name__)


def choices(view: View) -> list[dict[str, Any]]:
    """Return the base maps that are there for a body and grid, as the browser takes them."""
    found: list[dict[str, Any]] = [{"key": NONE, "title": "none", "kind": "none"}]
    if view.is_image:
        return found
    if view.body.name == "Earth":
        found.append({"key": "land", "title": "Land", "kind": "land", "attribution": "Land: Natural Earth"})
        if view.tms == "WebMercatorQuad":
            found.append(OSM)
    elif view.body.name in USGS_MAPS and view.projection == "eqc":
        path, layers = USGS_MAPS[view.body.name]
        found.append(
            {
                "key": "usgs",
                "title": "USGS Astrogeology",
                "kind": "wms",
                "url": f"{USGS}{path}",
                "layers": layers,
                "attribution": "USGS Astrogeology Science Center",
            }
        )
    return found


def _of_chain(chain: Chain, view: View, title: str) -> dict[str, Any]:
    """Return a chain as a base map.

    Raises
    ------
    BodyError
        It shows another body.
    """
    body = chain.body
    if body is None or body.name != view.body.name:
        shown = body.name if body else "no body"
        raise BodyError(
            f"The base map {title} shows {shown}, and the map shows {view.body.name}; choose another one."
        )
    low, high = picture_limits(chain) or (None, None)
    style = Style("gray", () if low is None else (low,), () if high is None else (high,))
    layer = ChainLayer(chain, view, style)
    try:
        return {
            "key": layer.hash,
            "title": title,
            "kind": "chain",
            "url": layer.url,
            "finest": layer.max_native_zoom,
            "attribution": "",
        }
    finally:
        layer.close()


def chosen(thing: Any, view: View) -> dict[str, Any] | None:
    """Return the base map that is asked for: by its key, a collection, a chain or the name of a collection.

    Raises
    ------
    InputError
        There is no such base map.
    BodyError
        It shows another body.
    """
    if thing is None:
        return None
    if isinstance(thing, str):
        known = {base["key"]: base for base in choices(view)}
        if thing in known:
            return known[thing]
        if thing in {"osm", "land"}:
            raise BodyError(
                f"That basemap shows the Earth; leave {thing!r} out for a map of {view.body.name} ({view.tms})."
            )
        if thing == "usgs":
            raise InputError(
                f"USGS Astrogeology has no base map of {view.body.name} ({view.tms}); leave it out."
            )
        thing = _named(thing, list(known))
    if not isinstance(thing, (Chain, Collection)):
        raise InputError(f"A base map is a name, a collection or a chain, not {type(thing).__name__}.")
    title = (thing.title or thing.id) if isinstance(thing, Collection) else thing.label
    return _of_chain(as_chain(thing), view, str(title))


def _named(name: str, known: list[str]) -> Collection:
    from cupola.lab import collections

    try:
        return collections.open(name)
    except CupolaError as error:
        raise InputError(
            f"There is no basemap {name!r}; choose one of {', '.join(known)}, or a collection."
        ) from error


def any_volumes() -> bool:
    """Tell whether there are volumes that may hold a marked collection."""
    from cupola.lab.collections.find import mounts

    try:
        return bool(mounts())
    except CupolaError:
        return False


def marked(view: View) -> list[dict[str, Any]]:
    """Return the collections that are marked as base maps of the body, by their property ``cupola:basemap``."""
    if view.is_image:
        return []
    found = []
    for folder in _folders():
        try:
            said = json.loads((folder / "collection.json").read_text("utf-8"))
            if not isinstance(said, dict) or said.get(MARK) is not True:
                continue
            collection = Collection(folder)
            if collection.body is not None and collection.body.name == view.body.name:
                found.append(_of_chain(as_chain(collection), view, collection.title or collection.id))
        except (OSError, ValueError, CupolaError):
            # One that cannot be opened must not keep a map from being drawn.
            logger.warning("cupola: the base map in %s cannot be used", folder, exc_info=True)
    return found


def _folders() -> list[Path]:
    """Return the folders of all collections in the session's volumes that have a description."""
    from cupola.lab.collections.find import known_collections

    folders = dict.fromkeys(known_collections().values())
    return [folder for folder in folders if (folder / "collection.json").is_file()]
