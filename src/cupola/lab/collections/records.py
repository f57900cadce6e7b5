"""What is kept of an item: read once from its STAC document or its image, then looked up."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from cupola.exceptions import CupolaError, InputError
from cupola.lab import bodies
from cupola.lab.collections.footprint import Box, box_geometry, footprint, image_box
from cupola.lab.collections.formats.address import file_of
from cupola.lab.collections.images import describe
from cupola.lab.collections.items import item_from_text, parse_time

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cupola.lab.collections.images import Image

__all__ = [
    "NEVER",
    "Record",
    "micros",
    "record_of_document",
    "record_of_image",
    "record_of_text",
]

NEVER = np.iinfo(np.int64).min
"""Stands for a time that is not known."""
_EDGE = 9
"""Points along each edge of an image that its footprint is drawn with."""
_NO_IMAGES = frozenset({".json", ".geojson", ".jpg", ".jpeg", ".png", ".txt", ".md", ".csv", ".html", ""})
_ASSET_FIELDS = ("href", "type", "title", "roles")


@dataclass
class Record:
    """One item, as the index keeps it."""

    name: str
    """The file it was read from, relative to the collection's folder, or an address."""
    stamp: tuple[int, int]
    """Time of change (nanoseconds) and size of that file."""
    id: str
    start: int = NEVER
    """Microseconds since 1970."""
    end: int = NEVER
    collection: str | None = None
    box: Box | None = None
    targets: tuple[str, ...] | None = None
    image: bool = False
    """Whether it was made from a bare image file."""
    properties: dict[str, Any] = field(default_factory=dict)
    geometry: dict[str, Any] | None = None
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    document: bytes | None = None
    """The STAC item itself, packed, where it cannot be read again from a file here."""
    version: str = "1.0.0"
    extensions: list[str] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        """Names of the image files that it speaks of."""
        names = (base_name(asset["href"]) for asset in self.assets.values())
        return {name for name in names if os.path.splitext(name)[1].lower() not in _NO_IMAGES}  # noqa: PTH122 - speed


def base_name(address: str) -> str:
    """Return the name of the file at a path or an address."""
    name = (
        address.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]
        if "://" in address
        else address.rsplit("/", 1)[-1]
    )
    return unquote(name) if "%" in name else name


def micros(moment: datetime | None) -> int:
    """Return a time as microseconds since 1970."""
    return NEVER if moment is None else round(moment.timestamp() * 1e6)


def record_of_text(
    text: bytes, name: str, stamp: tuple[int, int], *, keep: bool = False, path: Path | None = None
) -> Record | None:
    """Return the record of a STAC item's text; nothing if it is none.

    With `keep` the document stays with it. An item that does not say where it is, as those of the sky often do not (GeoJSON
    is for bodies), is where its images are: `path` says where the item's own file lies.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    record = record_of_document(document, name, stamp, keep=keep)
    if record is not None and record.box is None and path is not None:
        item = item_from_text(text, path, stamp)
        with contextlib.suppress(CupolaError):
            record.box = item.bbox if item is not None else None
            record.geometry = record.geometry or box_geometry(record.box)
    return record


def record_of_document(
    document: Any, name: str, stamp: tuple[int, int], *, keep: bool = False
) -> Record | None:
    """Return the record of a STAC item; nothing if it is none."""
    if not isinstance(document, dict) or document.get("type") != "Feature" or "assets" not in document:
        return None
    properties = document.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    start = parse_time(properties.get("datetime")) or parse_time(properties.get("start_datetime"))
    end = parse_time(properties.get("end_datetime")) or start
    targets = properties.get("ssys:targets")
    collection = document.get("collection")
    assets = document.get("assets")
    geometry = document.get("geometry")
    extensions = document.get("stac_extensions")
    return Record(
        name=name,
        stamp=stamp,
        id=str(document.get("id") or PurePosixPath(name).stem),
        start=micros(start),
        end=micros(end),
        collection=str(collection) if collection else None,
        box=footprint(document),
        targets=tuple(map(str, targets)) if isinstance(targets, list) else None,
        properties=properties,
        geometry=geometry if isinstance(geometry, dict) else None,
        assets=_assets(assets) if isinstance(assets, dict) else {},
        document=zlib.compress(json.dumps(document).encode(), 1) if keep else None,
        version=str(document.get("stac_version") or "1.0.0"),
        extensions=[str(one) for one in extensions] if isinstance(extensions, list) else [],
    )


def _assets(assets: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Keep what other readers of the index need of the files."""
    found = {}
    for key, fields in assets.items():
        if isinstance(fields, dict):
            kept = {name: fields[name] for name in _ASSET_FIELDS if fields.get(name) is not None}
            found[str(key)] = kept | {"href": str(kept.get("href", ""))}
    return found


def record_of_image(path: str, name: str, stamp: tuple[int, int]) -> Record:
    """Return the record of a bare image file or address.

    Raises
    ------
    ImageError
        When it is no image.
    InputError
        When the name cannot be an item's id.
    """
    stem = PurePosixPath(base_name(file_of(name))).stem
    if not stem:
        raise InputError(f"The file {path} needs a name before its ending.")
    image = describe(path)
    box = image_box(image)
    try:
        body = image.body
    except CupolaError:
        body = None  # an unknown body: the file itself tells its radius when it is drawn
    properties: dict[str, Any] = {"proj:shape": [image.height, image.width]}
    targets = (body.name,) if body is not None and body is not bodies.SKY else None
    if targets:
        properties["ssys:targets"] = list(targets)
    if code := bodies.code_of_crs(image.crs):
        properties["proj:code"] = code
    return Record(
        name=name,
        stamp=stamp,
        id=stem,
        start=micros(image.start),
        end=micros(image.end or image.start),
        box=box,
        targets=targets,
        image=True,
        properties=properties,
        geometry=_outline(image, box),
        assets={"image": {"href": name, "roles": ["data"]}},
    )


def _outline(image: Image, box: Box | None) -> dict[str, Any] | None:
    """Return the footprint of an image as GeoJSON: its edges, or its box where those cross the antimeridian."""
    placement = image.placement
    if placement is None or box is None or box[0] > box[2] or box[2] - box[0] >= 180:  # noqa: PLR2004 - half a turn
        return box_geometry(box)
    steps = np.linspace(0, 1, _EDGE)[:-1]
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = np.concatenate([steps, ones, 1 - steps, zeros]) * image.width
    rows = np.concatenate([zeros, steps, ones, 1 - steps]) * image.height
    longitudes, latitudes = placement.lonlat(columns, rows)
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        return box_geometry(box)
    middle = (box[0] + box[2]) / 2
    longitudes = (longitudes - middle + 180.0) % 360.0 - 180.0 + middle
    ring = [[round(float(x), 7), round(float(y), 7)] for x, y in zip(longitudes, latitudes, strict=True)]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
