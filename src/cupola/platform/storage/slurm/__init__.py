"""Slurm: one array per array, by its own commands."""

from __future__ import annotations

from cupola.platform.storage.slurm.jobs import Slurm

__all__ = ["Slurm"]
