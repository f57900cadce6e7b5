"""Map tiles of chains: computed in killable worker processes, served by the session's Jupyter server.

For people: `use`, `nodes` and `release`, by which more machines compute the tiles of a session.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cupola.lab.tiles.sharing import nodes, release, use

__all__ = ["nodes", "release", "use"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in __all__:
        raise AttributeError(f"module 'cupola.lab.tiles' has no attribute {name!r}")
    value = getattr(import_module("cupola.lab.tiles.sharing"), name)
    globals()[name] = value
    return value
