"""The corner of a map that tells what is seen: legend, scale, and what went wrong.

It runs in the browser and asks the session's server itself, so it is right while the kernel is busy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import traitlets

if TYPE_CHECKING:
    from cupola.lab.maps.views import View

__all__ = ["Footer"]

HERE = Path(__file__).parent


class Footer(anywidget.AnyWidget):
    """Legend, scale and problems of the map with the model id `map_model`."""

    _esm = HERE / "footer.js"
    _css = HERE / "footer.css"

    map_model = traitlets.Unicode().tag(sync=True)
    body = traitlets.Unicode().tag(sync=True)
    radius = traitlets.Float().tag(sync=True)
    mercator = traitlets.Bool().tag(sync=True)
    cylindrical = traitlets.Bool().tag(sync=True)
    resolutions = traitlets.List(traitlets.Float()).tag(sync=True)
    layers = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, map_model: str, view: View) -> None:
        super().__init__(map_model=map_model)
        self.view(view)

    def view(self, view: View) -> None:
        """Tell which grid the map is drawn on."""
        with self.hold_sync():
            self.body = view.body.name
            self.radius = view.body.radius
            self.mercator = view.mercator
            self.cylindrical = view.projection == "eqc"
            self.resolutions = view.resolutions()
