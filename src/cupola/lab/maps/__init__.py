"""Maps in notebooks: chains and collections of the Earth and other bodies, computed for what is in view."""

from __future__ import annotations

from cupola.lab.maps.layers import ChainLayer
from cupola.lab.maps.map import Map

__all__ = ["ChainLayer", "Map"]
