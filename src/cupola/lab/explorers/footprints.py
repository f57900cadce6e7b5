"""Outlines of items for maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.lab.collections.footprint import box_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.collections import Item

__all__ = ["LINES", "MOST", "footprints"]

LINES = {"fill": False, "weight": 2}
"""How outlines look: through a tint the images would have other colours, and clicks would not reach them."""

MOST = 500
"""Outlines drawn at most: more are a blot, and slow."""


def footprints(items: Iterable[Item]) -> dict[str, Any]:
    """Return the boxes of the first items as GeoJSON, in degrees; those across the antimeridian in two parts."""
    features = []
    for item in items:
        if item.bbox is None:
            continue
        features.append(
            {
                "type": "Feature",
                "geometry": box_geometry(item.bbox),
                "properties": {
                    "item": item.id,
                    "time": f"{item.datetime:%Y-%m-%d %H:%M}" if item.datetime else "",
                },
            }
        )
        if len(features) == MOST:
            break
    return {"type": "FeatureCollection", "features": features}
