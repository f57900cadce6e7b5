"""Opening a collection by its path, or by its name in the volumes of this session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.collections.catalogue import heads
from cupola.lab.collections.collection import Collection
from cupola.lab.collections.formats.address import file_of
from cupola.lab.collections.remote import is_address
from cupola.lab.collections.volumes import mounts
from cupola.lab.collections.wording import near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["known_collections", "mounts", "open_collection"]


def open_collection(
    name_or_path: str | os.PathLike[str],
    *,
    bbox: Iterable[float] | None = None,
    datetime: str | None = None,
    query: str | Mapping[str, Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Collection:
    """Open a collection; nothing is read but its items' descriptions.

    Parameters
    ----------
    name_or_path
        A folder (with STAC documents, or just images), a STAC document, a single image, or the id, folder or
        title of a collection in one of this session's volumes; or an address: a collection of a STAC server
        (``https://host/stac/collections/NAME``), a STAC catalog, a list of files or an image on a web server, or a
        prefix of an object store (``s3://bucket/prefix``).
    bbox
        Only items that touch west, south, east, north in degrees; west > east across the antimeridian.
    datetime
        Only items of this time: ``2020-02``, ``2020-02-01/2020-03-01``, ``2020-02-01/..``.
    query
        Only items with such properties: ``"eo:cloud_cover < 20 and platform = 'sentinel-2a'"``, or a dictionary.
    progress
        Called now and then with how many files were read and how many there are, where a collection is looked
        through for the first time; without it a notebook shows a bar where that takes long.

    Raises
    ------
    NotFoundError
        When there is no such path or name; the text offers near names.
    ImageError
        When a file is no image.
    InputError
        When `bbox`, `datetime` or `query` is wrong.
    """
    text = os.fspath(name_or_path)
    if not text.strip():
        raise InputError("Give the name or the path of a collection.")
    if is_address(text):
        return Collection(text, bbox=bbox, datetime=datetime, query=query, progress=progress)
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - links stay: ~/volumes/NAME is one
    if not path.exists() and not Path(file_of(str(path))).exists():
        path = _by_name(text)
    return Collection(path, bbox=bbox, datetime=datetime, query=query, progress=progress)


def known_collections() -> dict[str, Path]:
    """Return the collections in this session's volumes: every name that opens one, and where it lies.

    Ids come first, then folders, titles, and volumes that hold a single collection.
    """
    found = list(heads())
    names: dict[str, Path] = {}
    for head in found:
        names.setdefault(head.id, head.folder)
    for head in found:
        names.setdefault(head.folder.name, head.folder)
        names.setdefault(f"{head.volume}/{head.place}", head.folder)
    for head in found:
        if head.title:
            names.setdefault(head.title, head.folder)
    for mount in mounts():
        names.setdefault(mount.volume, mount.target)
    return names


def _by_name(text: str) -> Path:
    """Look a name up among the volumes; a path below a volume (``sample-archive/mars``) counts as well."""
    names = known_collections()
    if text in names:
        return names[text]
    volume, _, rest = text.partition("/")
    for mount in mounts():
        if (
            rest
            and mount.volume == volume
            and ".." not in Path(rest).parts
            and (mount.target / rest).exists()
        ):
            return mount.target / rest
    folded = {name.casefold(): path for name, path in names.items()}
    if text.casefold() in folded:
        return folded[text.casefold()]
    if not names and not mounts():
        raise NotFoundError(
            f"There is no file or folder {text!r}, and this session has no volumes to look in."
        )
    # Each collection has several names: the list tells the first one of each.
    first = {path: name for name, path in reversed(names.items())}
    listed = [name for name, path in names.items() if first[path] == name]
    raise NotFoundError(f"There is no collection, file or folder {text!r}{near(text, names, listed)}")
