"""Collections of images, opened by name or by path; nothing is read until a viewport or a run asks for it."""

from __future__ import annotations

from cupola.lab.collections.catalogue import CollectionInfo, known
from cupola.lab.collections.collection import Collection
from cupola.lab.collections.find import open_collection as open  # noqa: A004 - the public name is cupola.open
from cupola.lab.collections.images import Band
from cupola.lab.collections.items import Asset, Item

__all__ = ["Asset", "Band", "Collection", "CollectionInfo", "Item", "known", "open"]
