"""Planetary images without ISIS: labels, photometry, and geometry from SPICE kernels."""

from __future__ import annotations
