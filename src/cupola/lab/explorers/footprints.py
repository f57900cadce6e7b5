"""Outlines of items for maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.collections import Item

__all__ = ["MOST", "footprints"]

MOST = 500
"""Outlines drawn at most: more are a blot, and slow."""


def footprints(items: Iterable[Item]) -> dict[str, Any]:
    """Return the boxes of the first items as GeoJSON, in degrees; those across the antimeridian in two parts."""
    features = []
    for item in items:
        if item.bbox is None:
            continue
        west, south, east, north = item.bbox
        parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        rings = [
            [[[left, south], [right, south], [right, north], [left, north], [left, south]]]
            for left, right in parts
        ]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": rings},
                "properties": {
                    "item": item.id,
                    "time": f"{item.datetime:%Y-%m-%d %H:%M}" if item.datetime else "",
                },
            }
        )
        if len(features) == MOST:
            break
    return {"type": "FeatureCollection", "features": features}
