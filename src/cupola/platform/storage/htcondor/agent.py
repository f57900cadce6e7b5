"""``python -m cupola.platform.storage.htcondor.agent``: the process that owns HTCondor's bindings.

They hold Python's lock while they wait for the schedd, so that one that hangs would stop the whole portal. Here it stops
nothing but this child, which `call.py` ends and starts anew. One JSON object per line comes in, one goes out.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import classad2
import htcondor2

from cupola.platform.storage.htcondor.describe import ATTEMPT, TAG

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_QUEUE = ["ClusterId", "ProcId", "JobStatus", TAG, ATTEMPT]
_FACTORY = ["TotalSubmitProcs", "JobMaterializeNextProcId", "JobMaterializePaused"]
_BROKEN = -1
"""Why a factory makes no more procs: the submit description is wrong for the next one."""
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
    "ResidentSetSize",
]
_WHOLE = ["TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs"]
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
    """Ask for many clusters in one query; the answer has those that the schedd still has.

    ``procs`` are number, status and for one that is held the code of its reason; ``next`` is the first proc that is still to be
    made.
    """
    wanted = " || ".join(f"ClusterId == {int(cluster)}" for cluster in said["clusters"])
    found: dict[str, dict[str, Any]] = {}
    for ad in _query(wanted or "false", [*_QUEUE, *_FACTORY, "HoldReasonCode"]):
        one = found.setdefault(str(ad["ClusterId"]), {"next": None, "broken": False, "procs": []})
        if "ProcId" not in ad or int(ad["ProcId"]) < 0:
            one["next"] = ad.get("JobMaterializeNextProcId")
            one["broken"] = ad.get("JobMaterializePaused") == _BROKEN
            continue
        held = ad.get("HoldReasonCode") if ad["JobStatus"] == htcondor2.JobStatus.HELD else None
        one["procs"].append([ad["ProcId"], int(ad["JobStatus"]), held])
    return {"clusters": found}


def act(said: dict[str, Any]) -> dict[str, Any]:
    """Hold, release or remove a cluster with all its procs; one that is gone is no error."""
    answer = _schedd().act(
        _ACTIONS[said["action"]], f"ClusterId == {int(said['cluster'])}", reason=said["reason"]
    )
    return {"denied": int(answer.get("TotalPermissionDenied", 0))}


def throttle(said: dict[str, Any]) -> dict[str, Any]:
    """Change how many procs of a cluster may be in the queue at a time; a cluster that is gone is no error."""
    cluster = int(said["cluster"])
    if not _query(f"ClusterId == {cluster}", ["ClusterId"]):
        return {"edited": 0}
    # The ad of the cluster itself, which has no proc.
    edited = _schedd().edit([str(cluster)], "JobMaterializeLimit", str(int(said["most"])))
    return {"edited": int(edited)}


def ended(said: dict[str, Any]) -> dict[str, Any]:
    """Tell how the procs of a cluster ended, from the schedd's history."""
    ads = _schedd().history(f"ClusterId == {int(said['cluster'])}", _ENDED, match=int(said["most"]))
    return {"procs": [{name: _plain(ad[name]) for name in _ENDED if name in ad} for ad in ads]}


def ahead(said: dict[str, Any]) -> dict[str, Any]:
    """Count what waits in the queue and came before a cluster, at most `most` of it; and what of the cluster waits itself."""
    cluster, most = int(said["cluster"]), int(said["most"])
    own = f"ClusterId == {cluster} && JobStatus == 1"
    waiting = _schedd().query(own, ["ClusterId"], limit=1)
    # A proc waits, or is not even made: the ad of its cluster tells how many of those there are.
    before = _schedd().query(
        f"ClusterId < {cluster} && (JobStatus == 1 || ProcId =?= undefined)",
        ["ProcId", *_FACTORY],
        limit=most,
        opts=htcondor2.QueryOpts.IncludeClusterAd,
    )
    return {"waits": bool(waiting), "before": min(most, sum(map(_tasks_of, before)))}


def _tasks_of(ad: Any) -> int:
    """Return for how many tasks an ad of the queue stands: one, or those of a cluster that are still to be made."""
    if int(ad.get("ProcId", -1)) >= 0:
        return 1
    made = ad.get("JobMaterializeNextProcId")
    if made is None or ad.get("JobMaterializePaused"):
        return 0
    return max(0, int(ad.get("TotalSubmitProcs", 0)) - int(made))


def capacity(said: dict[str, Any]) -> dict[str, Any]:
    """Tell the cores of the pool, and what kinds of machines it has; with `shared` of those alone that share our file system."""
    # What was cut off a slot (a dynamic one) is counted in the slot.
    slots = htcondor2.Collector().query(
        htcondor2.AdType.Startd,
        'SlotType =!= "Dynamic"',
        ["Cpus", "Memory", "GPUs", "PartitionableSlot", "State", "FileSystemDomain", *_WHOLE],
    )
    # HTCondor gives what is not transferred to machines of this domain only: another one would never get a task.
    domain = str(htcondor2.param.get("FILESYSTEM_DOMAIN", ""))
    theirs = sorted({str(slot.get("FileSystemDomain", "")) for slot in slots})
    if said["shared"]:
        slots = [slot for slot in slots if str(slot.get("FileSystemDomain", "")).lower() == domain.lower()]
    cores = free = 0
    machines: set[tuple[int, int, int]] = set()
    for slot in slots:
        whole = slot.get("PartitionableSlot") is True
        sizes = _WHOLE if whole else ["Cpus", "Memory", "GPUs"]
        cpus, memory, gpus = (int(slot.get(name, 0) or 0) for name in sizes)
        cores += cpus
        if whole or slot.get("State") == "Unclaimed":
            free += int(slot.get("Cpus", 0))
        machines.add((cpus, memory, gpus))
    return {"free": free, "cores": cores, "machines": sorted(machines), "domain": domain, "domains": theirs}


CALLS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    call.__name__: call for call in (submit, find, poll, act, throttle, ended, ahead, capacity)
}


def token_trouble(folder: Path) -> str:
    """Say why HTCondor uses no token of a folder; nothing where it may. It leaves files out without a word."""
    try:
        files = [(file, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    except OSError as error:
        return f"the folder of tokens {folder} cannot be read ({error.strerror})"
    if not files:
        return f"there is no token in {folder}"
    if any(status.st_uid == os.geteuid() and not status.st_mode & 0o077 for _, status in files):
        return ""
    return f"{files[0][0]} must belong to the account {pwd.getpwuid(os.geteuid()).pw_name} with mode 0600"


def _token_folder() -> Path:
    name = "SEC_TOKEN_DIRECTORY" if os.geteuid() else "SEC_TOKEN_SYSTEM_DIRECTORY"
    return Path(htcondor2.param.get(name) or "/etc/condor/tokens.d")


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
            answer = {"error": f"{type(error).__name__}: {error}", "token": token_trouble(_token_folder())}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
