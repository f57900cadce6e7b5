"""Items in memory, asked by column."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.collections.circles import box_distances
from cupola.lab.collections.conditions import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.collections.items import Item

__all__ = ["ItemRows"]


class ItemRows:
    """Items in memory, asked by column."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def column(self, name: str) -> Column:
        """Return a property of all items."""
        return Column.of([_value(item, name) for item in self._items])

    def in_circle(self, longitude: float, latitude: float, radius: float) -> NDArray[np.bool_]:
        """Tell which footprints touch a circle."""
        boxes = np.array([item.bbox or (math.nan,) * 4 for item in self._items], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return box_distances(boxes.reshape(-1, 4), longitude, latitude) <= radius


def _value(item: Item, name: str) -> Any:
    if name in ("id", "collection"):
        return getattr(item, name)
    return item.properties.get(name)
