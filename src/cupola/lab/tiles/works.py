"""What tile workers can be asked for, by name: each is a function of a chain and the request.

A request is a dict ``{"do": NAME, "chain": HASH, "revision": WORD, ...}``; a work returns a header (plain data, sent
as JSON) and a body (bytes). Other rooms add theirs to `WORKS`; nothing is imported before it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, LimitError

if TYPE_CHECKING:
    from cupola.lab.chains import Chain
    from cupola.lab.chains.compute.evaluate import Pixels

__all__ = ["WORKS", "Work", "draw", "find", "looked_at", "told"]

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

    if request["kind"] == "npy":
        return told(pixels), encode.npy(pixels.data, pixels.valid)
    encoded = encode.webp if request["kind"] == "webp" else encode.png
    return told(pixels), encoded(pixels.data, pixels.valid, Style.from_json(request["style"]))


def told(pixels: Pixels) -> dict[str, Any]:
    """Return what a header says of pixels: the scale they were computed at, whether a run gives them, how many items."""
    return {
        "scale": round(pixels.scale, 6),
        "exact": pixels.exact,
        "items": len(pixels.items),
        "note": _left_out(pixels.left_out) if pixels.left_out else None,
    }


def _left_out(count: int) -> str:
    return (
        f"{count:,} images that may fill what is missing in a tile here were not read, as a preview reads a few dozen "
        "at most: zoom in, or choose fewer with filter(...)."
    )


def looked_at(compute: Callable[..., Pixels], *place: Any, exact: bool, **options: Any) -> Pixels:
    """Compute pixels exactly where that is wanted; as a preview where it takes more than somebody waits for.

    The pixels tell which of both they are, and a map says it: a view full of refusals would show nothing.
    """
    if exact:
        with contextlib.suppress(LimitError):
            return compute(*place, exact=True, **options)
    return compute(*place, exact=False, **options)


def tile(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make one tile: ``tms``, ``tile`` (z, x, y), ``size``, ``kind``, ``style``, ``exact``.

    The header says whether an ``overview`` of the collection was used, or is wanted, whether more of it is to be made
    (``build``), whether the tile is ``partial`` and will show more later, and a ``note`` in a sentence where it lacks items.
    """
    from cupola.lab.chains.compute import evaluate
    from cupola.lab.tiles import overview

    z, x, y = request["tile"]
    size, exact = request["size"], bool(request.get("exact"))
    look = overview.Look(None)
    if size in overview.SIZES and not exact:
        look = overview.tile(chain, request["tms"], (z, x, y), request["revision"], size)
    pixels = look.pixels
    if pixels is None:
        most = evaluate.FIRST_ITEMS if look.wanted else evaluate.MAX_ITEMS
        pixels = looked_at(
            evaluate.tile, chain, request["tms"], x, y, z, size=size, exact=exact, max_items=most
        )
    header, body = draw(pixels, request)
    if look.pixels is not None or look.wanted:
        waiting = look.waiting if look.pixels is not None else pixels.left_out
        header |= {
            "overview": "wanted" if waiting else "used",
            "build": look.wanted > 0,
            "partial": waiting > 0,
        }
        if waiting:
            header["note"] = (
                f"{waiting:,} more images of a tile here are being read for the overview: the map shows them as they come."
            )
        elif look.unreadable:
            header["note"] = (
                f"{look.unreadable:,} images in a tile here cannot be read: zoom in to see which."
            )
    return header, body


def view(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make one image of a whole viewport: ``tms``, ``box``, ``width``, ``height``, ``kind``, ``style``, ``exact``."""
    from cupola.lab.chains.compute import evaluate

    box = tuple(request["box"])
    place = chain, request["tms"], box, request["width"], request["height"]
    return draw(looked_at(evaluate.viewport, *place, exact=bool(request.get("exact"))), request)


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
