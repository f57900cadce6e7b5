"""Arrays on an HTCondor pool: one cluster each, its procs made as there is room (late materialisation).

What a task is doing is asked of the schedd in one query for all arrays. A proc that has left the queue has ended; what came of
it the job's folder tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cupola.exceptions import LimitError
from cupola.models.job import TaskState
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.htcondor.call import Agent
from cupola.platform.storage.htcondor.describe import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cupola.config import HTCondorSettings

__all__ = ["HTCondor"]

_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD, _TRANSFERRING, _SUSPENDED = range(1, 8)
_STATES = {
    _IDLE: TaskState.QUEUED,
    _RUNNING: TaskState.RUNNING,
    _HELD: TaskState.QUEUED,
    _TRANSFERRING: TaskState.RUNNING,
    _SUSPENDED: TaskState.RUNNING,
}
_OVER_MEMORY = 34
"""The code of a hold for more memory than was asked for."""
_ACTIONS = {Control.HOLD: "hold", Control.RUN: "release", Control.CANCEL: "cancel"}


class HTCondor:
    """Runs arrays on a pool.

    Parameters
    ----------
    environment
        What HTCondor's bindings find; `CONDOR_CONFIG` names the pool.
    settings
        What the operator says.
    """

    supervised: ClassVar[bool] = False

    def __init__(self, environment: Mapping[str, str], *, settings: HTCondorSettings) -> None:
        self._agent = Agent(environment)
        self._settings = settings

    def capacity(self) -> Capacity:
        """Return the cores of the pool, and the most memory of one machine."""
        told = self._agent.ask("capacity")
        return Capacity(
            cores=told["cores"], memory_mib=told["memory_mib"], widest=told["widest"], free_cores=told["free"]
        )

    def submit(self, array: Array) -> str:
        """Start an array as one cluster.

        Raises
        ------
        LimitError
            No machine of the pool is large enough for a task: it would wait for ever, and others behind it.
        UnavailableError
            The schedd does not answer, or refuses.
        """
        room = self.capacity()
        if room.cores and (array.cpus > room.widest or array.memory_mib > room.memory_mib):
            raise LimitError(
                f"A task asks for {array.cpus} cores and {array.memory_mib:,} MiB, and the largest machine of the pool has "
                f"{room.widest} and {room.memory_mib:,}: ask for less."
            )
        description = describe(array, extra=self._settings.submit)
        return str(self._agent.ask("submit", description=description, count=len(array.numbers))["cluster"])

    def find(self, array: Array) -> str | None:
        """Return the cluster of an array whose row does not know it."""
        cluster = self._agent.ask("find", tag=array.tag, attempt=array.attempt)["cluster"]
        return None if cluster is None else str(cluster)

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the states of all tasks of the arrays that the schedd still has, in one query."""
        clusters = [int(native) for _, native in arrays if native]
        told = self._agent.ask("poll", clusters=clusters)["clusters"]
        return {array.tag: _states(array, told[native]) for array, native in arrays if native in told}

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Hold, release or remove the cluster; one that has ended is no error."""
        JobFolder(array.folder).want(wish)
        if native:
            reason = f"{wish} by {array.owner} on Cupola"
            self._agent.ask("act", action=_ACTIONS[wish], cluster=int(native), reason=reason)

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed; what its interpreter said before, where it did not come so far."""
        folder = JobFolder(array.folder)
        return folder.log(task) or folder.words(f"log/{array.place_of(task)}.err")

    def last_words(self, array: Array) -> str:
        """Return nothing: `losses` tells it for each task."""
        del array
        return ""

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return why tasks ended that were killed or removed, by task."""
        numbers = array.numbers
        told = self._agent.ask("ended", cluster=int(native), most=len(numbers))["procs"]
        losses = ((numbers[int(ad["ProcId"])], _loss(ad)) for ad in told if int(ad["ProcId"]) < len(numbers))
        return {task: loss for task, loss in losses if loss is not None}

    def ahead(self, array: Array, native: str) -> int | None:
        """Return nothing yet."""
        del array, native
        return None


def _states(array: Array, told: Mapping[str, Any]) -> dict[int, TaskState]:
    """Return the state of each task of a cluster that the schedd has.

    Parameters
    ----------
    array
        Its tasks, in the order of the procs.
    told
        ``procs`` (number, status, reason of a hold), and of the factory ``next``, the first proc that is not made yet.
    """
    numbers = array.numbers
    made = len(numbers) if told["next"] is None else int(told["next"])
    # Made and no longer in the queue: it has ended.
    states = {
        task: TaskState.DONE if place < made else TaskState.QUEUED for place, task in enumerate(numbers)
    }
    for place, status, _ in told["procs"]:
        if place < len(numbers):
            states[numbers[place]] = _STATES.get(status, TaskState.DONE)
    return states


def _loss(ad: Mapping[str, Any]) -> Loss | None:
    """Return why a proc was lost, from its ad in the history; nothing where it ended by itself."""
    held = str(ad.get("LastHoldReason") or ad.get("HoldReason") or "").rstrip(".")
    if ad.get("ExitBySignal"):
        # HTCondor has run it again as often as it was told to.
        return Loss("Killed", f"Its process was killed by signal {ad.get('ExitSignal')}.")
    if held:
        memory = (
            ad.get("LastHoldReasonCode", ad.get("HoldReasonCode")) == _OVER_MEMORY or "memory" in held.lower()
        )
        return Loss("OutOfMemory" if memory else "Killed", f"HTCondor held it: {held}.")
    if ad.get("RemoveReason"):
        return Loss("Killed", f"HTCondor removed it: {str(ad['RemoveReason']).rstrip('.')}.")
    return None
