"""What tile workers can be asked for, by name: each is a function of a chain and the request.

A request is a dict ``{"do": NAME, "chain": HASH, "revision": WORD, ...}``; a work returns a header (plain data, sent
as JSON) and a body (bytes). Other rooms add theirs to `WORKS`; nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from cupola.lab.chains import Chain
    from cupola.lab.chains.compute.evaluate import Pixels

__all__ = ["WORKS", "Work", "draw", "find"]

Work = Callable[["Chain", dict[str, Any]], tuple[dict[str, Any], bytes]]

WORKS = {
    "tile": "cupola.lab.tiles.works:tile",
    "view": "cupola.lab.tiles.works:view",
    "stretch": "cupola.lab.tiles.works:stretch",
    "probe": "cupola.lab.tiles.works:probe",
    "area": "cupola.lab.tiles.works:area",
    "overview": "cupola.lab.tiles.overview:work",
    "hips": "cupola.lab.sky.hips:work",
}
"""Where each work is, as ``module:function``."""


@lru_cache(maxsize=64)
def find(name: str) -> Work:
    """Return the work called `name`.

    Raises
    ------
    InputError
        There is none.
    """
    if name not in WORKS:
        raise InputError(f"Tile workers have no work {name!r}; there are {', '.join(sorted(WORKS))}.")
    module, function = WORKS[name].split(":")
    found: Work = getattr(importlib.import_module(module), function)
    return found


def draw(pixels: Pixels, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return pixels in the form that a request wants: its ``kind`` (png, webp, npy) and ``style``."""
    from cupola.lab.tiles import encode
    from cupola.lab.tiles.styles import Style

    told = {
        "scale": round(pixels.scale, 6),
        "exact": pixels.exact,
        "items": len(pixels.items),
    }
    if request["kind"] == "npy":
        return told, encode.npy(pixels.data, pixels.valid)
    encoded = encode.webp if request["kind"] == "webp" else encode.png
    return told, encoded(pixels.data, pixels.valid, Style.from_json(request["style"]))


def tile(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make one tile: ``tms``, ``tile`` (z, x, y), ``size``, ``kind``, ``style``, ``exact``.

    The header says whether an ``overview`` of the collection was used, or is wanted, and whether the tile is
    ``partial``: one made with an overview shows more.
    """
    from cupola.lab.chains.compute import evaluate
    from cupola.lab.tiles import overview

    z, x, y = request["tile"]
    size, exact = request["size"], bool(request.get("exact"))
    items = 0
    if size == overview.SIZE and not exact:
        pixels, items = overview.tile(chain, request["tms"], (z, x, y), request["revision"])
        if pixels is not None:
            header, body = draw(pixels, request)
            return {**header, "overview": "used"}, body
    pixels = evaluate.tile(chain, request["tms"], x, y, z, size=size, exact=exact)
    header, body = draw(pixels, request)
    if items:
        partial = items > evaluate.MAX_ITEMS and not pixels.valid.all()
        header |= {"overview": "wanted", "partial": partial}
    return header, body


def view(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make one image of a whole viewport: ``tms``, ``box``, ``width``, ``height``, ``kind``, ``style``, ``exact``."""
    from cupola.lab.chains.compute import evaluate

    box = tuple(request["box"])
    pixels = evaluate.viewport(
        chain,
        request["tms"],
        box,
        request["width"],
        request["height"],
        exact=bool(request.get("exact")),
    )
    return draw(pixels, request)


def stretch(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Tell between which values colours are spread: ``tms``, and ``box`` and ``zoom`` for a viewport's own."""
    from cupola.lab.tiles import stretch as room

    if request.get("box"):
        return room.of_view(chain, request["tms"], tuple(request["box"]), request.get("zoom")), b""
    return room.stretch(chain, request["tms"]), b""


def probe(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Tell a chain's values at a place: ``lon`` and ``lat`` in degrees."""
    from cupola.lab.chains.compute import evaluate

    return {}, _json(evaluate.probe(chain, request["lon"], request["lat"]))


def area(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Tell a chain's statistics in an area: ``geometry`` (GeoJSON) and, where said, ``metres`` per pixel."""
    from cupola.lab.chains.compute import evaluate

    return {}, _json(evaluate.area(chain, request["geometry"], request.get("metres")))


def _json(result: Any) -> bytes:
    """Return a result as JSON: what is not finite is null, NumPy's numbers are plain ones."""
    return json.dumps(_plain(result), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Return `value` made of what JSON has."""
    import dataclasses
    import math

    import numpy as np

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
