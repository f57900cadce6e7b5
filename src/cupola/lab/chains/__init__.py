"""Chains: computations over collections, at the scale of a viewport or over whole files."""

from __future__ import annotations

from cupola.lab.chains.chain import Chain

__all__ = ["Chain"]
