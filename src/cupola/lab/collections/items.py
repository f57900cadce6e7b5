"""Items: one scene each, read from STAC (1.0 and 1.1) or made from a bare image file.

An item in memory is only what finds it: id, time, place. Its assets and properties are read again from its own
file when they are asked for, as 10,000 items of Sentinel-2 with all their assets would fill a gigabyte.
"""

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

from cupola.exceptions import CupolaError, ImageError, InputError
from cupola.lab import bodies
from cupola.lab.collections.bands import band_names, find_bands
from cupola.lab.collections.footprint import Box, footprint, image_box
from cupola.lab.collections.formats.address import split
from cupola.lab.collections.images import describe, is_image_name, local_path, part_address
from cupola.lab.collections.remote import join

if TYPE_CHECKING:
    from cupola.lab.bodies import Body
    from cupola.lab.collections.images import Band

__all__ = ["Asset", "Item", "item_from_image", "item_from_text", "parse_time", "read_item"]

_IMAGE_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-isis")
_OTHER_TYPES = ("image/", "text/", "application/json", "application/geo", "application/xml")


@dataclass(frozen=True)
class Asset:
    """A file of an item."""

    key: str
    written: str
    """The address as the item has it."""
    folder: Path
    """Where the item lies."""
    fields: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    address: str = ""
    """Where the item came from, if it has no file here."""

    @cached_property
    def href(self) -> str:
        """A local path, or an address: as written, relative to the item, or a file of that name beside the item."""
        if self.address:
            return join(self.address, self.written)
        written, part = split(self.written)
        parts = urlsplit(written)
        if parts.scheme in ("", "file"):
            # In the name of a file here, a number sign is a letter like any other.
            text = f"{parts.path}#{parts.fragment}" if parts.fragment else parts.path
            path = Path(os.path.normpath(self.folder / unquote(text)))
            if path.exists():
                return part_address(str(path), part)
            named, otherwise = path.name, str(path)
        else:
            named, otherwise = PurePosixPath(unquote(parts.path)).name, written
        beside = self.folder / named
        return part_address(str(beside) if named and beside.is_file() else otherwise, part)

    @cached_property
    def reachable(self) -> bool:
        """Whether the file is on this machine."""
        local = local_path(self.href)
        return local is not None and Path(local).exists()

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(unquote(urlsplit(self.written).path)).stem

    @cached_property
    def is_image(self) -> bool:
        """Whether this is pixels, as far as the item says, and no metadata or thumbnail."""
        image = is_image_name(unquote(urlsplit(self.written).path))
        roles = self.fields.get("roles") or []
        if "data" in roles and image:
            return True
        if "metadata" in roles:
            return False
        kind = str(self.fields.get("type") or "").lower()
        return kind.startswith(_IMAGE_TYPES) or (image and not kind.startswith(_OTHER_TYPES))


@dataclass(frozen=True, eq=False)
class Item:
    """One scene: its files, when it was taken and where it lies."""

    id: str
    datetime: Moment | None = None
    end: Moment | None = None
    """When it was over, for an item that spans time; else the same as `datetime`."""
    collection: str | None = None
    path: Path | None = None
    """The STAC item's own file; nothing for an item made from an image."""
    image: str | None = None
    """The image file it was made from; nothing for a STAC item."""
    box: Box | None = field(default=None, repr=False)
    targets: tuple[str, ...] | None = field(default=None, repr=False)
    """The bodies that the item names; the solar-system extension's ``ssys:targets``."""
    stamp: tuple[int, int] = field(default=(0, 0), repr=False)
    """Time of change and size of the item's file when it was read."""
    document: dict[str, Any] | None = field(default=None, repr=False)
    """The whole STAC item, where it has no file of its own here: it came from a server."""
    address: str | None = field(default=None, repr=False)
    """Where the document came from: its files' relative addresses start there."""

    @override
    def __str__(self) -> str:
        return f"the image {self.image}" if self.image else f"the item {self.id}"

    @property
    def from_file(self) -> bool:
        """Whether this was made from a bare image file."""
        return self.image is not None

    @property
    def assets(self) -> dict[str, Asset]:
        """Its files by key."""
        if self.image is not None:
            image = Path(self.image)
            return {"image": Asset("image", self.image, image.parent, {"roles": ["data"]})}
        if self.document is not None:
            return _assets(self.document, Path(), self.address or "")
        return _details(str(self.path), *self.stamp)[1] if self.path else {}

    @property
    def properties(self) -> dict[str, Any]:
        """What the STAC item says besides; empty for an item made from an image."""
        if self.document is not None:
            return self.document.get("properties") or {}
        return _details(str(self.path), *self.stamp)[0] if self.path else {}

    @property
    def label(self) -> dict[str, Any]:
        """What the label of its first image with one says, such as ``start_time``; see `cupola.lab.planets.label`.

        Raises
        ------
        ImageError
            When none of its images has a label that is known.
        """
        from cupola.lab.planets.label import label

        missing: CupolaError | None = None
        for asset in self.images.values():
            try:
                return label(asset.href)
            except CupolaError as error:
                missing = missing or error
        raise missing or ImageError(f"The item {self.id} has no image, so it has no label.")

    @property
    def images(self) -> dict[str, Asset]:
        """The assets that hold pixels."""
        return {key: asset for key, asset in self.assets.items() if asset.is_image or self.from_file}

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
        if self.targets and len(self.targets) == 1:
            try:
                return bodies.body_named(self.targets[0])
            except CupolaError:
                pass  # a body only the item knows: its files tell the radius
        for asset in self.images.values():
            if asset.reachable:
                return describe(asset.href).body
        return bodies.EARTH if self.box is not None and self.targets is None else None

    def to_json(self) -> dict[str, Any]:
        """Return what makes this item again in another process, without its collection."""
        times = [moment.isoformat() if moment else None for moment in (self.datetime, self.end)]
        said = {
            "id": self.id,
            "datetime": times[0],
            "end": times[1],
            "collection": self.collection,
            "path": str(self.path) if self.path else None,
            "image": self.image,
            "box": list(self.box) if self.box else None,
            "targets": list(self.targets) if self.targets is not None else None,
            "stamp": list(self.stamp),
            "document": self.document,
            "address": self.address,
        }
        return {key: value for key, value in said.items() if value is not None}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Item:
        """Return the item that `to_json` told of.

        Raises
        ------
        InputError
            When it is no such description.
        """
        try:
            box, targets, stamp = said.get("box"), said.get("targets"), said.get("stamp") or (0, 0)
            return cls(
                id=str(said["id"]),
                datetime=parse_time(said.get("datetime")),
                end=parse_time(said.get("end")),
                collection=said.get("collection"),
                path=Path(said["path"]) if said.get("path") else None,
                image=said.get("image"),
                box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                targets=None if targets is None else tuple(map(str, targets)),
                stamp=(int(stamp[0]), int(stamp[1])),
                document=said.get("document"),
                address=said.get("address"),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError("This is no description of an item.") from error


def parse_time(text: object) -> Moment | None:
    """Return a time in UTC from RFC 3339 text; nothing where there is none."""
    if not isinstance(text, str):
        return None
    try:
        value = Moment.fromisoformat(text)
    except ValueError:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@lru_cache(maxsize=512)
def _details(name: str, _mtime: int, _size: int) -> tuple[dict[str, Any], dict[str, Asset]]:
    """Return properties and assets of the STAC item in a file; nothing of one that is gone meanwhile."""
    path = Path(name)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return {}, {}
    return document.get("properties") or {}, _assets(document, path.parent)


def _assets(document: dict[str, Any], folder: Path, address: str = "") -> dict[str, Asset]:
    """Return the files that a STAC item names, by key."""
    return {
        key: Asset(key, str(fields.get("href", "")), folder, fields, address)
        for key, fields in (document.get("assets") or {}).items()
        if isinstance(fields, dict)
    }


def read_item(path: Path) -> Item | None:
    """Return the STAC item in a JSON file; nothing if it is none, or is just being written."""
    try:
        status = path.stat()
        text = path.read_bytes()
    except OSError:
        return None
    return item_from_text(text, path, (status.st_mtime_ns, status.st_size))


def item_from_text(text: bytes, path: Path, stamp: tuple[int, int]) -> Item | None:
    """Return the STAC item that a text is; nothing if it is none. `path` is the file it was read from."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("type") != "Feature" or "assets" not in document:
        return None
    properties = document.get("properties") or {}
    start = parse_time(properties.get("datetime")) or parse_time(properties.get("start_datetime"))
    targets = properties.get("ssys:targets")
    collection = document.get("collection")
    return Item(
        id=str(document.get("id") or path.stem),
        datetime=start,
        end=parse_time(properties.get("end_datetime")) or start,
        collection=str(collection) if collection else None,
        path=path,
        box=footprint(document),
        targets=tuple(map(str, targets)) if isinstance(targets, list) else None,
        stamp=stamp,
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
    return Item(id=path.stem, image=str(path))
