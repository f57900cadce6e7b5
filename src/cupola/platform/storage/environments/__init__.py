"""Locked environments: the versions of a datalab where sessions are processes of this machine."""

from __future__ import annotations

from cupola.platform.storage.environments.store import BuiltVersion, EnvironmentStore

__all__ = ["BuiltVersion", "EnvironmentStore"]
