"""From the names that people use for bands to the files that hold them."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from cupola.exceptions import BandError, ImageError
from cupola.lab.collections.images import Band, describe, is_many, part_address, parts
from cupola.lab.collections.wording import capital, near

if TYPE_CHECKING:
    from cupola.lab.collections.items import Asset, Item

__all__ = ["band_names", "find_bands"]

_NUMBERED = re.compile(r"(?:(?P<asset>.+):)?b(?P<number>[1-9]\d*)")


def _described(asset: Asset) -> list[dict[str, Any]]:
    """Return what the item says of each band in the asset (STAC 1.1 ``bands``, or the 1.0 extensions)."""
    if isinstance(asset.fields.get("bands"), list):
        return [band for band in asset.fields["bands"] if isinstance(band, dict)]
    named = asset.fields.get("eo:bands") or []
    stored = asset.fields.get("raster:bands") or []
    count = max(len(named), len(stored))
    merged = []
    for number in range(count):
        one = dict(stored[number]) if number < len(stored) else {}
        one.update(named[number] if number < len(named) else {})
        merged.append(one)
    return merged


def _bands_of(asset: Asset, number: int | None = None) -> list[Band]:
    """Return all bands of an asset, or the one with this number (from 1)."""
    described = _described(asset)
    count = len(described) or describe(asset.href).count
    one_word = [asset.key] if count == 1 else [f"{asset.key}:b{n}" for n in range(1, count + 1)]
    wanted = range(1, count + 1) if number is None else [number]
    bands = []
    for index in wanted:
        if index > count:
            raise BandError(f"{asset.href} has {count} band{'s'[: count > 1]}, so there is no b{index}.")
        said = described[index - 1] if described else {}
        bands.append(
            Band(
                name=one_word[index - 1],
                path=asset.href,
                index=index,
                scale=_number(said, "scale", asset),
                offset=_number(said, "offset", asset),
                nodata=_number(said, "nodata", asset),
            )
        )
    return bands


def _number(said: dict[str, Any], key: str, asset: Asset) -> float | None:
    """Read a number of STAC 1.0 (``scale``) or 1.1 (``raster:scale``), from the band or from the whole asset."""
    for place in (said, asset.fields):
        for name in (f"raster:{key}", key):
            value = place.get(name)
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                try:
                    return float(value)
                except ValueError:
                    continue
    return None


def _named(asset: Asset, name: str, key: str) -> int | None:
    """Return the number (from 1) of the band that the asset calls `name` under `key`."""
    for number, said in enumerate(_described(asset), 1):
        if name in (said.get(key), said.get(f"eo:{key}")):
            return number
    return None


def find_bands(item: Item, name: str) -> list[Band]:
    """Return the bands that `name` stands for: one, or all those of a many-band asset.

    A name is looked for among the asset keys, then the bands' names, their common names, the files' stems
    (``B04``), then ``b2`` or ``key:b2`` count the bands within a file, and at last among the variables and extensions of
    files that hold several images.

    Raises
    ------
    BandError
        When nothing is called so; the text names the item and offers near names.
    """
    assets = item.images
    if name in assets:
        return _bands_of(assets[name])
    for key in ("name", "common_name"):
        found = [(asset, n) for asset in assets.values() if (n := _named(asset, name, key))]
        if found:
            asset, number = _one_of(found, name, item)
            return _bands_of(asset, number)
    stems = [asset for asset in assets.values() if asset.stem == name]
    if stems:
        return _bands_of(min(stems, key=lambda asset: not asset.reachable))
    if match := _NUMBERED.fullmatch(name):
        return _numbered(item, match["asset"], int(match["number"]), name)
    if item.from_file:
        asset = next(iter(assets.values()))
        names = describe(asset.href).band_names
        if name in names:
            return _bands_of(asset, names.index(name) + 1)
    if found_part := _part(item, name):
        return found_part
    raise BandError(f"{capital(item)} has no band {name!r}{near(name, _understood(item))}")


def _part(item: Item, name: str) -> list[Band]:
    """Return the bands of the part of a file (a variable, an extension) that is called `name`; none where none is."""
    # Files of this machine first: what lies elsewhere is asked only where it may hold several images.
    candidates = sorted(item.images.values(), key=lambda asset: not asset.reachable)
    for asset in candidates:
        if not (asset.reachable or ("://" in asset.href and is_many(asset.href))):
            continue
        given = parts(asset.href)
        # ``SCI`` is short for ``SCI,1``, as astropy has it.
        for wanted in (name, f"{name},1", name.upper(), f"{name.upper()},1"):
            address = _parts_by_name(given).get(wanted)
            if address is None:
                continue
            path = part_address(asset.href, address)
            count = describe(path).count
            names = [name] if count == 1 else [f"{name}:b{n}" for n in range(1, count + 1)]
            return [Band(one, path, number) for number, one in enumerate(names, 1)]
    return []


def _parts_by_name(given: tuple[str, ...]) -> dict[str, str]:
    """Return the parts of a file by their names, and by their names without groups where that says which."""
    short = [part.rpartition("/")[2] for part in given]
    found = {word: part for word, part in zip(short, given, strict=True) if short.count(word) == 1}
    return found | {part: part for part in given}


def _part_names(given: tuple[str, ...]) -> list[str]:
    """Return the shortest names of the parts of a file."""
    short = [part.rpartition("/")[2] for part in given]
    return [word if short.count(word) == 1 else part for word, part in zip(short, given, strict=True)]


def _numbered(item: Item, key: str | None, number: int, name: str) -> list[Band]:
    """Return band `number` of the asset `key`, or of the only asset."""
    assets = item.images
    if key in assets:
        return _bands_of(assets[key], number)
    if key is None and len(assets) == 1:
        return _bands_of(next(iter(assets.values())), number)
    raise BandError(
        f"{capital(item)} has {len(assets)} images, so {name!r} does not say which: write a name like "
        f"'{next(iter(assets), 'asset')}:b{number}'."
    )


def _one_of(found: list[tuple[Asset, int]], name: str, item: Item) -> tuple[Asset, int]:
    """Choose the file that is at hand among those with the same content; refuse where contents differ."""
    best = min(found, key=lambda pair: not pair[0].reachable)
    stems = {asset.stem for asset, _ in found}
    at_hand = {asset.stem for asset, _ in found if asset.reachable}
    if len(stems) > 1 and len(at_hand) != 1:
        keys = ", ".join(asset.key for asset, _ in found)
        raise BandError(f"{capital(item)} has more than one band {name!r}: say which of {keys}.")
    return best


def band_names(item: Item) -> list[str]:
    """Return the names of an item's bands in the order of its assets; those of variables and extensions as well."""
    if item.from_file:
        path = next(iter(item.images.values())).href
        return _part_names(parts(path)) or describe(path).band_names
    names = list(item.images)
    for asset in item.images.values():
        if asset.reachable and is_many(asset.href):
            with contextlib.suppress(ImageError):
                names += [name for name in _part_names(parts(asset.href)) if name not in names]
    return names


def _understood(item: Item) -> list[str]:
    """Return names that would have been understood, of the files at hand where there are any."""
    if item.from_file:
        return band_names(item)
    assets = [asset for asset in item.images.values() if asset.reachable] or list(item.images.values())
    more = [name for name in band_names(item) if name not in item.images]
    return [asset.key for asset in assets] + [asset.stem for asset in assets] + more
