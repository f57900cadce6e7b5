"""Opening a collection by its path, or by its name in the volumes of this session."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.collections.collection import Collection
from cupola.lab.collections.scan import read_document, walk
from cupola.lab.collections.wording import near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cupola.models.volume import Mount

__all__ = ["known_collections", "mounts", "open_collection"]

_SEARCH_DEPTH = 4
"""How deep below a volume collections are looked for."""


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
        title of a collection in one of this session's volumes.
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
    path = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - links stay: ~/volumes/NAME is one
    if not path.exists():
        path = _by_name(text)
    return Collection(path, bbox=bbox, datetime=datetime, query=query, progress=progress)


def mounts() -> list[Mount]:
    """Return the volumes of this session.

    Raises
    ------
    InputError
        When ``CUPOLA_VOLUMES`` is broken.
    """
    text = os.environ.get("CUPOLA_VOLUMES", "").strip()
    if not text:
        return []
    from pydantic import TypeAdapter, ValidationError

    from cupola.models.volume import Mount

    try:
        return TypeAdapter(list[Mount]).validate_python(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise InputError("The environment variable CUPOLA_VOLUMES is no list of volumes.") from error


def known_collections() -> dict[str, Path]:
    """Return the collections in this session's volumes: every name that opens one, and where it lies.

    Ids come first, then folders, titles, and volumes that hold a single collection.
    """
    heads: list[tuple[Mount, Path, str, str]] = []
    for mount in mounts():
        for path in walk(mount.target, _SEARCH_DEPTH):
            if path.suffix.lower() != ".json":
                continue
            document = read_document(path)
            if document is not None and document["type"] == "Collection":
                heads.append(
                    (mount, path.parent, str(document.get("id") or ""), str(document.get("title") or ""))
                )
    names: dict[str, Path] = {}
    for _, folder, name, _ in heads:
        names.setdefault(name or folder.name, folder)
    for mount, folder, _, _ in heads:
        names.setdefault(folder.name, folder)
        names.setdefault(f"{mount.volume}/{folder.relative_to(mount.target)}", folder)
    for _, folder, _, title in heads:
        if title:
            names.setdefault(title, folder)
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
    raise NotFoundError(f"There is no collection, file or folder {text!r}{near(text, names)}")
