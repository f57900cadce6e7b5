"""What lies over a map: legend, scale, coordinates and problems below; layers, base maps and tools above.

It runs in the browser and asks the session's server itself, so it is right while the kernel is busy.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from cupola.lab.tiles.styles import gradient

if TYPE_CHECKING:
    from cupola.lab.maps.views import View

__all__ = ["COLOURS", "Controls"]

HERE = Path(__file__).parent
ROOMS = (
    *("plain", "told", "plane", "plots", "legend", "stack", "graticule"),
    *("backdrop", "inspect", "search", "panel", "main"),
)
"""Files of ``js/``, which make one module together: a widget's code is one file for the browser."""
COLOURS = (
    *("viridis", "magma", "inferno", "plasma", "cividis", "gray", "bone", "copper", "hot"),
    *("terrain", "gist_earth", "ocean", "Blues", "Greens", "YlGn", "YlOrRd", "RdYlGn", "RdBu_r"),
    *("coolwarm", "Spectral", "BrBG", "jet", "turbo", "twilight"),
)
"""What the map offers to choose from; any other colormap can be given in Python."""


@lru_cache(maxsize=1)
def _module() -> str:
    return "\n".join((HERE / "js" / f"{room}.js").read_text("utf-8") for room in ROOMS)


class Controls(anywidget.AnyWidget):
    """Legend, scale, problems, layers and tools of the map with the model id `map_model`."""

    _esm = _module()
    _css = (HERE / "controls.css").read_text("utf-8")

    map_model = traitlets.Unicode().tag(sync=True)
    server = traitlets.Unicode().tag(sync=True)
    """Path of the session's Jupyter server, with a slash at its end."""
    body = traitlets.Unicode().tag(sync=True)
    radius = traitlets.Float().tag(sync=True)
    tms = traitlets.Unicode().tag(sync=True)
    projection = traitlets.Unicode().tag(sync=True)
    mercator = traitlets.Bool().tag(sync=True)
    cylindrical = traitlets.Bool().tag(sync=True)
    convention = traitlets.Unicode("180").tag(sync=True)
    resolutions = traitlets.List(traitlets.Float()).tag(sync=True)
    lowest = traitlets.Int(0).tag(sync=True)
    """Zoom level of the first resolution."""
    layers = traitlets.List(traitlets.Dict()).tag(sync=True)
    order = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Model ids of the layers, the lowest first."""
    vectors = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cmaps = traitlets.Dict().tag(sync=True)
    swipe = traitlets.List(traitlets.Unicode(), ["", ""]).tag(sync=True)
    """Model ids of the layers left and right of the line; empty for none."""
    swipe_at = traitlets.Float(0.5).tag(sync=True)
    graticule = traitlets.Bool(default_value=False).tag(sync=True)
    probing = traitlets.Bool(default_value=True).tag(sync=True)
    base = traitlets.Unicode("none").tag(sync=True)
    bases = traitlets.List(traitlets.Dict()).tag(sync=True)
    features = traitlets.List(traitlets.List()).tag(sync=True)
    marked = traitlets.Dict().tag(sync=True)
    drawn = traitlets.Dict().tag(sync=True)
    """GeoJSON geometry of the area that was drawn last, in degrees of the body."""
    probed = traitlets.Dict().tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)

    def __init__(self, map_model: str, view: View, **state: Any) -> None:
        super().__init__(map_model=map_model, cmaps={name: gradient(name) for name in COLOURS}, **state)
        self.view(view)

    def view(self, view: View) -> None:
        """Tell which grid the map is drawn on."""
        with self.hold_sync():
            self.body = view.name
            self.radius = view.body.radius
            self.tms = view.tms
            self.projection = view.projection
            self.mercator = view.mercator
            self.cylindrical = view.cylindrical
            self.convention = view.convention
            self.resolutions = view.resolutions()
            self.lowest = view.lowest
