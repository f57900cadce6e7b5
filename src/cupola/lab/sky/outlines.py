"""The outlines of images on the sky, for drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import CupolaError
from cupola.lab.collections.images import describe
from cupola.lab.sky.coverage import Outline, outline_of_box, outline_of_image

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["outlines"]

POINTS = 4
"""Points along each side: straight lines of a projection are hardly bent within a picture."""
LOOKED_AT = 500
"""Images that are asked for their own edges; of further items the boxes are drawn."""


def outlines(items: Iterable[Any]) -> list[list[list[float]]]:
    """Return a closed line of (right ascension, declination) in degrees for each item that has a place."""
    found = []
    for number, item in enumerate(items):
        outline = _outline(item, own=number < LOOKED_AT)
        if outline is not None and (line := _line(outline)):
            found.append(line)
    return found


def _outline(item: Any, *, own: bool) -> Outline | None:
    if own:
        for name in item.bands[:1]:
            try:
                image = describe(item.band(name)[0].path)
            except CupolaError:
                break
            if image.placement is not None:
                return outline_of_image(image)
    return outline_of_box(item.bbox) if item.bbox is not None else None


def _line(outline: Outline) -> list[list[float]]:
    steps = np.linspace(0.0, 1.0, POINTS + 1)[:-1]
    zero, one = np.zeros_like(steps), np.ones_like(steps)
    u = np.concatenate([steps, one, 1 - steps, zero])
    v = np.concatenate([zero, steps, one, 1 - steps])
    longitudes, latitudes = outline.lonlat(u, v)
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        return []
    return [[float(ra) % 360.0, float(dec)] for ra, dec in zip(longitudes, latitudes, strict=True)]
