"""The embedded engine: each job has a supervisor on this host."""

from __future__ import annotations

from cupola.platform.storage.localpool.jobs import LocalPool

__all__ = ["LocalPool"]
