"""The steps of chains, in families, and what makes a program of them.

Each module of a family enters its steps in `STEPS`; it is named here so that a chain's JSON finds them.
"""

from __future__ import annotations

from cupola.lab.chains.graph import (  # noqa: F401 - enter steps
    arithmetic,
    bands,
    command,
    functions,
    kernel,
    masks,
    photometry,
    reduce,
    scale,
    terrain,
)
from cupola.lab.chains.graph.base import STEPS, Part, Step, Value, check_counts, step
from cupola.lab.chains.graph.context import Context
from cupola.lab.chains.graph.program import Program, from_json
from cupola.lab.chains.graph.source import Source

__all__ = [
    "STEPS",
    "Context",
    "Part",
    "Program",
    "Source",
    "Step",
    "Value",
    "check_counts",
    "from_json",
    "step",
]
