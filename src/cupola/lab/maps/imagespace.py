"""Images that have no place on a body, shown by columns and rows: one item at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipyleaflet
from ipywidgets import Dropdown

from cupola.exceptions import CupolaError
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.source import Source
from cupola.lab.collections.images import describe

if TYPE_CHECKING:
    from cupola.lab.chains import Chain
    from cupola.lab.chains.graph.base import Step
    from cupola.lab.maps.map import Map

__all__ = ["chooser", "first_item", "of_item", "size"]

MOST = 500
"""Items that the chooser lists."""


def size(chain: Chain) -> tuple[int, int]:
    """Return columns and rows of a chain's first image; 1000 each where it cannot be read."""
    image = _image(chain)
    return (image.width, image.height) if image is not None else (1000, 1000)


def _image(chain: Chain) -> Any:
    try:
        return describe(chain.collection.items[0].band(chain.bands[0])[0].path)
    except (CupolaError, IndexError):
        # What is wrong with the file shows when its tiles are asked for.
        return None


def of_item(chain: Chain, item: str) -> Chain:
    """Return the same chain over one item of its collection."""

    def changed(step: Step) -> Step:
        if not isinstance(step, Bands):
            return step
        return step.of(Source.of(step.source.collection.only(item)))

    return chain._rebuilt(changed)  # noqa: SLF001 - as its own methods do


def first_item(chain: Chain) -> Chain:
    """Return a chain over the first item where it has several."""
    items = chain.collection.items
    return of_item(chain, items[0].id) if len(items) > 1 else chain


def chooser(shown: Map, chain: Chain) -> ipyleaflet.WidgetControl:
    """Return a control with which a person chooses the image that the map shows."""
    names = [item.id for _, item in zip(range(MOST), chain.collection.items, strict=False)]
    select = Dropdown(options=names, value=names[0], description="Image", layout={"width": "260px"})

    def change(event: Any) -> None:
        shown.show_item(event["new"])

    select.observe(change, "value")
    return ipyleaflet.WidgetControl(widget=select, position="topleft")
