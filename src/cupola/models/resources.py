"""Cores, memory and GPUs: what is asked for, allowed, free and used."""

from __future__ import annotations

from pydantic import Field

from cupola.models.base import Model

__all__ = ["Capacity", "Resources", "Usage"]


class Resources(Model):
    """An amount of compute."""

    cores: float = Field(gt=0)
    memory_mib: int = Field(gt=0)
    """In MiB (1024 MiB are 1 GiB)."""
    gpus: int = Field(default=0, ge=0)


class Capacity(Model):
    """What sessions on this platform may use together, and what is left of it now."""

    total_cores: float
    """Cores that may be promised: each of the machine's own to several sessions, where the operator says so."""
    most_cores: float
    """Most that one session can have: the machine's own."""
    total_memory_mib: int
    total_gpus: int
    free_cores: float
    free_memory_mib: int
    free_gpus: int
    no_gpus: str | None = None
    """Why nobody can have a GPU, in a sentence; nothing where there are some."""


class Usage(Model):
    """What a running session uses."""

    cores: float
    """Busy cores since the look before."""
    memory_mib: int
    peak_memory_mib: int | None = None
    """The most memory it has had at a time; nothing where nobody knows."""
    processes: int | None = None
