"""Prices: what an hour of a session costs, and what it has cost so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.models.base import now

if TYPE_CHECKING:
    from datetime import datetime

    from cupola.config import PriceSettings
    from cupola.models.resources import Resources
    from cupola.models.session import Session

__all__ = ["Prices", "cost_so_far"]

_GIB = 1024
"""In MiB."""
_HOUR_S = 3600.0


class Prices:
    """The prices of this platform.

    Parameters
    ----------
    settings
        What the configuration says; without a currency nothing costs anything.
    """

    def __init__(self, settings: PriceSettings) -> None:
        self._settings = settings

    @property
    def currency(self) -> str:
        """What prices are in; empty where there are none."""
        return self._settings.currency

    def rate(self, resources: Resources | None) -> float | None:
        """Return what a session with these limits costs per hour; nothing where it has none, or there are no prices."""
        if not self._settings.currency or resources is None:
            return None
        prices = self._settings
        return (
            resources.cores * prices.core_hour
            + resources.memory_mib / _GIB * prices.gib_hour
            + resources.gpus * prices.gpu_hour
        )


def cost_so_far(
    session: Session, rate: float | None, at: datetime | None = None, *, spent: float = 0.0
) -> float | None:
    """Return what a session has cost from when it was ready until it ended, or until `at` (now).

    The rate is the one of its launch, or of its last wake: what it costs does not change under its owner's hands.

    Parameters
    ----------
    session, rate, at
        Which, its price per hour, and until when.
    spent
        What it had cost before its last wake: while it was hibernated it cost nothing.
    """
    if rate is None:
        return None
    if session.started is None:
        return spent
    length = (session.stopped or at or now()) - session.started
    return spent + max(0.0, length.total_seconds()) / _HOUR_S * rate
