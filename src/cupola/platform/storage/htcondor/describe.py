"""From an array to a submit description: pure, so that its tests are golden files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cupola.platform.storage.engine import Array

__all__ = ["ATTEMPT", "OWNER", "TAG", "describe"]

TAG, ATTEMPT, OWNER = "CupolaJob", "CupolaAttempt", "CupolaOwner"
"""Attributes that we add to each proc: a cluster is found by them, and so is whose it is."""
FACTORY = 1000
"""Most procs of an array in the queue at a time; the others are made when there is room for them. With few, the queue runs dry
between two rounds of the schedd."""
LEASE_S = 120
"""A node that is silent this long has lost its task, which then runs elsewhere; HTCondor's own default is 40 min."""
STUCK_S = 10
"""What the pool itself holds (no interpreter there, too much memory) does not get better by waiting."""


def describe(array: Array, *, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the submit description of `array`.

    Parameters
    ----------
    array
        What is to run. Its folder and interpreter are on storage that every node sees.
    extra
        What the administrator adds for the pool, such as ``requirements`` or ``accounting_group``; it wins.
    """
    words = ["-P", "-m", "cupola.lab.task", str(array.folder), "--nth", "$(Process)"]
    return {
        "universe": "vanilla",
        "executable": str(array.python),
        "transfer_executable": "false",
        "should_transfer_files": "NO",
        "arguments": _quoted(words),
        "environment": _quoted(f"{name}={value}" for name, value in array.environment.items()),
        "initialdir": str(array.folder),
        # What comes before the task opens its own log: an interpreter that does not start.
        "error": f"{array.folder}/log/$(Process).err",
        "request_cpus": str(array.cpus),
        "request_memory": f"{array.memory_mib}MB",
        "request_disk": "10MB",
        "max_materialize": str(max(FACTORY, 4 * array.at_once)),
        # A task that ends by itself has told what failed in its results; one that was killed runs again.
        "on_exit_remove": f"ExitBySignal =!= true || NumJobCompletions > {array.retries}",
        "periodic_remove": f"JobStatus == 5 && HoldReasonCode =!= 1 && time() - EnteredCurrentStatus > {STUCK_S}",
        "job_lease_duration": str(LEASE_S),
        # A claim that is kept long holds its cores against everybody else.
        "keep_claim_idle": "3",
        "JobBatchName": array.tag,
        f"MY.{TAG}": _text(array.tag),
        f"MY.{ATTEMPT}": str(array.attempt),
        f"MY.{OWNER}": _text(array.owner),
        **(extra or {}),
    }


def _quoted(words: Iterable[str]) -> str:
    """Return words in HTCondor's quotes: in all double ones, each in single ones, both doubled inside."""
    each = ("'" + word.replace("'", "''").replace('"', '""') + "'" for word in words)
    return '"' + " ".join(each) + '"'


def _text(value: str) -> str:
    """Return a string as ClassAds write it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
