"""``python -m cupola.platform.storage.htcondor.agent``: the process that owns HTCondor's bindings.

They hold Python's lock while they wait for the schedd, so that one that hangs would stop the whole portal. Here it stops
nothing but this child, which `call.py` ends and starts anew. One JSON object per line comes in, one goes out.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import classad2
import htcondor2

from cupola.platform.storage.htcondor.describe import ATTEMPT, TAG

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_QUEUE = ["ClusterId", "ProcId", "JobStatus", TAG, ATTEMPT]
_FACTORY = ["TotalSubmitProcs", "JobMaterializeNextProcId"]
_REASONS = ["HoldReason", "HoldReasonCode"]
_ENDED = [
    "ProcId",
    "ExitBySignal",
    "ExitSignal",
    "ExitCode",
    "RemoveReason",
    "LastHoldReason",
    "LastHoldReasonCode",
    "HoldReason",
    "HoldReasonCode",
    "MemoryUsage",
]
_ACTIONS = {
    "hold": htcondor2.JobAction.Hold,
    "release": htcondor2.JobAction.Release,
    "cancel": htcondor2.JobAction.Remove,
}


def submit(said: dict[str, Any]) -> dict[str, Any]:
    """Submit a description; the answer has the cluster."""
    result = _schedd().submit(htcondor2.Submit(said["description"]), count=said["count"])
    return {"cluster": result.cluster()}


def find(said: dict[str, Any]) -> dict[str, Any]:
    """Find the cluster of an array by our own mark."""
    ads = _query(
        f"{TAG} == {classad2.quote(said['tag'])} && {ATTEMPT} == {int(said['attempt'])}", ["ClusterId"]
    )
    return {"cluster": int(ads[0]["ClusterId"]) if ads else None}


def poll(said: dict[str, Any]) -> dict[str, Any]:
    """Ask for many clusters in one query; the answer has those that the schedd still has."""
    wanted = " || ".join(f"ClusterId == {int(cluster)}" for cluster in said["clusters"])
    found: dict[str, dict[str, Any]] = {}
    for ad in _query(wanted or "false", [*_QUEUE, *_FACTORY, *_REASONS]):
        one = found.setdefault(str(ad["ClusterId"]), {"total": None, "next": None, "procs": []})
        if "ProcId" not in ad or int(ad["ProcId"]) < 0:
            one["total"], one["next"] = ad.get("TotalSubmitProcs"), ad.get("JobMaterializeNextProcId")
            continue
        held = ad.get("HoldReason") if ad["JobStatus"] == htcondor2.JobStatus.HELD else None
        one["procs"].append([ad["ProcId"], int(ad["JobStatus"]), held])
    return {"clusters": found}


def act(said: dict[str, Any]) -> dict[str, Any]:
    """Hold, release or remove a cluster with all its procs; one that is gone is no error."""
    answer = _schedd().act(
        _ACTIONS[said["action"]], f"ClusterId == {int(said['cluster'])}", reason=said["reason"]
    )
    return {"denied": int(answer.get("TotalPermissionDenied", 0))}


def ended(said: dict[str, Any]) -> dict[str, Any]:
    """Tell how the procs of a cluster ended, from the schedd's history."""
    ads = _schedd().history(f"ClusterId == {int(said['cluster'])}", _ENDED, match=int(said["most"]))
    return {"procs": [{name: _plain(ad[name]) for name in _ENDED if name in ad} for ad in ads]}


def capacity(_said: dict[str, Any]) -> dict[str, Any]:
    """Tell the cores of the pool and the most memory of one machine."""
    slots = htcondor2.Collector().query(
        htcondor2.AdType.Startd, "PartitionableSlot =?= true", ["Cpus", "TotalSlotCpus", "TotalSlotMemory"]
    )
    return {
        "free": sum(int(slot.get("Cpus", 0)) for slot in slots),
        "cores": sum(int(slot.get("TotalSlotCpus", 0)) for slot in slots),
        "widest": max((int(slot.get("TotalSlotCpus", 0)) for slot in slots), default=0),
        "memory_mib": max((int(slot.get("TotalSlotMemory", 0)) for slot in slots), default=0),
    }


CALLS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    call.__name__: call for call in (submit, find, poll, act, ended, capacity)
}


def _schedd() -> htcondor2.Schedd:
    return htcondor2.Schedd()


def _query(wanted: str, attributes: list[str]) -> list[Any]:
    # With the ad of the cluster: it tells how many procs are still to be made.
    return list(_schedd().query(wanted, attributes, opts=htcondor2.QueryOpts.IncludeClusterAd))


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def main() -> None:
    """Answer calls until nobody asks any more."""
    for line in sys.stdin:
        said = json.loads(line)
        try:
            answer = CALLS[said["call"]](said)
        except Exception as error:  # noqa: BLE001 - the bindings raise many kinds, and all go to who asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
