"""The map of a notebook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ipyleaflet
from ipywidgets import Layout
from typing_extensions import override

from cupola.exceptions import BodyError, InputError, NotFoundError
from cupola.lab import bodies
from cupola.lab.chains import Chain
from cupola.lab.maps.footer import Footer
from cupola.lab.maps.layers import ChainLayer, as_chain, picture_limits
from cupola.lab.maps.views import View
from cupola.lab.maps.watch import Watcher
from cupola.lab.tiles.styles import DEFAULT_CMAP, Style

if TYPE_CHECKING:
    from cupola.lab.bodies import Body
    from cupola.lab.collections import Collection
    from cupola.lab.jobs import Job

__all__ = ["Map"]

Limit = float | list[float] | tuple[float, ...] | None

WORLD = (-180.0, -75.0, 180.0, 75.0)


class Map(ipyleaflet.Map):  # type: ignore[misc]
    """A map on which chains are computed for what is in view, at the scale of the view.

    The first layer decides which body the map shows and where it looks. Tiles are computed by the session's
    server in processes of their own: the map works while the kernel is busy.

    Parameters
    ----------
    basemap
        ``"osm"`` for OpenStreetMap below the layers (Earth only; the browser then asks that site for tiles);
        nothing by default.
    body
        The body to show, such as ``"Mars"``; that of the first layer where nothing is said.
    projection
        ``eqc`` (all bodies but the Earth, which gets Web Mercator), ``npolar`` or ``spolar`` around a pole.
    height
        Of the map, as CSS.
    **options
        Anything else that `ipyleaflet.Map` takes.

    Raises
    ------
    InputError
        There is no such basemap or projection.
    NotFoundError
        There is no such body.
    BodyError
        The basemap shows another body.
    """

    # ipywidgets closes also what was never finished: a map that was refused has no watcher yet.
    _watcher: Watcher | None = None

    def __init__(
        self,
        *,
        basemap: str | None = None,
        body: str | None = None,
        projection: str = "eqc",
        height: str = "480px",
        **options: Any,
    ) -> None:
        if basemap not in {None, "osm"}:
            raise InputError(f"There is no basemap {basemap!r}; choose 'osm', or none.")
        self._cupola_view = View(bodies.body_named(body) if body else bodies.EARTH, projection)
        self._decided = body is not None or basemap is not None
        self._fitted = {"center", "zoom"} <= options.keys()
        view = self._cupola_view
        if basemap and not view.mercator:
            raise BodyError(
                f"The basemap shows the Earth; leave it out for a map of {view.body.name} ({view.tms})."
            )
        base = [ipyleaflet.basemap_to_tiles(ipyleaflet.basemaps.OpenStreetMap.Mapnik)] if basemap else []
        for layer in base:
            layer.base, layer.name = True, "OpenStreetMap"
        center, zoom = view.fit(WORLD)
        settings: dict[str, Any] = {
            "crs": view.crs(),
            "center": center,
            "zoom": zoom,
            "layers": tuple(base),
            "layout": Layout(height=height),
            "scroll_wheel_zoom": True,
            # What is enlarged beyond its own pixels shows them, and invents nothing between.
            "interpolation": "nearest",
            "attribution_control": basemap is not None,
        }
        super().__init__(**{**settings, **options})
        self._footer = Footer(self.model_id, view)
        super().add(ipyleaflet.LayersControl(position="topright"))
        super().add(ipyleaflet.WidgetControl(widget=self._footer, position="bottomleft", transparent_bg=True))
        self._watcher = Watcher(self)

    @property
    def body(self) -> Body:
        """The celestial body that the map shows."""
        return self._cupola_view.body

    @property
    def chain_layers(self) -> list[ChainLayer]:
        """The layers that show chains, the lowest first."""
        return [layer for layer in self.layers if isinstance(layer, ChainLayer)]

    @override
    def add(
        self,
        item: Chain | Collection | Job | Any,
        index: int | None = None,
        *,
        cmap: str = DEFAULT_CMAP,
        vmin: Limit = None,
        vmax: Limit = None,
        name: str | None = None,
        opacity: float = 1.0,
        unit: str = "",
    ) -> Map:
        """Show something; a layer of the same name is replaced.

        Parameters
        ----------
        item
            A chain; a collection (its true colours, or its first band); ``job.products`` or a job (what it has
            written so far, and the rest as it is written); or any layer or control of ipyleaflet.
        index
            Place among the layers, 0 lowest; on top where nothing is said.
        cmap
            Colours of a single band: a name known to matplotlib, in any case.
        vmin, vmax
            The values that get the first and the last colour, once or per band; the 2nd and 98th percentile of
            the whole where nothing is said.
        name
            For the list of layers.
        opacity
            From 0 to 1.
        unit
            Of the values, for the legend.

        Returns
        -------
        Map
            The map itself.

        Raises
        ------
        BodyError
            It shows another body than the map, or has no coordinate system.
        InputError
            It cannot be shown, there is no such colormap, or the limits are wrong.
        """
        if isinstance(item, (ipyleaflet.Layer, ipyleaflet.Control)) or hasattr(item, "as_leaflet_layer"):
            super().add(item, index)
            return self
        chain = as_chain(item)
        style = _style(chain, cmap, vmin, vmax)
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity goes from 0 (clear) to 1, not {opacity!r}.")
        self._draw(chain, style, index, name, {"opacity": opacity, "unit": unit})
        return self

    def _draw(
        self, chain: Chain, style: Style, index: int | None, name: str | None, options: dict[str, Any]
    ) -> None:
        """Add a layer, or put it where the one of that name is."""
        self._settle(chain)
        old = self._replaced(chain, name)
        name = name or self._free_name(chain, old)
        layer = ChainLayer(chain, self._cupola_view, style, name=name, **options)
        if old is not None:
            self.substitute(old, layer)
            old.close()
        else:
            super().add(layer, index)
        self._fit(chain)
        self._update()

    @override
    def remove(self, item: Any) -> Map:
        """Take away a layer or control, a chain, or the layer of that name.

        Raises
        ------
        NotFoundError
            There is no such layer.
        """
        if isinstance(item, (str, Chain)):
            found = [
                layer
                for layer in self.chain_layers
                if (layer.name == item if isinstance(item, str) else layer.hash == item.hash)
            ]
            if not found:
                names = ", ".join(layer.name for layer in self.chain_layers) or "none"
                raise NotFoundError(f"The map has no such layer; its layers are: {names}.")
            item = found[-1]
        super().remove(item)
        self._update()
        return self

    @override
    def close(self) -> None:
        """End the map."""
        if self._watcher is not None:
            self._watcher.stop()
        super().close()

    def refresh(self) -> None:
        """Look again at the layers' collections: what was added since is drawn. Happens by itself."""
        for layer in self.chain_layers:
            layer.chain.collection.refresh()
            # An empty collection becomes one of Mars only when its first product is written.
            self._settle(layer.chain)
            layer.look()
            self._fit(layer.chain)
        self._update()

    def _settle(self, chain: Chain) -> None:
        """Let the first chain decide which body the map shows, and refuse others after it."""
        body = chain.body
        if body is None:
            if not chain.collection.items:
                return
            raise BodyError(
                f"The images of {chain.collection} have no coordinate system, so they have no place on a map; "
                "give them a camera model or a projection first."
            )
        if body.name != self.body.name:
            if self._decided:
                raise BodyError(
                    f"The map shows {self.body.name}, and {chain.collection} shows {body.name}; "
                    "put it on a map of its own: cupola.Map()."
                )
            self._show_body(body)
        self._decided = True

    def _show_body(self, body: Body) -> None:
        """Change to the grid of another body."""
        view = self._cupola_view = View(body, self._cupola_view.projection)
        with self.hold_sync():
            self.crs = view.crs()
            self.center, self.zoom = view.fit(WORLD)
        self._footer.view(view)
        for layer in self.chain_layers:
            layer.move(view)

    def _fit(self, chain: Chain) -> None:
        """Look at the first layer that has a place."""
        box = chain.collection.bbox
        if self._fitted or box is None:
            return
        self._fitted = True
        with self.hold_sync():
            self.center, self.zoom = self._cupola_view.fit(box)

    def _replaced(self, chain: Chain, name: str | None) -> ChainLayer | None:
        """Return the layer whose place the new one takes: a cell that is run again must not pile up layers."""
        named = name or (
            chain.label if chain.functions and "lambda" not in chain.functions[-1].name else None
        )
        for layer in self.chain_layers:
            if layer.name == named or (name is None and layer.hash == chain.hash):
                return layer
        return None

    def _free_name(self, chain: Chain, old: ChainLayer | None) -> str:
        """Return the chain's label, with a number where another layer has it."""
        if old is not None:
            return str(old.name)
        names = {layer.name for layer in self.layers}
        label, number = chain.label, 2
        while label in names:
            label, number = f"{chain.label} ({number})", number + 1
        return label

    def _update(self) -> None:
        """Bring the legend up to date, and watch the folders of all layers."""
        self._footer.layers = [layer.legend() for layer in reversed(self.chain_layers)]
        if self._watcher is not None:
            self._watcher.watch(self.chain_layers)


def _style(chain: Chain, cmap: str, vmin: Limit, vmax: Limit) -> Style:
    """Return the style that was asked for."""
    if vmin is None and vmax is None and (limits := picture_limits(chain)):
        vmin, vmax = limits
    style = Style(cmap, _limits("vmin", vmin), _limits("vmax", vmax))
    style.check()
    return style


def _limits(name: str, value: Limit) -> tuple[float, ...]:
    """Return limits as numbers, one or one per band."""
    if value is None:
        return ()
    try:
        parts = value if isinstance(value, (list, tuple)) else (value,)
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise InputError(f"{name} is a number, or a list of one per band, not {value!r}.") from None
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{name} is a finite number, not {value!r}.")
    return numbers
