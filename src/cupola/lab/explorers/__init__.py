"""Explorers: small applications over collections, for notebooks and for dashboards made of them.

Each is a widget: ``Sentinel2Explorer()`` at the end of a cell shows it. Its controls make a chain, ``explorer.chain``,
with which a notebook goes on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.lab.explorers.airquality import AirQualityStudy
    from cupola.lab.explorers.catalogue import CollectionExplorer
    from cupola.lab.explorers.planets import PlanetExplorer
    from cupola.lab.explorers.sentinel2 import Sentinel2Explorer
    from cupola.lab.explorers.sky import SkyExplorer
    from cupola.lab.explorers.terrain import TerrainExplorer

__all__ = [
    "AirQualityStudy",
    "CollectionExplorer",
    "PlanetExplorer",
    "Sentinel2Explorer",
    "SkyExplorer",
    "TerrainExplorer",
]

_HOMES = {
    "AirQualityStudy": "airquality",
    "CollectionExplorer": "catalogue",
    "PlanetExplorer": "planets",
    "Sentinel2Explorer": "sentinel2",
    "SkyExplorer": "sky",
    "TerrainExplorer": "terrain",
}


def __getattr__(name: str) -> Any:
    """Load an explorer when it is first used: plots and tables take a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
