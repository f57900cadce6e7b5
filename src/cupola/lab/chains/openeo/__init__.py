"""Chains as openEO process graphs, and graphs of others as chains."""

from __future__ import annotations

from cupola.lab.chains.openeo.reading import from_openeo
from cupola.lab.chains.openeo.writing import to_openeo, zonal_graph

__all__ = ["from_openeo", "to_openeo", "zonal_graph"]
