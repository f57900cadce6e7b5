"""Notebooks that survive: kernels that outlive their Jupyter server, and a journal of all that they said."""

from __future__ import annotations

import os

__all__ = ["SWITCH", "is_on"]

SWITCH = "CUPOLA_GUARDIAN"
"""``0`` in a session's environment leaves JupyterLab as it comes."""


def is_on() -> bool:
    """Whether kernels of this session have guardians."""
    return os.environ.get(SWITCH, "1") != "0"
