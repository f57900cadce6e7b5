"""The methods of chains, by family; `cupola.lab.chains.Chain` has them all.

A family is a class of methods that stands on `Methods` and has no state: it makes a step and returns ``self._next(step)``.
"""

from __future__ import annotations

from cupola.lab.chains.methods.areas import Areas
from cupola.lab.chains.methods.arithmetic import Arithmetic
from cupola.lab.chains.methods.base import Methods
from cupola.lab.chains.methods.exchange import Exchange
from cupola.lab.chains.methods.masks import Masks
from cupola.lab.chains.methods.planetary import Planetary
from cupola.lab.chains.methods.reductions import Reductions
from cupola.lab.chains.methods.scale import Scale
from cupola.lab.chains.methods.terrain import Terrain

__all__ = [
    "Areas",
    "Arithmetic",
    "Exchange",
    "Masks",
    "Methods",
    "Planetary",
    "Reductions",
    "Scale",
    "Terrain",
]
