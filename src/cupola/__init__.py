"""Cupola: the lab next to the archive.

In a notebook::

    import cupola

    s2 = cupola.open("sentinel-2-l2a", bbox=(-9.6, 29.6, -8.4, 30.7), datetime="2020-02")
    ndvi = s2["B04", "B08"].map(lambda red, nir: (nir - red) / (nir + red))
    m = cupola.Map()
    m.add(ndvi, cmap="RdYlGn", vmin=-1, vmax=1)
    job = ndvi.run("ndvi-february")

Names are loaded when first used, so that ``import cupola`` costs nothing in a program that only asks the portal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.client import from_environment as portal
    from cupola.exceptions import CupolaError, error_class
    from cupola.lab import explorers, tiles
    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection, Item, open  # noqa: A004 - cupola.open is the name
    from cupola.lab.jobs import Job, job, jobs, map  # noqa: A004 - cupola.map is the name
    from cupola.lab.maps import Map
    from cupola.lab.notebooks.start import run_notebook
    from cupola.lab.packages import packages
    from cupola.lab.sky.skymap import SkyMap
    from cupola.lab.storage import storage

__all__ = [
    "Chain",
    "Collection",
    "CupolaError",
    "Item",
    "Job",
    "Map",
    "SkyMap",
    "error_class",
    "explorers",
    "job",
    "jobs",
    "map",
    "open",
    "packages",
    "portal",
    "run_notebook",
    "storage",
    "tiles",
]

_HOMES = {
    "Chain": ("cupola.lab.chains", "Chain"),
    "Collection": ("cupola.lab.collections", "Collection"),
    "CupolaError": ("cupola.exceptions", "CupolaError"),
    "Item": ("cupola.lab.collections", "Item"),
    "Job": ("cupola.lab.jobs", "Job"),
    "Map": ("cupola.lab.maps", "Map"),
    "SkyMap": ("cupola.lab.sky.skymap", "SkyMap"),
    "error_class": ("cupola.exceptions", "error_class"),
    "explorers": ("cupola.lab", "explorers"),
    "job": ("cupola.lab.jobs", "job"),
    "jobs": ("cupola.lab.jobs", "jobs"),
    "map": ("cupola.lab.jobs", "map"),
    "open": ("cupola.lab.collections", "open"),
    "packages": ("cupola.lab.packages", "packages"),
    "portal": ("cupola.client", "from_environment"),
    "run_notebook": ("cupola.lab.notebooks.start", "run_notebook"),
    "storage": ("cupola.lab.storage", "storage"),
    "tiles": ("cupola.lab", "tiles"),
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cupola' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    home = import_module(module)
    # A name may be a module of its own, which its package does not have before it is loaded.
    value = getattr(home, attribute) if hasattr(home, attribute) else import_module(f"{module}.{attribute}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
