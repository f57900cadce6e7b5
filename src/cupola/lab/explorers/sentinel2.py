"""The Sentinel-2 explorer: pictures, indices, composites without clouds, and how a place changes in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from cupola.exceptions import InputError
from cupola.lab.explorers import plots
from cupola.lab.explorers.base import Explorer, as_collection
from cupola.lab.maps import Map

if TYPE_CHECKING:
    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

__all__ = ["INDICES", "PICTURES", "Sentinel2Explorer", "index", "view"]


@dataclass(frozen=True)
class Index:
    """A normalised difference of two bands, or one that needs a third."""

    bands: tuple[str, ...]
    """By their common names."""
    text: str
    cmap: str
    limits: tuple[float, float]


INDICES = {
    "NDVI": Index(("nir", "red"), "vegetation", "RdYlGn", (-0.2, 0.9)),
    "EVI": Index(("nir", "red", "blue"), "vegetation where it is dense", "RdYlGn", (-0.2, 0.9)),
    "NDWI": Index(("green", "nir"), "open water", "BrBG", (-0.8, 0.8)),
    "NDMI": Index(("nir", "swir16"), "water in leaves", "RdYlBu", (-0.5, 0.6)),
    "NBR": Index(("nir", "swir22"), "burnt ground", "RdYlGn", (-0.5, 0.8)),
    "NDSI": Index(("green", "swir16"), "snow", "Blues", (-0.5, 0.9)),
}
"""Indices by name; EVI after Huete et al. (2002), the others are normalised differences of their two bands."""

PICTURES = {
    "True colour": ("red", "green", "blue"),
    "False colour": ("nir", "red", "green"),
    "Agriculture": ("swir16", "nir", "blue"),
}

COMPOSITES = ("newest on top", "median", "mean", "greatest", "least", "number of views")


def index(collection: Collection, name: str, *, clouds: bool = False) -> Chain:
    """Return an index over a collection.

    Parameters
    ----------
    collection
        Sentinel-2 level 2A, or anything whose bands have the same common names.
    name
        One of `INDICES`.
    clouds
        Whether clouds and their shadows stay in; without, they are taken out by the scene classification.

    Raises
    ------
    InputError
        When there is no such index.
    BandError
        When the collection lacks a band of it.
    """
    if name not in INDICES:
        raise InputError(f"There is no index {name!r}; choose one of {', '.join(INDICES)}.")
    bands = collection[INDICES[name].bands]
    first, second = bands[0], bands[1]
    if name == "EVI":
        chain = 2.5 * (first - second) / (first + 6 * second - 7.5 * bands[2] + 1)
    else:
        chain = (first - second) / (first + second)
    return chain if clouds else chain.mask_scl(drop=("cloud", "cirrus", "shadow"))


def view(collection: Collection, name: str, *, composite: str = COMPOSITES[0], clouds: bool = False) -> Chain:
    """Return a picture or an index over a collection, as one image of all its days or the newest on top.

    Raises
    ------
    InputError
        When there is no such picture, index or composite.
    """
    if name in PICTURES:
        chain = collection[PICTURES[name]]
        chain = chain if clouds else chain.mask_scl(drop=("cloud", "cirrus", "shadow"))
    else:
        chain = index(collection, name, clouds=clouds)
    reductions: dict[str, Any] = {
        COMPOSITES[0]: lambda: chain,
        "median": chain.median,
        "mean": chain.mean,
        "greatest": chain.max,
        "least": chain.min,
        "number of views": chain[0].count,
    }
    if composite not in reductions:
        raise InputError(f"There is no composite {composite!r}; choose one of {', '.join(COMPOSITES)}.")
    made: Chain = reductions[composite]()
    return made


class Sentinel2Explorer(Explorer):
    """Pictures, indices and composites of Sentinel-2, the time series of a place, and the run over the archive.

    Parameters
    ----------
    collection
        Its name, path or itself.
    """

    title = "Sentinel-2 explorer"

    def __init__(self, collection: Collection | str = "sentinel-2-l2a") -> None:
        super().__init__()
        self.collection = as_collection(collection)
        days = sorted(
            {f"{item.datetime:%Y-%m-%d}" for item in self.collection if item.datetime}, reverse=True
        )
        self.days = self.control(widgets.Dropdown, "Days", options=["all", *days])
        self.what = self.control(widgets.Dropdown, "Show", options=[*PICTURES, *self._indices()])
        self.composite = self.control(widgets.Dropdown, "Composite", options=COMPOSITES)
        self.clouds = self.control(widgets.Checkbox, "with clouds", value=False, indent=False)
        self._own_name = ""
        self.name = self.control(widgets.Text, "Name", value=self._own_name)
        self.map = Map(height="520px")
        self.series = plots.Plot("Click on the map: the place's values through time appear here")
        self.watch(self._draw, self.days, self.what, self.composite, self.clouds)
        self.arrange(
            [
                self.days,
                self.what,
                self.composite,
                self.clouds,
                self.name,
                self.button(
                    "Run over the archive",
                    "Write this at full resolution for all scenes",
                    self.guarded(self._run),
                    icon="play",
                ),
            ],
            self.map,
            self.series,
        )
        self.map.on_probe(self.clicked)
        self.job: Any = None
        self.guarded(self._draw)()

    def _indices(self) -> list[str]:
        """Return the indices whose bands the collection has."""
        known = set(self.collection.items[0].bands) if self.collection.items else set()
        return [name for name, one in INDICES.items() if set(one.bands) <= known or not known]

    @property
    def chosen(self) -> Collection:
        """The collection of the chosen days."""
        return (
            self.collection if self.days.value == "all" else self.collection.filter(datetime=self.days.value)
        )

    @property
    def chain(self) -> Chain:
        """What is shown, to go on with in a notebook."""
        return view(self.chosen, self.what.value, composite=self.composite.value, clouds=self.clouds.value)

    def _draw(self) -> None:
        chain, name = self.chain, self.what.value
        options: dict[str, Any] = {}
        if name in INDICES and self.composite.value != COMPOSITES[-1]:
            low, high = INDICES[name].limits
            options = {"cmap": INDICES[name].cmap, "vmin": low, "vmax": high}
        elif name in PICTURES and self.composite.value != COMPOSITES[-1]:
            options = {"vmin": 0.0, "vmax": 0.3}
        self.map.add(chain, name="Sentinel-2", **options)
        if self.name.value == self._own_name:
            self._own_name = self.name.value = name.casefold().replace(" ", "-")
        meaning = (
            f"{name}: {INDICES[name].text}" if name in INDICES else f"{name}: {', '.join(PICTURES[name])}"
        )
        self.tell(f"{meaning} · {len(self.chosen)} scenes · {self.composite.value}")

    def clicked(self, found: dict[str, Any]) -> None:
        """Show the values of all days under a click of the map."""
        self.guarded(lambda: self.show_series(found["longitude"], found["latitude"]))()

    def show_series(self, longitude: float, latitude: float) -> None:
        """Plot the index, or the bands of the picture, of all days at a place in degrees."""
        from cupola.lab.chains.compute.evaluate import probe

        name = self.what.value
        chain = view(self.collection, name, clouds=self.clouds.value)
        found = sorted(
            ((one.datetime, one.values) for one in probe(chain, longitude, latitude).items if one.datetime),
            key=lambda pair: pair[0],
        )
        titles = [name] if name in INDICES else list(PICTURES[name])
        traces = [
            plots.line(title, [day for day, _ in found], [values[number] for _, values in found])
            for number, title in enumerate(titles)
        ]
        place = (
            f"{abs(latitude):.4f}° {'N' if latitude >= 0 else 'S'}, "
            f"{abs(longitude):.4f}° {'E' if longitude >= 0 else 'W'}"
        )
        if not any(value is not None for _, values in found for value in values):
            why = "no scene lies there" if self.clouds.value else "no scene, or clouds in all of them"
            self.tell(f"There is nothing to plot at {place}: {why}.")
            return
        self.series.show(f"{name} at {place}", traces, x="day", y=name)
        self.tell(f"{name} at {place}, {len(found):,} days.")

    def _run(self) -> None:
        self.job = self.chain.run(self.name.value or self.what.value)
        self.tell(f"The job {self.name.value!r} runs; its products are in {self.job.folder}.")
        self.children = (*self.children[:4], self.job)
