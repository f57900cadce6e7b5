"""The embedded engine: a supervisor per job on this host, in a container where sessions are containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.config import Compute
from cupola.platform.storage.localpool.containers import ContainerPool
from cupola.platform.storage.localpool.jobs import LocalPool

if TYPE_CHECKING:
    from cupola.config import Config

__all__ = ["ContainerPool", "LocalPool", "open_engine"]


def open_engine(config: Config) -> ContainerPool | LocalPool:
    """Return the pool of this platform."""
    folder, cores = config.paths.state / "run" / "cores", config.engines.local.cores
    teams = frozenset(team.name for team in config.teams)
    if config.compute is Compute.DOCKER:
        # What a person's tasks do must not be done by the platform's account.
        return ContainerPool(folder, host=config.docker.host, key=config.paths.key, cores=cores, teams=teams)
    return LocalPool(folder, cores=cores, teams=teams)
