"""The batch engines there are: one folder each, and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.platform.storage import htcondor, localpool, slurm

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import Config
    from cupola.platform.storage.engine import Engine

__all__ = ["open_engines"]

ENGINES: dict[str, Callable[[Config], Engine | None]] = {
    "local": localpool.open_engine,
    "htcondor": htcondor.open_engine,
    "slurm": slurm.open_engine,
}
"""By the name that a job says: returns the engine, or nothing where the operator has set up none."""


def open_engines(config: Config) -> dict[str, Engine]:
    """Return the engines that are set up, by name, the default one first."""
    found = {name: engine for name, opened in ENGINES.items() if (engine := opened(config)) is not None}
    return dict(sorted(found.items(), key=lambda entry: entry[0] != config.engines.default))
