"""Looking closer at a map from Python: places by name, values, areas, stretch, order and swipe of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cupola.exceptions import CupolaError, InputError
from cupola.lab.maps import features, imagespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cupola.lab.chains import Chain
    from cupola.lab.chains.compute.probing import Area, Probe
    from cupola.lab.maps.controls import Controls
    from cupola.lab.maps.features import Feature
    from cupola.lab.maps.layers import ChainLayer
    from cupola.lab.maps.views import View

__all__ = ["Looking"]

NEVER_DRAWN = 512
"""Pixels of a view that no browser has shown yet."""


class Looking:
    """What a map can be asked; the same as the tools that it has in the browser."""

    _controls: Controls
    _cupola_view: View
    _gazetteer: list[Feature]

    if TYPE_CHECKING:
        # What the map itself has.
        chain_layers: Any
        hold_sync: Any
        _layer: Callable[[Any], ChainLayer]
        _update: Callable[[], None]

    # Places by name

    @property
    def features(self) -> list[Feature]:
        """The named features of the body, the largest first: well-known ones, and those of `gazetteer`."""
        if self._cupola_view.is_image:
            return []
        found = [*self._gazetteer, *features.known(self._cupola_view.body.name)]
        return sorted(
            {feature.name: feature for feature in reversed(found)}.values(), key=lambda one: -one.diameter
        )

    def gazetteer(self, path: str | Path) -> int:
        """Take names from a file, for `go` and the map's search; return how many.

        Parameters
        ----------
        path
            CSV with the columns name, longitude and latitude, and perhaps kind, diameter (km) and body; or GeoJSON, a
            shapefile and the like with such properties, such as the IAU's nomenclature.

        Raises
        ------
        NotFoundError, InputError
            There is no such file, or it has no such columns.
        """
        found = features.read(path, self._cupola_view.body.name)
        self._gazetteer = [*found, *self._gazetteer]
        self._controls.features = [feature.to_list() for feature in self.features]
        return len(found)

    def go(self, place: str | tuple[float, float], zoom: int | None = None) -> Any:
        """Look at a named feature, or at a longitude and latitude in degrees; returns the map itself.

        Parameters
        ----------
        place
            Such as ``"Olympus Mons"``; its beginning or a part of it is enough, and accents do not matter.
        zoom
            Level of zoom; such that the feature is seen whole where nothing is said.

        Raises
        ------
        NotFoundError
            No such name is known; the text offers near ones.
        """
        if isinstance(place, str):
            feature = features.find(self.features, place, self._cupola_view.name)
        else:
            longitude, latitude = place
            feature = features.Feature(
                f"{longitude:g}, {latitude:g}", "", float(longitude), float(latitude), 0.0
            )
        with self.hold_sync():
            self.center = (feature.latitude, feature.longitude)
            if zoom is not None:
                self.zoom = zoom
            elif feature.diameter > 0:
                self.zoom = self._cupola_view.zoom_of(feature.diameter * 1000, feature.latitude)
        self._controls.marked = {
            "name": feature.name,
            "longitude": feature.longitude,
            "latitude": feature.latitude,
        }
        return self

    # Values

    def probe(self, longitude: float, latitude: float) -> dict[str, Probe]:
        """Return the values of all visible layers at a place, and over time.

        Parameters
        ----------
        longitude, latitude
            Degrees; columns and rows on a map of an unprojected image.

        Returns
        -------
        dict
            By name of the layer: ``values`` per band, or nothing where there are none, ``items`` (``id``,
            ``datetime``, ``values`` of each), and ``scale``.

        Raises
        ------
        BandError, ImageError
            A layer cannot be read there.
        """
        from cupola.lab.chains.compute import probing

        return {
            str(layer.name): probing.probe(layer.chain, longitude, latitude)
            for layer in self.chain_layers
            if layer.visible
        }

    @property
    def drawn(self) -> dict[str, Any] | None:
        """The area that was drawn last, as a GeoJSON geometry in degrees of the body."""
        return dict(self._controls.drawn) or None

    def area(self, geometry: Any = None, *, metres: float | None = None) -> dict[str, Area]:
        """Return statistics of all visible layers in an area, and over time.

        Parameters
        ----------
        geometry
            A GeoJSON dict, or anything with ``__geo_interface__`` such as a shapely polygon, in degrees of the body; the
            area that was drawn last where nothing is said.
        metres
            Per pixel; what gives a moderate number of pixels where nothing is said.

        Returns
        -------
        dict
            By name of the layer: ``bands`` (``mean``, ``median``, ``min``, ``max``, ``std``, ``count``, ``histogram``)
            and ``items`` for the series over time, and ``scale``.

        Raises
        ------
        InputError
            No area was drawn or given, or it is none.
        """
        from cupola.lab.chains.compute import probing

        shape = self.drawn if geometry is None else _geometry(geometry)
        if shape is None:
            raise InputError("Draw an area on the map first (Layers and tools), or give one as GeoJSON.")
        if geometry is not None:
            self._controls.drawn = shape
        return {
            str(layer.name): probing.area(layer.chain, shape, metres)
            for layer in self.chain_layers
            if layer.visible
        }

    def on_probe(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with what a click on the map has found: a place, and the values of each layer."""
        self._controls.observe(lambda change: callback(change["new"]), "probed")

    def on_area(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with what an area that was drawn has given: its geometry, and statistics of each layer."""
        self._controls.observe(lambda change: callback(change["new"]), "measured")

    # How layers look

    def stretch(self, layer: str | Chain | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Spread a layer's colours between the 2nd and 98th percentile of what is in view; return the limits.

        Parameters
        ----------
        layer
            By its name or chain; the uppermost where nothing is said.

        Raises
        ------
        NotFoundError
            There is no such layer.
        InputError
            Nothing of it is in view.
        """
        from dataclasses import replace

        from cupola.lab.tiles.stretch import of_view

        found = self._layer(layer)
        box, zoom = self._cupola_view.seen(self.pixel_bounds, self.zoom, self.center)  # type: ignore[attr-defined]
        told = of_view(found.chain, self._cupola_view.tms, box, zoom)
        if told["empty"]:
            raise InputError(f"Nothing of {found.name} is in view; move the map, or give vmin and vmax.")
        low, high = (tuple(pair[side] for pair in told["limits"]) for side in (0, 1))
        found.restyle(replace(found.style, vmin=low, vmax=high))
        self._update()
        return low, high

    def arrange(self, *names: str | Chain) -> Any:
        """Put layers in order, the uppermost first; those not named stay below. Returns the map itself.

        Raises
        ------
        NotFoundError
            There is no such layer.
        """
        top = [self._layer(name).model_id for name in names]
        rest = [layer.model_id for layer in self.chain_layers if layer.model_id not in top]
        self._controls.order = [*rest, *reversed(top)]
        self._update()
        return self

    def swipe(
        self, left: str | Chain | None = None, right: str | Chain | None = None, *, at: float = 0.5
    ) -> Any:
        """Show one layer left and another right of a line that can be moved; off where nothing is said.

        Parameters
        ----------
        left, right
            Layers by name or chain.
        at
            Where the line is, from 0 (left edge) to 1.

        Raises
        ------
        NotFoundError
            There is no such layer.
        InputError
            Only one is named, or both are the same.
        """
        if (left is None) != (right is None):
            raise InputError("Name the layers on both sides of the line: m.swipe('left', 'right').")
        if not 0 <= at <= 1:
            raise InputError(f"at goes from 0 (left) to 1 (right), not {at!r}.")
        pair = ["", ""]
        if left is not None and right is not None:
            pair = [self._layer(left).model_id, self._layer(right).model_id]
            if pair[0] == pair[1]:
                raise InputError("Both sides of the line show the same layer; name two different ones.")
        with self._controls.hold_sync():
            self._controls.swipe, self._controls.swipe_at = pair, float(at)
        return self

    @property
    def graticule(self) -> bool:
        """Whether lines of equal longitude and latitude are drawn."""
        return bool(self._controls.graticule)

    @graticule.setter
    def graticule(self, wanted: bool) -> None:
        self._controls.graticule = bool(wanted)

    def show_item(self, item: str) -> None:
        """Show another image of the layers' collections, on a map of unprojected images.

        Raises
        ------
        NotFoundError
            There is no such item.
        """
        for layer in self.chain_layers:
            layer.replace(imagespace.of_item(layer.whole, item))
        self._update()


def _geometry(shape: Any) -> dict[str, Any]:
    """Return anything like an area as a GeoJSON geometry.

    Raises
    ------
    InputError
        It is no area.
    """
    said: Mapping[str, Any] | None = getattr(shape, "__geo_interface__", None) or shape
    try:
        if said is not None and said.get("type") == "FeatureCollection":
            import shapely

            parts = [shapely.geometry.shape(feature["geometry"]) for feature in said["features"]]
            said = shapely.geometry.mapping(shapely.union_all(parts))
        if said is not None and said.get("type") == "Feature":
            said = said["geometry"]
        if said is None or said.get("type") not in {"Polygon", "MultiPolygon"}:
            raise InputError(
                "An area is a polygon: GeoJSON, or something with __geo_interface__ such as shapely's."
            )
    except (AttributeError, KeyError, TypeError, ValueError, CupolaError) as error:
        raise InputError(
            "An area is a polygon: GeoJSON, or something with __geo_interface__ such as shapely's."
        ) from error
    import json

    return dict(json.loads(json.dumps(said)))
