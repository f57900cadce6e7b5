"""Items: one scene each, read from STAC (1.0 and 1.1) or made from a bare image file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC
from datetime import datetime as Moment  # noqa: N812 - Item.datetime is STAC's name
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from cupola.exceptions import CupolaError, InputError
from cupola.lab import bodies
from cupola.lab.collections.bands import band_names, find_bands
from cupola.lab.collections.footprint import Box, footprint, image_box
from cupola.lab.collections.images import IMAGE_SUFFIXES, describe

if TYPE_CHECKING:
    from cupola.lab.bodies import Body
    from cupola.lab.collections.images import Band

__all__ = ["Asset", "Item", "item_from_image", "parse_time", "read_item"]

_IMAGE_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-isis")


@dataclass(frozen=True)
class Asset:
    """A file of an item."""

    key: str
    href: str
    """A local path, or an address."""
    fields: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def reachable(self) -> bool:
        """Whether the file is on this machine."""
        return Path(self.href).is_file()

    @property
    def is_image(self) -> bool:
        """Whether this is pixels, as far as the item says, and no metadata or thumbnail."""
        roles = self.fields.get("roles") or []
        if "metadata" in roles and "data" not in roles:
            return False
        kind = str(self.fields.get("type") or "").lower()
        if kind:
            return kind.startswith(_IMAGE_TYPES) or (
                not kind.startswith(
                    ("image/", "text/", "application/json", "application/geo", "application/xml")
                )
                and self._suffix in IMAGE_SUFFIXES
            )
        return self._suffix in IMAGE_SUFFIXES

    @property
    def _suffix(self) -> str:
        return PurePosixPath(self.href).suffix.lower()


@dataclass(frozen=True, eq=False)
class Item:
    """One scene: its files, when it was taken and where it lies."""

    id: str
    assets: dict[str, Asset]
    datetime: Moment | None = None
    end: Moment | None = None
    """When it was over, for an item that spans time; else the same as `datetime`."""
    properties: dict[str, Any] = field(default_factory=dict, repr=False)
    collection: str | None = None
    path: Path | None = None
    """The STAC item's own file; nothing for an item made from an image."""
    box: Box | None = field(default=None, repr=False)

    @override
    def __str__(self) -> str:
        return f"the item {self.id}" if self.path else f"the image {next(iter(self.assets.values())).href}"

    @property
    def from_file(self) -> bool:
        """Whether this was made from a bare image file."""
        return self.path is None

    @cached_property
    def images(self) -> dict[str, Asset]:
        """The assets that hold pixels."""
        return {key: asset for key, asset in self.assets.items() if asset.is_image}

    @property
    def bands(self) -> list[str]:
        """Names of the bands, in the order of the assets."""
        return band_names(self)

    def band(self, name: str) -> list[Band]:
        """Return the bands that `name` stands for: one, or all those of a many-band file.

        Raises
        ------
        BandError
            When the item has no such band.
        """
        return find_bands(self, name)

    @cached_property
    def bbox(self) -> Box | None:
        """West, south, east, north in degrees; west > east across the antimeridian; nothing without a CRS."""
        if self.box is not None:
            return self.box
        for asset in self.images.values():
            if asset.reachable:
                return image_box(describe(asset.href))
        return None

    @cached_property
    def body(self) -> Body | None:
        """The celestial body it shows; nothing for an image without a coordinate system."""
        targets = self.properties.get("ssys:targets")
        if isinstance(targets, list) and len(targets) == 1:
            try:
                return bodies.body_named(str(targets[0]))
            except CupolaError:
                pass  # a body only the item knows: its files tell the radius
        for asset in self.images.values():
            if asset.reachable:
                return bodies.body_of_crs(describe(asset.href).crs)
        return bodies.EARTH if self.box is not None and targets is None else None


def parse_time(text: object) -> Moment | None:
    """Return a time in UTC from RFC 3339 text; nothing where there is none."""
    if not isinstance(text, str):
        return None
    try:
        value = Moment.fromisoformat(text)
    except ValueError:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _reach(href: str, folder: Path) -> str:
    """Return where a file is: as written, relative to the item, or a file of that name beside the item."""
    parts = urlsplit(href)
    if parts.scheme in ("", "file"):
        path = Path(os.path.normpath(folder / unquote(parts.path)))
        if path.is_file():
            return str(path)
        named = path.name
    else:
        path, named = None, PurePosixPath(unquote(parts.path)).name
    beside = folder / named
    if named and beside.is_file():
        return str(beside)
    return str(path) if path else href


def read_item(path: Path) -> Item | None:
    """Return the STAC item in a JSON file, from memory while the file does not change; nothing if it is none."""
    status = path.stat()
    return _read_item(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=200_000)
def _read_item(name: str, _mtime: int, _size: int) -> Item | None:
    path = Path(name)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    if not isinstance(document, dict) or document.get("type") != "Feature" or "assets" not in document:
        return None
    return item_from_document(document, path)


def item_from_document(document: dict[str, Any], path: Path) -> Item:
    """Return the item that a STAC document describes; `path` is where it lies."""
    properties = document.get("properties") or {}
    assets = {
        key: Asset(key, _reach(str(fields.get("href", "")), path.parent), fields)
        for key, fields in (document.get("assets") or {}).items()
        if isinstance(fields, dict)
    }
    start = parse_time(properties.get("datetime")) or parse_time(properties.get("start_datetime"))
    return Item(
        id=str(document.get("id") or path.stem),
        assets=assets,
        datetime=start,
        end=parse_time(properties.get("end_datetime")) or start,
        properties=properties,
        collection=document.get("collection"),
        path=path,
        box=footprint(document),
    )


def item_from_image(path: Path) -> Item:
    """Return an item for a bare image file; the file is opened only when something about it is asked.

    Raises
    ------
    InputError
        When the name cannot be an item's id.
    """
    if not path.stem:
        raise InputError(f"The file {path} needs a name before its ending.")
    return Item(
        id=path.stem, assets={"image": Asset("image", str(path), {"roles": ["data"], "type": "image/tiff"})}
    )
