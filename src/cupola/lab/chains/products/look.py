"""What the bands of a product are called, measured in and coloured with, as far as their origin tells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rasterio.enums import ColorInterp

from cupola.exceptions import CupolaError
from cupola.lab.collections.images import describe, local_path, open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.products.packing import Packing
    from cupola.lab.collections.images import Band
    from cupola.lab.collections.items import Item

__all__ = ["BandLook", "Look", "look_of"]

_CHOOSES = frozenset({"mask", "mask_scl", "mask_qa"})
"""Steps whose values are some of their input's, band by band: classes stay classes."""
_PICKS = frozenset({"mosaic", "first", "last", "min", "max"})
"""Reductions of the same kind."""
_COUNTS = frozenset({"count"})
"""Reductions whose values are not measured in the unit of their input."""
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_COLOURED = (3, 4)
_MOST_CLASSES = 256

Palette = dict[int, tuple[int, int, int, int]]


@dataclass(frozen=True)
class BandLook:
    """One band."""

    name: str
    unit: str | None = None
    classes: tuple[dict[str, Any], ...] = ()
    """As the classification extension has them: value, name, colour."""
    palette: tuple[tuple[int, tuple[int, int, int, int]], ...] = ()


@dataclass(frozen=True)
class Look:
    """All bands."""

    bands: tuple[BandLook, ...]
    colours: tuple[ColorInterp, ...] | None = None

    @property
    def palette(self) -> Palette | None:
        """Colours of the numbers of a single band of classes."""
        return dict(self.bands[0].palette) if len(self.bands) == 1 and self.bands[0].palette else None


def look_of(chain: Chain, item: Item | None, count: int, packing: Packing) -> Look:
    """Return what the `count` bands of a chain's product look like.

    Names, units and classes are those of the bands it was read from where its steps keep them; a result that was
    computed has the name of its function.
    """
    whole = packing.dtype == "uint8" and packing.scale == 1.0
    classes = not packing.is_float and packing.scale == 1.0
    bands = None if item is None else _followed(chain, item, classes=classes)
    if bands is None or len(bands) != count:
        bands = [BandLook(name) for name in _names(chain, count)]
    if len({band.name for band in bands}) < count:
        bands = [
            BandLook(f"{band.name}-{n}", band.unit, band.classes, band.palette)
            for n, band in enumerate(bands, 1)
        ]
    colours = None
    if whole and count in _COLOURED and not any(band.classes or band.palette for band in bands):
        last = ColorInterp.alpha if bands[-1].name.lower() in ("alpha", "a") else ColorInterp.undefined
        colours = _RGB if count == len(_RGB) else (*_RGB, last)
    return Look(tuple(bands), colours)


def _names(chain: Chain, count: int) -> list[str]:
    own = [function.name for function in chain.functions if function.name.isidentifier()]
    if not own:
        return ["data"] if count == 1 else [f"b{number}" for number in range(1, count + 1)]
    return [own[-1]] if count == 1 else [f"{own[-1]}-{number}" for number in range(1, count + 1)]


def _followed(chain: Chain, item: Item, *, classes: bool) -> list[BandLook] | None:
    """Follow the bands through the chain's steps; nothing where its result is none of them any more."""
    known: list[list[BandLook] | None] = []
    try:
        for step in json.loads(chain.to_json())["steps"]:
            inputs = [part for part in step.get("inputs", []) if isinstance(part, int)]
            first = known[inputs[0]] if inputs else None
            known.append(_after(step, first, item, classes=classes))
    except (CupolaError, KeyError, IndexError):
        return None  # another item's bands, or a step of a later version: no names rather than wrong ones
    return known[-1] if known else None


def _after(
    step: dict[str, Any], before: list[BandLook] | None, item: Item, *, classes: bool
) -> list[BandLook] | None:
    operation, how = step["op"], step.get("how")
    if operation == "bands":
        return [_look(band, item, classes=classes) for name in step["names"] for band in item.band(name)]
    if before is None:
        return None
    if operation == "select":
        return [before[step["index"]]]
    if operation in _CHOOSES or (operation == "reduce" and how in _PICKS):
        return before
    if operation in {"reduce", "at"}:
        # Quantities are averaged on the way, and what were classes may be none any more.
        return [BandLook(band.name, None if how in _COUNTS else band.unit) for band in before]
    return None


def _look(band: Band, item: Item, *, classes: bool) -> BandLook:
    said: dict[str, Any] = {}
    asset = next((asset for asset in item.images.values() if asset.href == band.path), None)
    if asset is not None:
        described = [one for one in asset.fields.get("bands") or [] if isinstance(one, dict)]
        own = described[band.index - 1] if band.index <= len(described) else {}
        said = {**asset.fields, **own}
    unit = said.get("unit") or said.get("raster:unit")
    listed = said.get("classification:classes") if classes else None
    name = describe(band.path).band_names[band.index - 1] if item.from_file else band.name
    unit = unit or next(iter(describe(band.path).units[band.index - 1 : band.index]), None)
    return BandLook(
        name,
        str(unit) if isinstance(unit, str) else None,
        tuple(one for one in listed or () if isinstance(one, dict) and isinstance(one.get("value"), int)),
        _palette(band, listed or ()) if classes else (),
    )


def _palette(
    band: Band, listed: Sequence[dict[str, Any]]
) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
    """Return the colours of classes: from the file's colour table, else from the item's colour hints."""
    table: Palette = {}
    if local_path(band.path) is not None:
        with open_image(band.path) as dataset:
            read = getattr(dataset, "colormap", None)
            try:
                table = dict(read(band.index)) if read is not None else {}
            except ValueError:
                table = {}  # it has none
    for one in listed:
        hint = str(one.get("color_hint") or one.get("color-hint") or "")
        if len(hint) == 6 and isinstance(one.get("value"), int) and one["value"] not in table:  # noqa: PLR2004
            try:
                red, green, blue = bytes.fromhex(hint)
            except ValueError:
                continue
            table[one["value"]] = (red, green, blue, 255)
    return tuple(sorted((key, colour) for key, colour in table.items() if 0 <= key < _MOST_CLASSES))
