"""The explorer of planets and moons: bodies, missions, outlines of images, and names of places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from cupola.exceptions import CupolaError
from cupola.lab import bodies, collections
from cupola.lab.explorers.base import Explorer
from cupola.lab.explorers.footprints import LINES, footprints
from cupola.lab.maps import Map, features

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.lab.collections import Collection, Item

__all__ = ["PlanetExplorer", "missions"]

ALL = "all"
_MISSION = ("mission", "platform", "instruments", "instrument")
_LOOKED_AT = 2000
"""Items whose properties are read for the names of missions."""
PROJECTIONS = {"cylindrical": "eqc", "north pole": "npolar", "south pole": "spolar"}


def missions(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Return items by what took them: mission, platform or instrument, whatever the item names first."""
    found: dict[str, list[Item]] = {}
    for number, item in enumerate(items):
        if number == _LOOKED_AT:
            break
        said = next((item.properties[key] for key in _MISSION if item.properties.get(key)), "unknown")
        name = ", ".join(map(str, said)) if isinstance(said, list) else str(said)
        found.setdefault(name, []).append(item)
    return found


class PlanetExplorer(Explorer):
    """What is at hand of a planet or moon: collections, missions, outlines, and a search for named places.

    Parameters
    ----------
    body
        The body to begin with; the first that has a collection where nothing is said.
    """

    title = "Planets and moons"

    def __init__(self, body: str | None = None) -> None:
        super().__init__()
        elsewhere = (bodies.EARTH.name, bodies.SKY.name)
        self.infos = [info for info in collections.known() if info.body and info.body not in elsewhere]
        names = sorted({info.body for info in self.infos if info.body})
        # Bodies of which there is no image have names at least.
        names += [name for name in features.named_bodies() if name not in (*names, *elsewhere)]
        if body is not None and body not in names:
            names.append(bodies.body_named(body).name)
        self.body = self.control(widgets.Dropdown, "Body", options=names, value=body or names[0])
        self.projection = self.control(widgets.Dropdown, "Map", options=PROJECTIONS)
        self.collection_name = self.control(widgets.Dropdown, "Collection", options=[])
        self.band = self.control(widgets.Dropdown, "Band", options=[])
        self.mission = self.control(widgets.Dropdown, "Mission", options=[ALL])
        self.names = self.control(widgets.Checkbox, "names of places", value=True, indent=False)
        self.feature = self.control(
            widgets.Combobox, "Go to", placeholder="Olympus Mons", continuous_update=False
        )
        self.map = Map(height="560px", body=self.body.value or "Mars")
        self.place = widgets.VBox([self.map], layout=widgets.Layout(width="100%"))
        self.collection: Collection | None = None
        self._missions: dict[str, list[Any]] = {}
        self.watch(self._body, self.body)
        self.watch(self._projection, self.projection)
        self.watch(self._collection, self.collection_name)
        self.watch(self._layers, self.band, self.mission)
        self.watch(self._names, self.names)
        self.watch(self._go, self.feature)
        self.arrange(
            [
                self.body,
                self.projection,
                self.collection_name,
                self.band,
                self.mission,
                self.names,
                self.feature,
            ],
            self.place,
        )
        self.guarded(self._body)()

    def _body(self) -> None:
        """Begin with another body: its collections, and the map that suits the first one."""
        names = [info.name for info in self.infos if info.body == self.body.value]
        with self.quiet():
            self.collection_name.options = names
            self.collection_name.value = next(iter(names), None)
            box = next((info.bbox for info in self.infos if [info.name] == names[:1]), None)
            self.projection.value = bodies.best_projection(box) if box else "eqc"
        self._new_map()
        self._collection()
        # After the images, at which the map looks first.
        self._names()

    def _projection(self) -> None:
        self._new_map()
        self._layers()
        self._names()

    def _new_map(self) -> None:
        old = self.map
        self.map = Map(height="560px", body=self.body.value, projection=self.projection.value)
        self.place.children = (self.map,)
        self.feature.options = [feature.name for feature in self.map.features]
        old.close()

    def _names(self) -> None:
        """Write the names of places on the map, or take them away."""
        shown = self.map.features if self.names.value else []
        points = [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [one.longitude, one.latitude]},
                "properties": {"name": one.name, "kind": one.kind, "diameter (km)": one.diameter},
            }
            for one in shown
        ]
        look = {"radius": 3, "weight": 1, "color": "#b3261e", "label": "name"}
        self.map.add({"type": "FeatureCollection", "features": points}, name="Names", style=look)

    def _collection(self) -> None:
        if self.collection_name.value is None:
            self.collection = None
            with self.quiet():
                self.band.options, self.mission.options = [], [ALL]
            self.tell(
                f"This session's volumes hold no images of {self.body.value}; its names are on the map."
            )
            return
        self.collection = collections.open(self.collection_name.value)
        self._missions = missions(self.collection)
        with self.quiet():
            self.band.options = self.collection.bands
            self.band.value = next(iter(self.collection.bands), None)
            self.mission.options = [ALL, *self._missions]
            self.mission.value = ALL
        self._layers()

    def _layers(self) -> None:
        """Show the chosen band, and the outlines of the chosen mission's images."""
        if self.collection is None or self.band.value is None:
            return
        self.map.add(self.collection[self.band.value], name="Images", cmap="gray")
        items = list(self.collection) if self.mission.value == ALL else self._missions[self.mission.value]
        self.map.add(footprints(items), name="Outlines", style=LINES)
        self.tell(f"{self.body.value}: {self.collection.title or self.collection.id}, {len(items):,} images")

    def _go(self) -> None:
        name = self.feature.value.strip()
        if not name:
            return
        try:
            self.map.go(name)
        except CupolaError as error:
            self.tell(str(error), wrong=True)
        else:
            self.tell(f"{name} on {self.body.value}")
