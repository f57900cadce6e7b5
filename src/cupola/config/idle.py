"""Settings of sessions that nobody uses, and of what survives their end."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cupola.config.base import EmptyIsDefault, Settings

__all__ = ["IdleSettings", "SessionSettings"]

_HOUR_S, _MINUTE_S = 3600.0, 60.0


class IdleSettings(Settings):
    """When sessions are hibernated: what computes is never idle, and whoever is away is warned first."""

    hibernate_after_hours: float = Field(
        default=12.0,
        title="Hibernate after",
        description=(
            "After how many hours without activity a session is hibernated: its variables are written down, then it "
            "stops, and its owner wakes it with one click. Kernels that run, programs in terminals, busy processors and "
            "running jobs are activity. 0 means never."
        ),
        examples=[4.0],
        ge=0,
        le=24 * 365,
        json_schema_extra={"expects": "a number of hours; 0 for never"},
    )
    warn_minutes: float = Field(
        default=10.0,
        title="Warning",
        description="How long before a planned stop the owner is told, in minutes.",
        examples=[30.0],
        gt=0,
        le=60 * 24,
        json_schema_extra={"expects": "a number of minutes above 0"},
    )
    longest_hours: float | None = Field(
        default=None,
        title="Longest",
        description=(
            "After how many hours a session is hibernated even if it is used; its owner is warned, and cannot put it off."
        ),
        examples=[168.0],
        gt=0,
        le=24 * 365,
        json_schema_extra={"expects": "a number of hours", "default": "no limit"},
    )

    freeze_kernels: bool = Field(
        default=True,
        title="Freeze kernels",
        description=(
            "Whether the kernels of a session that is hibernated are written to disk as they stand, threads and open files "
            "included, so that a wake lets them go on. It takes sessions that are processes, a platform that root runs, and "
            "CRIU 4.2 or newer; everywhere else, and where one cannot be frozen, variables come back from their snapshot."
        ),
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )

    @property
    def hibernate_after(self) -> float | None:
        """Seconds without activity until a session is hibernated; nothing: never."""
        return self.hibernate_after_hours * _HOUR_S or None

    @property
    def warn(self) -> float:
        """Seconds between the announcement of a stop and the stop."""
        return self.warn_minutes * _MINUTE_S

    @property
    def longest(self) -> float | None:
        """Seconds that a session may run at most; nothing: as long as it likes."""
        return None if self.longest_hours is None else self.longest_hours * _HOUR_S


class SessionSettings(Settings):
    """How sessions end, and what is kept of them."""

    guardian: bool = Field(
        default=True,
        title="Guardian",
        description=(
            "Whether kernels and terminals outlive their Jupyter server, and outputs and variables are kept. Where it is "
            "off, JupyterLab is as it comes: new sessions find CUPOLA_GUARDIAN=0 in their environment."
        ),
        examples=[False],
        json_schema_extra={"expects": "true or false"},
    )
    idle: Annotated[IdleSettings, EmptyIsDefault] = Field(
        default_factory=IdleSettings,
        title="Idle sessions",
        description="When a session that nobody uses is hibernated.",
    )
