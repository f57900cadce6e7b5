"""How amounts of compute are said to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.models.resources import Resources

__all__ = ["cores_text", "gpus_text", "memory_text", "size_text"]

_GIB = 1024
"""In MiB."""


def cores_text(cores: float) -> str:
    """Return a number of cores, such as ``2 cores``."""
    return f"{cores:.3g} core" + ("" if cores == 1 else "s")


def memory_text(mib: float) -> str:
    """Return an amount of memory, such as ``512 MiB`` or ``3.5 GiB``."""
    return f"{mib:.0f} MiB" if mib < _GIB else f"{mib / _GIB:.3g} GiB"


def gpus_text(gpus: int) -> str:
    """Return a number of GPUs, such as ``1 GPU``."""
    return f"{gpus} GPU" + ("" if gpus == 1 else "s")


def size_text(resources: Resources) -> str:
    """Return all of it, such as ``2 cores, 4 GiB, 1 GPU``."""
    said = [cores_text(resources.cores), memory_text(resources.memory_mib)]
    return ", ".join(said + ([gpus_text(resources.gpus)] if resources.gpus else []))
