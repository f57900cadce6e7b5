"""Planetary images without ISIS: labels, photometry, and geometry from SPICE kernels.

::

    from cupola.lab import planets

    planets.label("M143947267L.cal.cub")["start_time"]
    kernels = planets.Kernels("/volumes/kernels/lro")
    kernels.angles("Moon", longitude, latitude, "2010-11-09T13:06:40Z", "LRO")
"""

from __future__ import annotations

from cupola.lab.planets.label import label
from cupola.lab.planets.spice import Kernels, Place

__all__ = ["Kernels", "Place", "label"]
