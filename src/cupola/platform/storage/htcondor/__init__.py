"""HTCondor: one cluster of procs per array, by the schedd's own queue."""

from __future__ import annotations

from cupola.platform.storage.htcondor.jobs import HTCondor

__all__ = ["HTCondor"]
