"""Sessions as processes of this machine."""

from __future__ import annotations

from cupola.platform.storage.processes.usage import ProcessMeter

__all__ = ["ProcessMeter"]
