"""The encoded images used last, up to so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.lab.tiles.service import Rendered

__all__ = ["Cache"]

OVERHEAD = 500
"""What keeping an image costs beside its bytes: an empty one is not for nothing."""


class Cache:
    """What was computed, by key; what was not used for longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._kept: OrderedDict[object, Rendered] = OrderedDict()

    def get(self, key: object) -> Rendered | None:
        """Return what is kept under `key`, if anything."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: object, rendered: Rendered) -> None:
        """Keep an answer; one that would push out most others is not kept."""
        if len(rendered.body) > self._most // 8:
            return
        old = self._kept.pop(key, None)
        self._bytes += len(rendered.body) - (len(old.body) if old is not None else -OVERHEAD)
        self._kept[key] = rendered
        while self._bytes > self._most:
            self._bytes -= len(self._kept.popitem(last=False)[1].body) + OVERHEAD

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return self._bytes
