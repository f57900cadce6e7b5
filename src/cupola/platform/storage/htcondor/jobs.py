"""Arrays on an HTCondor pool: one cluster each, its procs made as there is room (late materialisation).

What a task is doing is asked of the schedd in one query for all arrays. A proc that has left the queue has ended; what came of
it the job's folder tells.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cupola.exceptions import InputError, LimitError, UnavailableError
from cupola.models.containers import VOLUMES_INSIDE
from cupola.models.job import TaskState
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.htcondor.call import SECONDS, TOKENS, Agent
from cupola.platform.storage.htcondor.describe import OVER_TIME, OWN_HOLD, Terms, describe, most_made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cupola.config import HTCondorSettings
    from cupola.platform.storage.htcondor.images import NodeImages

__all__ = ["HTCondor", "volumes_of"]

_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD, _TRANSFERRING, _SUSPENDED = range(1, 8)
_STATES = {
    _IDLE: TaskState.QUEUED,
    _RUNNING: TaskState.RUNNING,
    _HELD: TaskState.QUEUED,
    _TRANSFERRING: TaskState.RUNNING,
    _SUSPENDED: TaskState.RUNNING,
}
_ACTIONS = {Control.HOLD: "hold", Control.RUN: "release", Control.CANCEL: "cancel"}
AGENTS = 8
"""Most processes with bindings beside the platform's own: one per person who has just done something."""
VOLUMES = "CupolaVolumes"
"""Attribute with the names of the volumes that tasks in containers may see, separated by commas."""
MOST_AHEAD = 10_000
"""Beyond this nobody wants to know exactly."""


class HTCondor:
    """Runs arrays on a pool.

    Parameters
    ----------
    environment
        What HTCondor's bindings find; `CONDOR_CONFIG` names the pool.
    settings
        What the operator says.
    images
        Where sessions are containers: knows under which names nodes get their images.
    seconds
        Most time for one call.
    """

    supervised: ClassVar[bool] = False

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        settings: HTCondorSettings,
        images: NodeImages | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._environment = dict(environment)
        self._settings = settings
        self._images = images
        self._seconds = seconds
        self._agent = Agent(environment, seconds=seconds)
        """Asks what everybody may know."""
        self._agents: OrderedDict[str, Agent] = OrderedDict()
        """Act for one person each, with that person's token; the last one was used last."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the processes with the bindings."""
        for agent in (self._agent, *self._agents.values()):
            agent.close()

    def capacity(self) -> Capacity:
        """Return the cores of the pool, and the most that one machine has."""
        told = self._ask_for_machines()
        machines = told["machines"]
        return Capacity(
            cores=told["cores"],
            memory_mib=max((memory for _, memory, _ in machines), default=0),
            widest=max((cpus for cpus, _, _ in machines), default=0),
            free_cores=told["free"],
            gpus=max((gpus for _, _, gpus in machines), default=0),
        )

    def submit(self, array: Array) -> str:
        """Start an array as one cluster.

        Raises
        ------
        InputError
            The pool cannot run it as its owner, or in the session's version.
        LimitError
            No machine of the pool is large enough for a task: it would wait for ever, and others behind it.
        UnavailableError
            The schedd does not answer, or refuses.
        """
        image = self._image(array)
        told = self._ask_for_machines()
        _check_room(array, told["machines"])
        terms = Terms(
            cores=told["cores"],
            group=self._settings.group,
            universe=self._settings.universe,
            image=image,
            extra={**volumes_of(array), **self._settings.submit},
        )
        agent = self._agent_of(array)
        answer = agent.ask("submit", description=describe(array, terms), count=len(array.numbers))
        return str(answer["cluster"])

    def find(self, array: Array) -> str | None:
        """Return the cluster of an array whose row does not know it."""
        cluster = self._agent.ask("find", tag=array.tag, attempt=array.attempt)["cluster"]
        return None if cluster is None else str(cluster)

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the states of all tasks of the arrays that the schedd still has, in one query."""
        clusters = [int(native) for _, native in arrays if native]
        if not clusters:
            return {}
        told = self._agent.ask("poll", clusters=clusters)["clusters"]
        found = {}
        for array, native in arrays:
            if native not in told:
                continue
            if told[native]["broken"] and not told[native]["procs"]:
                # HTCondor keeps for ever what it can make no task of.
                self._remove(array, native)
                continue
            found[array.tag] = _states(array, told[native])
        return found

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Hold, release or remove the cluster; one that has ended is no error."""
        JobFolder(array.folder).want(wish)
        if native:
            self._act(array, native, _ACTIONS[wish], f"{wish} by {array.owner} on Cupola")

    def throttle(self, array: Array, native: str, at_once: int) -> None:
        """Let at most `at_once` tasks be in the queue from now on; those that run already are let end."""
        if native:
            agent = self._agent_of(array)
            most = most_made(array, self._ask_for_machines()["cores"], at_once=at_once)
            agent.ask("throttle", cluster=int(native), most=most)

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
        if not native:
            return {}
        told = self._agent.ask("ended", cluster=int(native), most=len(numbers))["procs"]
        losses = (
            (numbers[int(ad["ProcId"])], _loss(ad, array)) for ad in told if int(ad["ProcId"]) < len(numbers)
        )
        return {task: loss for task, loss in losses if loss is not None}

    def ahead(self, array: Array, native: str) -> int | None:
        """Return how many tasks in the schedd's queue were submitted before this array and wait, too.

        Whose turn it is the pool decides by everybody's share: this is what there is to share with.
        """
        del array
        if not native:
            return None
        told = self._agent.ask("ahead", cluster=int(native), most=MOST_AHEAD)
        return int(told["before"]) if told["waits"] else 0

    # -- the steps --------------------------------------------------------------------------------------------

    def _ask_for_machines(self) -> dict[str, Any]:
        """Return what the machines have that may run our tasks.

        Raises
        ------
        UnavailableError
            The pool has machines, and HTCondor would give none of them a task.
        """
        extra = {name.lower(): value.lower() for name, value in self._settings.submit.items()}
        # An operator who says it by himself knows better.
        shared = "should_transfer_files" not in extra and "filesystemdomain" not in extra.get(
            "requirements", ""
        )
        told = self._agent.ask("capacity", shared=shared)
        if told["domains"] and not told["machines"]:
            raise UnavailableError(
                f"HTCondor would start no task: FILESYSTEM_DOMAIN is {told['domain']} in {self._settings.config} and "
                f"{', '.join(told['domains'][:3])} on the pool's machines; the platform's administrator makes them the same."
            )
        return told

    def _image(self, array: Array) -> str:
        """Return the image of an array's tasks; empty where they run without one.

        Raises
        ------
        InputError
            The pool is set up for the other way.
        """
        universe = self._settings.universe
        if universe == "vanilla":
            if array.container is not None:
                raise InputError(
                    "Sessions are containers here and the HTCondor pool is set up for tasks without one: use another engine, or "
                    "have the platform's administrator set engines.htcondor.universe to docker."
                )
            return ""
        if array.container is None or self._images is None:
            raise InputError(
                f"The HTCondor pool is set up for the universe {universe}, and sessions are no containers here: use another "
                "engine, or have the platform's administrator set engines.htcondor.universe to vanilla."
            )
        if self._settings.tokens is None and array.container.user != os.geteuid():
            raise InputError(
                "On the HTCondor pool tasks would not run as their owner, who has a number of their own here: use another engine, "
                "or have the platform's administrator set engines.htcondor.tokens."
            )
        return self._images.reference(array.container.image)

    def _agent_of(self, array: Array) -> Agent:
        """Return who submits for the owner of an array, with that person's own token where people have one.

        Raises
        ------
        InputError
            The owner has no token.
        """
        if self._settings.tokens is None:
            return self._agent
        folder = self._settings.tokens / array.owner
        if not array.owner or not folder.is_dir() or not any(folder.iterdir()):
            raise InputError(
                f"The HTCondor pool does not know {array.owner or 'you'}: have the platform's administrator put a token of "
                f"yours into {folder}, or use another engine."
            )
        with self._lock:
            agent = self._agents.pop(array.owner, None)
            if agent is None:
                # Root's bindings read the system's folder instead.
                own = {TOKENS: str(folder), "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": str(folder)}
                agent = Agent({**self._environment, **own}, seconds=self._seconds)
            self._agents[array.owner] = agent
            # The one that was not used for longest; who uses it just now starts it again.
            idle = self._agents.popitem(last=False)[1] if len(self._agents) > AGENTS else None
        if idle is not None:
            idle.close()
        return agent

    def _act(self, array: Array, native: str, action: str, reason: str) -> None:
        told = self._agent_of(array).ask("act", action=action, cluster=int(native), reason=reason)
        if told["denied"]:
            raise UnavailableError(
                f"HTCondor does not let {array.owner} {action} this job, which belongs to somebody else there: the pool's "
                "administrator looks at whose token submitted it."
            )

    def _remove(self, array: Array, native: str) -> None:
        self._act(array, native, "cancel", "HTCondor can make no task of it")


def volumes_of(array: Array) -> dict[str, str]:
    """Return the mark by which nodes choose which volumes a task's container is given: those of its session, no others.

    The home is not among them.
    """
    if array.container is None:
        return {}
    inside = Path(VOLUMES_INSIDE)
    names = sorted(mount.target.name for mount in array.container.mounts if mount.target.parent == inside)
    # They are slugs: nothing in them needs quotes.
    return {f"MY.{VOLUMES}": f'"{",".join(names)}"'}


def _check_room(array: Array, machines: Sequence[Sequence[int]]) -> None:
    wanted = (array.cpus, array.memory_mib, array.gpus)
    if not machines or any(
        all(has >= wants for has, wants in zip(machine, wanted, strict=True)) for machine in machines
    ):
        return
    cpus, memory, gpus = max(tuple(machine) for machine in machines)
    asks, has = (f" and {number} GPUs" if array.gpus else "" for number in (array.gpus, gpus))
    raise LimitError(
        f"A task asks for {array.cpus} cores, {array.memory_mib:,} MiB{asks}, which no machine of the HTCondor pool has together; "
        f"the largest has {cpus} cores, {memory:,} MiB{has}: ask for less."
    )


def _states(array: Array, told: Mapping[str, Any]) -> dict[int, TaskState]:
    """Return the state of each task of a cluster that the schedd has.

    Parameters
    ----------
    array
        Its tasks, in the order of the procs.
    told
        ``procs`` (number, status, code of a hold), and of the factory ``next``, the first proc that is not made yet.
    """
    numbers = array.numbers
    made = len(numbers) if told["next"] is None else int(told["next"])
    # Made and no longer in the queue: it has ended.
    states = {
        task: TaskState.DONE if place < made else TaskState.QUEUED for place, task in enumerate(numbers)
    }
    for place, status, held in told["procs"]:
        if place < len(numbers):
            # What the pool holds by itself it removes in some seconds, see `describe`.
            lost = status == _HELD and held is not None and int(held) != OWN_HOLD
            states[numbers[place]] = TaskState.LOST if lost else _STATES.get(status, TaskState.DONE)
    return states


def _loss(ad: Mapping[str, Any], array: Array) -> Loss | None:
    """Return why a proc was lost, from its ad in the history; nothing where it ended by itself."""
    held = str(ad.get("HoldReason") or ad.get("LastHoldReason") or "").rstrip(".")
    code = ad.get("HoldReasonCode", ad.get("LastHoldReasonCode"))
    removed = str(ad.get("RemoveReason") or "").rstrip(".")
    if removed and held and code != OWN_HOLD:
        # Our own expression has removed what the pool held.
        return _loss_of_hold(held, ad, array)
    if removed:
        return Loss("Killed", f"It was removed from HTCondor: {removed}.")
    if ad.get("ExitBySignal"):
        # HTCondor has run it again as often as it was told to.
        return Loss("Killed", f"Its process was killed by signal {ad.get('ExitSignal')}.")
    return None


def _loss_of_hold(held: str, ad: Mapping[str, Any], array: Array) -> Loss:
    if held.startswith(OVER_TIME):
        return Loss(
            "TimeLimit",
            f"It ran longer than the {array.time_s} s it asked for: ask for more with time=... or give a task fewer inputs.",
        )
    if re.search(r"memory", held, re.IGNORECASE) and not re.search(r"disk", held, re.IGNORECASE):
        told = re.search(r"usage:? (\d+)", held)
        resident: int | None = ad.get("ResidentSetSize")
        used = int(told[1]) if told else round((resident or 0) / 1024)
        amount = f"{used:,} MiB" if used > array.memory_mib else "more memory"
        return Loss(
            "OutOfMemory",
            f"It used {amount} and had asked for {array.memory_mib:,}{'' if used > array.memory_mib else ' MiB'}: ask for more "
            "with memory=... or give it less data at a time.",
        )
    # Another machine may do better: an interpreter that is missing on one, a disk that is full there.
    return Loss("Killed", f"HTCondor held it: {held}.", again=True)
