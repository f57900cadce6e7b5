"""The explorer of terrain models: light and shade, slopes, contours, profiles, and what is seen from a place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from cupola.exceptions import InputError
from cupola.lab.explorers import plots
from cupola.lab.explorers.base import Explorer, as_collection
from cupola.lab.maps import Map
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    import xarray

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

__all__ = ["VIEWS", "TerrainExplorer"]

VIEWS = ("Height", "Hillshade", "Slope", "Aspect", "Contours")
CLICKS = ("values", "profile", "view from here")
_HEIGHT_BANDS = ("height", "dtm", "dem", "elevation", "radius", "data")


class TerrainExplorer(Explorer):
    """Hillshade, slope, aspect and contours of a terrain model of any body; profiles and viewsheds by clicks.

    Parameters
    ----------
    collection
        Its name, path or itself.
    band
        The band of heights; the first that is called like one where nothing is said.
    """

    title = "Terrain explorer"

    def __init__(self, collection: Collection | str = "coast-dem", band: str | None = None) -> None:
        super().__init__()
        self.collection = as_collection(collection)
        self.heights: Chain = self.collection[band or _height_band(self.collection)]
        self.what = self.control(widgets.Dropdown, "Show", options=VIEWS, value="Hillshade")
        self.azimuth = self.control(widgets.IntSlider, "Light from", min=0, max=355, step=5, value=315)
        self.altitude = self.control(widgets.IntSlider, "Light's height", min=5, max=85, step=5, value=45)
        self.interval = self.control(widgets.BoundedFloatText, "Contours (m)", min=0.1, max=10_000, value=50)
        self.clicks = self.control(widgets.Dropdown, "A click gives", options=CLICKS)
        self.eye = self.control(widgets.BoundedFloatText, "Eye (m)", min=0, max=10_000, value=2)
        self.reach = self.control(widgets.BoundedFloatText, "Reach (km)", min=0.1, max=500, value=5)
        self.map = Map(height="520px")
        self.plot = plots.Plot("Choose “profile” and click twice: the heights along the line appear here")
        self._begin: tuple[float, float] | None = None
        self.watch(self._draw, self.what, self.azimuth, self.altitude, self.interval)
        self.watch(self._forget, self.clicks)
        self.arrange(
            [self.what, self.azimuth, self.altitude, self.interval, self.clicks, self.eye, self.reach],
            self.map,
            self.plot,
        )
        self.map.on_probe(
            lambda found: self.guarded(lambda: self.click(found["longitude"], found["latitude"]))()
        )
        self.guarded(self._draw)()

    @property
    def chain(self) -> Chain:
        """What is shown, to go on with in a notebook."""
        heights = self.heights
        match self.what.value:
            case "Hillshade":
                return heights.hillshade(azimuth=self.azimuth.value, altitude=self.altitude.value)
            case "Slope":
                return heights.slope()
            case "Aspect":
                return heights.aspect()
            case "Contours":
                return heights.contour(self.interval.value)
            case _:
                return heights

    def _draw(self) -> None:
        styles: dict[str, dict[str, Any]] = {
            "Height": {"cmap": "terrain", "unit": "m"},
            "Hillshade": {"cmap": "gray", "vmin": 0, "vmax": 255},
            "Slope": {"cmap": "magma", "vmin": 0, "vmax": 45, "unit": "°"},
            "Aspect": {"cmap": "twilight", "vmin": 0, "vmax": 360, "unit": "°"},
            "Contours": {"cmap": "gray", "vmin": 0, "vmax": 1},
        }
        self.map.add(self.chain, name="Terrain", **styles[self.what.value])
        self.tell(f"{self.what.value} of {self.collection.title or self.collection.id}")

    def _forget(self) -> None:
        self._begin = None

    def click(self, longitude: float, latitude: float) -> None:
        """Do what a click on the map is to give, at a place in degrees."""
        if self.clicks.value == "view from here":
            self.show_view(longitude, latitude)
        elif self.clicks.value == "profile":
            if self._begin is None:
                self._begin = (longitude, latitude)
                self.tell("The profile begins here; click where it shall end.")
                return
            begin, self._begin = self._begin, None
            self.show_profile(begin, (longitude, latitude))

    def show_profile(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Plot the heights between two places, each longitude and latitude in degrees."""
        profile = self.heights.profile([begin, end])
        kilometres = profile["distance"] / 1000
        line = plots.line("height", kilometres, profile["value"], points=False)
        self.plot.show("Profile", [line], x="km", y="m")
        self.map.add(
            {"type": "LineString", "coordinates": [list(begin), list(end)]},
            name="Profile",
            style={"color": "#d62728", "interactive": False},
        )
        self.tell(f"The profile is {kilometres.max():.2f} km long.")

    def show_view(self, longitude: float, latitude: float) -> None:
        """Show which ground is seen from a place in degrees."""
        seen = self.heights.viewshed(
            longitude, latitude, height=self.eye.value, radius=1000 * self.reach.value
        )
        # The next click may well be on ground that is seen from here.
        style = {"color": "#1f77b4", "weight": 0.5, "fillOpacity": 0.35, "interactive": False}
        self.map.add(_outline(seen), name="Seen from here", style=style)
        share = float(np.nanmean(seen.values))
        self.tell(
            f"{100 * share:.0f} % of the ground within {self.reach.value:g} km is seen from {self.eye.value:g} m above it."
        )


def _outline(seen: xarray.DataArray) -> dict[str, Any]:
    """Return the ground that is seen as GeoJSON, in degrees of its body."""
    from affine import Affine
    from rasterio.features import shapes

    ground = (seen.values[0] == 1).astype(np.uint8)
    plane = lonlat_of_wkt(seen.attrs["crs"])
    parts = []
    for shape, _ in shapes(ground, mask=ground == 1, transform=Affine(*seen.attrs["transform"][:6])):
        rings = []
        for ring in shape["coordinates"]:
            longitudes, latitudes = plane.inverse(*np.asarray(ring).T)
            rings.append(np.column_stack([longitudes, latitudes]).tolist())
        parts.append(rings)
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": parts},
        "properties": {},
    }


def _height_band(collection: Collection) -> str:
    """Return the band that is called like one of heights.

    Raises
    ------
    InputError
        When none is.
    """
    bands = collection.bands
    for name in _HEIGHT_BANDS:
        if name in bands:
            return name
    if len(bands) == 1:
        return bands[0]
    raise InputError(
        f"{collection} has no band that is called like heights: say which one, such as band={bands[0]!r}."
        if bands
        else f"{collection} has no bands."
    )
