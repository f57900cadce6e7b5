"""Jobs as a notebook sees them: map a function over inputs, watch it, read the results.

Names are loaded when first used: the tasks import parts of this package and must start quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.lab.jobs.handle import Job
    from cupola.lab.jobs.start import job, jobs, map, submit  # noqa: A004 - cupola.map is the name

__all__ = ["Job", "job", "jobs", "map", "submit"]

_HOMES = {
    "Job": "cupola.lab.jobs.handle",
    "job": "cupola.lab.jobs.start",
    "jobs": "cupola.lab.jobs.start",
    "map": "cupola.lab.jobs.start",
    "submit": "cupola.lab.jobs.start",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cupola.lab.jobs' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
