"""The map of a notebook."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import ipyleaflet
from ipywidgets import Layout
from typing_extensions import override

from cupola.exceptions import BodyError, InputError, NotFoundError
from cupola.lab import bodies
from cupola.lab.chains import Chain
from cupola.lab.collections import Collection
from cupola.lab.maps import bases, imagespace
from cupola.lab.maps.controls import Controls
from cupola.lab.maps.layers import WAYS, ChainLayer, as_chain, base_url, picture_limits
from cupola.lab.maps.looking import Looking
from cupola.lab.maps.vectors import COLOURS, VectorLayer, is_vectors, read_vectors
from cupola.lab.maps.views import View
from cupola.lab.maps.watch import Watcher
from cupola.lab.tiles.styles import DEFAULT_CMAP, Style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cupola.lab.bodies import Body
    from cupola.lab.jobs import Job

__all__ = ["Map"]

Limit = float | list[float] | tuple[float, ...] | None

WORLD = (-180.0, -75.0, 180.0, 75.0)


class Map(Looking, ipyleaflet.Map):  # type: ignore[misc]
    """A map on which chains are computed for what is in view, at the scale of the view.

    The first layer decides which body the map shows and where it looks. Tiles are computed by the session's
    server in processes of their own: the map works while the kernel is busy. Images without a coordinate system are
    shown by columns and rows, one at a time.

    Parameters
    ----------
    basemap
        What lies below the layers: ``"land"`` (of the Earth, comes with Cupola), ``"osm"`` (OpenStreetMap) or ``"usgs"``
        (USGS Astrogeology, other bodies), which the browser asks for, a collection, a chain or the name of a
        collection; ``"none"``. Where nothing is said: a collection that is marked as the base map of the body, by
        ``"cupola:basemap": true`` in its collection.json.
    body
        The body to show, such as ``"Mars"``; that of the first layer where nothing is said.
    projection
        ``eqc`` (all bodies but the Earth, which gets Web Mercator), ``npolar`` or ``spolar`` around a pole; what fits
        the first layer where nothing is said.
    graticule
        Whether lines of equal longitude and latitude are drawn.
    height
        Of the map, as CSS.
    **options
        Anything else that `ipyleaflet.Map` takes.

    Raises
    ------
    InputError
        There is no such base map or projection.
    NotFoundError
        There is no such body.
    BodyError
        The base map shows another body.
    """

    # ipywidgets closes also what was never finished: a map that was refused has no watcher yet.
    _watcher: Watcher | None = None

    def __init__(
        self,
        *,
        basemap: str | Collection | Chain | None = None,
        body: str | None = None,
        projection: str | None = None,
        graticule: bool = False,
        height: str = "480px",
        **options: Any,
    ) -> None:
        shown = _body(basemap, body)
        view = self._cupola_view = View(shown or bodies.EARTH, projection or "eqc")
        self._projection = projection
        self._decided = shown is not None
        self._fitted = {"center", "zoom"} <= options.keys()
        base = bases.chosen(basemap, view)
        center, zoom = view.fit(WORLD)
        settings: dict[str, Any] = {
            "crs": view.crs(),
            "center": center,
            "zoom": zoom,
            "layers": (),
            "layout": Layout(height=height),
            "scroll_wheel_zoom": True,
            # What is enlarged beyond its own pixels shows them, and invents nothing between.
            "interpolation": "nearest",
            "attribution_control": False,
        }
        super().__init__(**{**settings, **options})
        self._vectors: list[VectorLayer] = []
        self._controls = Controls(self.model_id, view, server=base_url(), graticule=graticule)
        self._own_base = base if base and base["kind"] == "chain" else None
        self._auto_base = basemap is None
        self._gazetteer = []
        self._show_bases()
        if base:
            self._controls.base = base["key"]
        super().add(
            ipyleaflet.WidgetControl(widget=self._controls, position="bottomleft", transparent_bg=True)
        )
        self._watcher = Watcher(self)

    @property
    def body(self) -> Body:
        """The celestial body that the map shows."""
        return self._cupola_view.body

    @property
    @override
    def chain_layers(self) -> list[ChainLayer]:
        """The layers that show chains, the lowest first."""
        layers = [layer for layer in self.layers if isinstance(layer, ChainLayer)]
        order = {model: place for place, model in enumerate(self._controls.order)}
        return sorted(layers, key=lambda layer: order.get(layer.model_id, len(order)))

    @property
    def vector_layers(self) -> list[VectorLayer]:
        """The layers of points, lines and areas."""
        return list(self._vectors)

    @override
    def add(
        self,
        item: Chain | Collection | Job | Any,
        index: int | None = None,
        *,
        cmap: str = DEFAULT_CMAP,
        vmin: Limit = None,
        vmax: Limit = None,
        scale: str = "linear",
        name: str | None = None,
        opacity: float = 1.0,
        unit: str = "",
        exact: bool = False,
        way: str = "auto",
        style: Mapping[str, Any] | None = None,
    ) -> Map:
        """Show something; a layer of the same name is replaced.

        Parameters
        ----------
        item
            A chain; a collection (its true colours, or its first band); ``job.products`` or a job (what it has
            written so far, and the rest as it is written); points, lines and areas (GeoJSON, a path of a GeoJSON,
            GeoParquet or other vector file, a GeoDataFrame), in degrees of the map's body; or any layer or control
            of ipyleaflet.
        index
            Place among the layers, 0 lowest; on top where nothing is said.
        cmap
            Colours of a single band: a name known to matplotlib, in any case.
        vmin, vmax
            The values that get the first and the last colour, once or per band; the 2nd and 98th percentile of
            the whole where nothing is said.
        scale
            How values are spread between: ``linear``, ``sqrt``, ``log`` or ``asinh``.
        name
            For the list of layers.
        opacity
            From 0 to 1.
        unit
            Of the values, for the legend.
        exact
            Whether all is computed at full resolution at any zoom, below a pixel budget; the legend says whether it was.
        way
            ``tiles``, ``view`` (one image for the whole viewport, for slow functions), or ``auto``: what is cheaper.
        style
            Of points, lines and areas: Leaflet's path options, such as ``{"color": "red", "weight": 2}``; ``label`` is
            the property that is written beside each of up to 500 shapes.

        Returns
        -------
        Map
            The map itself.

        Raises
        ------
        BodyError
            It shows another body than the map.
        InputError
            It cannot be shown, there is no such colormap, or the limits are wrong.
        """
        if isinstance(item, (ipyleaflet.Layer, ipyleaflet.Control)) or hasattr(item, "as_leaflet_layer"):
            super().add(item, index)
            return self
        if is_vectors(item):
            self._add_vectors(item, name, style)
            return self
        chain = as_chain(item)
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity goes from 0 (clear) to 1, not {opacity!r}.")
        if way not in WAYS:
            raise InputError(f"way is one of {', '.join(WAYS)}, not {way!r}.")
        options = {"opacity": opacity, "unit": unit, "exact": exact, "way": way}
        self._draw(chain, _style(chain, cmap, vmin, vmax, scale), index, name, options)
        return self

    def _draw(
        self, chain: Chain, style: Style, index: int | None, name: str | None, options: dict[str, Any]
    ) -> None:
        """Add a layer, or put it where the one of that name is."""
        whole, chain = chain, self._settle(chain)
        old = self._replaced(chain, name)
        name = name or self._free_name(chain, old)
        layer = ChainLayer(chain, self._cupola_view, style, name=name, whole=whole, **options)
        layer.restyled.append(self._update)
        order = [drawn.model_id for drawn in self.chain_layers]
        if old is not None:
            order[order.index(old.model_id)] = layer.model_id
            self._controls.swipe = [
                layer.model_id if one == old.model_id else one for one in self._controls.swipe
            ]
            self._controls.order = order
            self.substitute(old, layer)
            old.close()
        else:
            order.insert(len(order) if index is None else index, layer.model_id)
            self._controls.order = order
            super().add(layer, index)
        self._fit(chain)
        self._update()

    def _add_vectors(self, item: Any, name: str | None, style: Mapping[str, Any] | None) -> None:
        """Add points, lines and areas, in place of those of the same name."""
        colour = {"color": COLOURS[len(self._vectors) % len(COLOURS)]}
        layer = read_vectors(item, self._cupola_view, name, {**colour, **(style or {})})
        places = [number for number, one in enumerate(self._vectors) if one.name == layer.name]
        if places:
            self._vectors.pop(places[0]).close()
            self._vectors.insert(places[0], layer)
        else:
            self._vectors.append(layer)
        self._controls.vectors = [one.model_id for one in self._vectors]
        if not self._fitted and layer.bounds is not None:
            self._fitted = True
            with self.hold_sync():
                self.center, self.zoom = self._cupola_view.fit(layer.bounds)

    @override
    def remove(self, item: Any) -> Map:
        """Take away a layer or control, a chain, or the layer of that name.

        Raises
        ------
        NotFoundError
            There is no such layer.
        """
        if isinstance(item, str) and any(layer.name == item for layer in self._vectors):
            item = next(layer for layer in self._vectors if layer.name == item)
        if isinstance(item, VectorLayer):
            self._vectors.remove(item)
            self._controls.vectors = [one.model_id for one in self._vectors]
            item.close()
            return self
        if isinstance(item, (str, Chain)):
            item = self._layer(item)
        super().remove(item)
        self._controls.order = [layer.model_id for layer in self.chain_layers]
        self._update()
        return self

    @override
    def _layer(self, wanted: str | Chain | ChainLayer | None) -> ChainLayer:
        """Return a layer by its name or chain, the uppermost where nothing is said."""
        found = [
            layer
            for layer in self.chain_layers
            if wanted is None
            or layer is wanted
            or (isinstance(wanted, str) and layer.name == wanted)
            or (isinstance(wanted, Chain) and layer.hash == wanted.hash)
        ]
        if not found:
            names = [*(str(one.name) for one in self.chain_layers), *(str(one.name) for one in self._vectors)]
            raise NotFoundError(f"The map has no such layer; its layers are: {', '.join(names) or 'none'}.")
        return found[-1]

    @override
    def close(self) -> None:
        """End the map."""
        if self._watcher is not None:
            self._watcher.stop()
        super().close()

    def refresh(self) -> None:
        """Look again at the layers' collections: what was added since is drawn. Happens by itself."""
        for layer in self.chain_layers:
            for collection in layer.chain.collections:
                collection.refresh()
            # An empty collection becomes one of Mars only when its first product is written.
            self._settle(layer.chain)
            layer.look()
            self._fit(layer.chain)
        self._update()

    def _settle(self, chain: Chain) -> Chain:
        """Let the first chain decide what the map shows, and refuse others after it; return what to draw."""
        body = chain.body
        if body is None:
            if not chain.collection.items:
                return chain
            return self._settle_image(chain)
        if body.name == bodies.SKY.name:
            raise BodyError(
                f"The images of {chain.collection} lie on the sky; show them with cupola.SkyMap()."
            )
        if self._cupola_view.is_image:
            raise BodyError(
                f"The map shows an image without a coordinate system, and {chain.collection} shows {body.name}; "
                "put it on a map of its own: cupola.Map()."
            )
        if body.name != self.body.name and self._decided:
            raise BodyError(
                f"The map shows {self.body.name}, and {chain.collection} shows {body.name}; "
                "put it on a map of its own: cupola.Map()."
            )
        projection = self._fitting(chain)
        if body.name != self.body.name or projection != self._cupola_view.projection:
            self._show(View(body, projection))
        self._decided = True
        return chain

    def _fitting(self, chain: Chain) -> str:
        """Return the projection for the first chain: that which was asked for, or what fits its images."""
        if self._decided or self._projection is not None:
            return self._cupola_view.projection
        return bodies.best_projection(chain.collection.bbox)

    def _settle_image(self, chain: Chain) -> Chain:
        """Show columns and rows, for images that have no place on any body."""
        if self._decided and not self._cupola_view.is_image:
            raise BodyError(
                f"The images of {chain.collection} have no coordinate system, so they have no place on a map of "
                f"{self.body.name}; put them on a map of their own: cupola.Map()."
            )
        chosen = imagespace.first_item(chain)
        if not self._cupola_view.is_image:
            self._show(View(self.body, "image", imagespace.size(chosen)))
            self._decided = True
            self._fitted = True
            if len(chain.collection) > 1:
                super().add(imagespace.chooser(self, chain))
        return chosen

    def _show(self, view: View) -> None:
        """Change to another grid."""
        self._cupola_view = view
        with self.hold_sync():
            self.crs = view.crs()
            self.center, self.zoom = view.fit(WORLD)
            if view.is_image:
                self.min_zoom = view.lowest
        self._controls.view(view)
        self._show_bases()
        for layer in self.chain_layers:
            layer.move(view)

    def _show_bases(self) -> None:
        """Offer the base maps of the body, and those of the session's volumes once they are known."""
        view = self._cupola_view
        own = [self._own_base] if self._own_base and not view.is_image else []
        self._controls.bases = [*bases.choices(view), *own]
        if self._controls.base not in {base["key"] for base in self._controls.bases}:
            self._controls.base = bases.NONE
        self._controls.features = [feature.to_list() for feature in self.features]
        if bases.any_volumes():
            # Looking through volumes may take seconds, and the map can do without.
            threading.Thread(target=self._find_bases, args=(view,), name="cupola-bases", daemon=True).start()

    def _find_bases(self, view: View) -> None:
        found = bases.marked(view)
        if not found or view != self._cupola_view or self._controls.comm is None:
            return
        known = {base["key"] for base in self._controls.bases}
        self._controls.bases = [*self._controls.bases, *(base for base in found if base["key"] not in known)]
        if self._auto_base and self._controls.base == bases.NONE:
            self._controls.base = found[0]["key"]

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

    @override
    def _update(self) -> None:
        """Bring the legend up to date, and watch the folders of all layers."""
        self._controls.layers = [layer.legend() for layer in reversed(self.chain_layers)]
        if self._watcher is not None:
            self._watcher.watch(self.chain_layers)


def _body(basemap: Any, body: str | None) -> Body | None:
    """Return the body that is asked for, in words or by a base map."""
    if body:
        return bodies.body_named(body)
    if isinstance(basemap, (Collection, Chain)):
        return basemap.body
    return bodies.EARTH if basemap in {"osm", "land"} else None


def _style(chain: Chain, cmap: str, vmin: Limit, vmax: Limit, scale: str) -> Style:
    """Return the style that was asked for."""
    if vmin is None and vmax is None and (limits := picture_limits(chain)):
        vmin, vmax = limits
    style = Style(cmap, _limits("vmin", vmin), _limits("vmax", vmax), scale)
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
