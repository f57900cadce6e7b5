"""HTCondor: one cluster of procs per array, by the schedd's own queue."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cupola.config import Compute
from cupola.platform.storage.htcondor.images import NodeImages
from cupola.platform.storage.htcondor.jobs import HTCondor

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["HTCondor", "open_engine"]


def open_engine(config: Config) -> HTCondor | None:
    """Return the pool of this platform; nothing where it has none."""
    settings = config.engines.htcondor
    if settings is None:
        return None
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    images = NodeImages(config.docker.host) if config.compute is Compute.DOCKER else None
    return HTCondor({**environment, "CONDOR_CONFIG": str(settings.config)}, settings=settings, images=images)
