"""A study of air quality: nitrogen dioxide in two periods, their difference, and what it means for regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from cupola.exceptions import InputError
from cupola.lab.explorers import plots
from cupola.lab.explorers.base import Explorer, as_collection
from cupola.lab.maps import Map

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

__all__ = ["AirQualityStudy", "Study", "regions_around", "study"]

NO2 = "nitrogendioxide_tropospheric_column"
MICRO = 1e6
"""From mol to µmol per square metre."""
METRES = 5000.0
"""At which pixel size regions are measured: about that of the instrument."""

CITIES: dict[str, tuple[float, float]] = {
    "Novapoli": (2.10, 48.60),
    "Rheinmark": (6.90, 51.20),
    "Lagunes": (9.30, 45.40),
    "Alta Vega": (-3.60, 40.30),
    "Brackwater": (-1.70, 52.60),
    "Montclair": (5.00, 45.60),
}
"""The largest of the sample archive's made-up cities: longitude and latitude in degrees."""


@dataclass(frozen=True)
class Study:
    """Two periods of nitrogen dioxide and their difference, in µmol per square metre."""

    before: Chain
    after: Chain

    @property
    def difference(self) -> Chain:
        """The second period less the first one."""
        return self.after - self.before

    def table(self, regions: geopandas.GeoDataFrame, *, metres: float = METRES) -> pd.DataFrame:
        """Return what the periods were in regions.

        Parameters
        ----------
        regions
            Polygons with a column ``name``.
        metres
            Pixel size at which regions are measured.

        Returns
        -------
        table
            A row per region: ``name``, ``before``, ``after`` (means), ``before_std``, ``after_std`` in µmol per square
            metre, and ``change`` in per cent; NaN where a region was not seen.
        """
        import pandas as pd

        parts = {
            period: chain.zonal(regions, stats=("mean", "std"), metres=metres).compute()
            for period, chain in (("before", self.before), ("after", self.after))
        }
        before, after = (np.asarray(parts[period]["mean"], dtype=float) for period in ("before", "after"))
        with np.errstate(divide="ignore", invalid="ignore"):
            change = 100 * (after - before) / before
        return pd.DataFrame(
            {
                "name": list(regions["name"]),
                "before": before,
                "after": after,
                "before_std": np.asarray(parts["before"]["std"], dtype=float),
                "after_std": np.asarray(parts["after"]["std"], dtype=float),
                "change": change,
            }
        )


def study(
    collection: Collection | str, first: str, second: str, *, band: str = NO2, least: float = 0.75
) -> Study:
    """Return the means of two periods.

    Parameters
    ----------
    collection
        Sentinel-5P level 2 swaths: its name, path or itself.
    first, second
        The periods, such as ``2025-04`` or ``2025-04-01/2025-04-15``.
    band
        The column that is compared, in mol per square metre.
    least
        The least quality of pixels that count; 0.75 leaves out clouds.

    Raises
    ------
    InputError
        When a period has no swath.
    """
    swaths = as_collection(collection)
    means = []
    for period in (first, second):
        chosen = swaths.filter(datetime=period)
        if not len(chosen):
            raise InputError(f"{swaths} has no swath in {period}: choose another period.")
        means.append((chosen[band].mask_qa(least=least) * MICRO).mean())
    return Study(*means)


def regions_around(places: dict[str, tuple[float, float]], kilometres: float) -> geopandas.GeoDataFrame:
    """Return squares around places on the Earth, as regions.

    Parameters
    ----------
    places
        Longitude and latitude in degrees by name.
    kilometres
        From the middle to each side.
    """
    import geopandas
    from shapely.geometry import box

    boxes = []
    for longitude, latitude in places.values():
        north = kilometres / 111.2
        east = north / np.cos(np.radians(latitude))
        boxes.append(box(longitude - east, latitude - north, longitude + east, latitude + north))
    return geopandas.GeoDataFrame({"name": list(places)}, geometry=boxes, crs="EPSG:4326")


class AirQualityStudy(Explorer):
    """Nitrogen dioxide in two periods: both means, the difference, and a table and plot of regions.

    Parameters
    ----------
    collection
        Sentinel-5P level 2 swaths: its name, path or itself.
    first, second
        The periods to begin with.
    regions
        Polygons with a column ``name``; squares around the sample archive's cities where nothing is said.
    """

    title = "Air quality in two periods"

    def __init__(
        self,
        collection: Collection | str = "sentinel-5p",
        *,
        first: str = "2025-04",
        second: str = "2026-04",
        regions: geopandas.GeoDataFrame | None = None,
    ) -> None:
        super().__init__()
        self.collection = as_collection(collection)
        self.regions = regions_around(CITIES, 40) if regions is None else regions
        self.first = self.control(widgets.Text, "First", value=first, continuous_update=False)
        self.second = self.control(widgets.Text, "Second", value=second, continuous_update=False)
        self.quality = self.control(
            widgets.FloatSlider, "Quality from", min=0, max=1, step=0.05, value=0.75, continuous_update=False
        )
        self.what = self.control(widgets.Dropdown, "Show", options=("difference", "first", "second"))
        self.map = Map(height="520px", body="Earth", basemap="land", graticule=True)
        # First, so that the map looks at them: swaths go around half the world.
        self.map.add(self.regions, name="Regions", style={"fill": False, "weight": 1.5, "color": "#222"})
        self.plot = plots.Plot("Press “Measure the regions”: their means appear here")
        self.result = widgets.HTML()
        self.table: Any = None
        self.watch(self._draw, self.first, self.second, self.quality, self.what)
        self.arrange(
            [
                self.first,
                self.second,
                self.quality,
                self.what,
                self.button(
                    "Measure the regions",
                    "Mean of both periods in each region",
                    self.guarded(self.measure),
                    icon="bar-chart",
                ),
            ],
            self.map,
            self.plot,
            self.result,
        )
        self.guarded(self._draw)()

    @property
    def study(self) -> Study:
        """The two periods as they are chosen."""
        return study(self.collection, self.first.value, self.second.value, least=self.quality.value)

    @property
    def chain(self) -> Chain:
        """What is shown, to go on with in a notebook."""
        chosen = self.study
        return {"first": chosen.before, "second": chosen.after, "difference": chosen.difference}[
            self.what.value
        ]

    def _draw(self) -> None:
        chain = self.chain
        options: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 150}
        if self.what.value == "difference":
            options = {"cmap": "RdBu_r", "vmin": -60, "vmax": 60}
        self.map.add(chain, name="Nitrogen dioxide", unit="µmol m⁻²", **options)
        shown = {
            "first": f"Mean of {self.first.value}",
            "second": f"Mean of {self.second.value}",
            "difference": f"Difference: {self.second.value} less {self.first.value}",
        }
        self.tell(f"{shown[self.what.value]}, quality from {self.quality.value:g}")

    def measure(self) -> None:
        """Measure the regions in both periods, and show them as a plot and a table."""
        self.tell("Measuring ...")
        self.table = self.study.table(self.regions)
        names = list(self.table["name"])
        self.plot.show(
            "Nitrogen dioxide by region",
            [
                plots.bars(self.first.value, names, self.table["before"], self.table["before_std"]),
                plots.bars(self.second.value, names, self.table["after"], self.table["after_std"]),
            ],
            x="region",
            y="µmol m⁻²",
        )
        shown = self.table.round({"before": 1, "after": 1, "before_std": 1, "after_std": 1, "change": 0})
        self.result.value = shown.to_html(index=False, border=0)
        seen = self.table["change"].dropna()
        self.tell(
            f"{len(seen)} of {len(names)} regions were seen in both periods; the median of their changes is "
            f"{seen.median():+.0f} %."
            if len(seen)
            else "No region was seen in both periods: choose a lower quality or other periods."
        )
