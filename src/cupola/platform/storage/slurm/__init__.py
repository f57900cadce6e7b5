"""Slurm: one array per array, by its own commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cupola.platform.storage.slurm.jobs import Slurm

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["Slurm", "open_engine"]


def open_engine(config: Config) -> Slurm | None:
    """Return the cluster of this platform; nothing where it has none."""
    settings = config.engines.slurm
    if settings is None:
        return None
    path = os.environ.get("PATH", os.defpath)
    if settings.programs is not None:
        path = f"{settings.programs}{os.pathsep}{path}"
    environment = {"PATH": path, "LANG": "C.UTF-8"}
    if settings.config is not None:
        environment["SLURM_CONF"] = str(settings.config)
    return Slurm(environment, settings=settings)
