"""Arrays on a Slurm cluster, by its own commands in their text form.

A task that is no longer in the queue has ended; what came of it the job's folder tells.
"""

from __future__ import annotations

import pwd
import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cupola.exceptions import InputError, LimitError, UnavailableError
from cupola.models.job import TaskState
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.slurm.describe import Person, name_of, parts, script, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cupola.config import SlurmSettings

__all__ = ["Slurm"]

SECONDS = 30.0
_RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED"}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SPECIAL_EXIT"}
_COLUMNS = {"ArrayJobID": 20, "ArrayTaskID": 20, "State": 20, "exit_code": 20, "Reason": 60, "Name": 80}
_ROW = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
"""As ``-O`` wants it: 22.05 has no letter for the exit code. Columns follow each other without a mark between them."""
_STUCK = re.compile(
    r"launch.failed|held.state|JobHoldMaxRequeue|BadConstraints|AccountNotAllowed", re.IGNORECASE
)
"""Why Slurm itself lets a task wait that will never start."""
_NO_LOG = 53
"""What stands in the place of a signal where the node could not open the task's log."""
_AGAIN = {
    "NODE_FAIL": "Its node failed.",
    "PREEMPTED": "A more urgent job took its place.",
    "BOOT_FAIL": "Its node did not start.",
}


@dataclass(frozen=True)
class _Row:
    """A task in Slurm's queue, or one that has left it some minutes ago at most."""

    native: str
    place: int
    state: str
    status: int
    """As ``wait`` returns it."""
    reason: str
    name: str
    """A controller that was killed may have forgotten a job, and gives its number to another one: number and name say whose it is."""

    @property
    def stuck(self) -> bool:
        """Whether Slurm keeps it and will never run it."""
        return self.state in _WAITING and bool(_STUCK.search(self.reason))

    @property
    def waits(self) -> bool:
        """Whether it will run."""
        return self.state in _WAITING and not self.stuck


class Slurm:
    """Runs arrays on a cluster.

    Parameters
    ----------
    environment
        What the commands find: ``PATH``, and ``SLURM_CONF`` where it is not the host's own.
    settings
        What the operator says.
    """

    supervised: ClassVar[bool] = False

    def __init__(self, environment: Mapping[str, str], *, settings: SlurmSettings) -> None:
        self._environment = dict(environment)
        self._settings = settings

    def capacity(self) -> Capacity:
        """Return the cores of the cluster, and the most that one of its nodes has."""
        nodes = self._nodes()
        return Capacity(
            cores=sum(node.cores for node in nodes),
            memory_mib=max((node.memory_mib for node in nodes), default=0),
            widest=max((node.cores for node in nodes), default=0),
            free_cores=sum(node.free for node in nodes),
            gpus=max((node.gpus for node in nodes), default=0),
        )

    def submit(self, array: Array) -> str:
        """Start an array; one that is longer than Slurm takes becomes several.

        Raises
        ------
        InputError
            Its tasks would need containers, or an account that is not there.
        LimitError
            No node is large enough for a task.
        UnavailableError
            Slurm does not answer, or refuses.
        """
        if array.container is not None:
            raise InputError(
                "Sessions are containers here, which tasks on Slurm cannot have: use another engine, such as engine='local'."
            )
        _check_room(array, self._nodes())
        person = _person(array) if self._settings.as_person else None
        made = []
        for part in parts(array, most=self._longest):
            command = words(
                array,
                part,
                account=self._settings.account,
                person=person,
                extra=self._settings.options,
            )
            try:
                made.append(self._run(*command, said=script(array, part)).strip().split(";")[0])
            except UnavailableError:
                # Some of its parts alone are of no use: whoever asked is told that nothing was started.
                if made:
                    self._run("scancel", "--quiet", *made, gone=True)
                raise
        return "+".join(made)

    def find(self, array: Array) -> str | None:
        """Return the arrays of a submit whose row does not know them."""
        rows = self._run("squeue", "-h", "--states=all", f"--name={name_of(array)}", "--format=%F").split()
        return "+".join(sorted(set(rows), key=int)) or None

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the states of all tasks of the arrays that are in the queue, with one command for all."""
        queue: dict[tuple[str, str], dict[int, TaskState]] = {}
        lost: dict[tuple[str, str], dict[int, TaskState]] = {}
        for row in self._rows("squeue", "-h", "--array", f"--Format={_ROW}"):
            key = row.name, row.native
            if row.stuck:
                lost.setdefault(key, {})[row.place] = TaskState.LOST
            elif row.waits or row.state in _RUNNING:
                state = TaskState.QUEUED if row.waits else TaskState.RUNNING
                queue.setdefault(key, {})[row.place] = state
        found = {}
        for array, native in arrays:
            keys = {one: (name_of(array), one) for one in native.split("+")}
            # What only waits and will never run has ended: `losses` clears it away.
            if any(key in queue for key in keys.values()):
                both = {one: {**lost.get(key, {}), **queue.get(key, {})} for one, key in keys.items()}
                found[array.tag] = self._states(array, native, both)
        return found

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Hold, release or cancel; one that has ended is no error. Tasks that run are not held, they are let end."""
        JobFolder(array.folder).want(wish)
        for one in self._own(array, native):
            command = {
                Control.HOLD: ["scontrol", "hold", one],
                Control.RUN: ["scontrol", "release", one],
                Control.CANCEL: ["scancel", "--quiet", one],
            }[wish]
            self._run(*command, gone=True)

    def throttle(self, array: Array, native: str, at_once: int) -> None:
        """Let at most `at_once` tasks run at a time from now on; those that run already are let end."""
        for one in self._own(array, native):
            self._run("scontrol", "update", f"JobId={one}", f"ArrayTaskThrottle={at_once}", gone=True)

    def _own(self, array: Array, native: str) -> list[str]:
        """Return the arrays of a job that Slurm still knows as that job's."""
        known = set((self.find(array) or "").split("+")) if native else set()
        return [one for one in native.split("+") if one in known]

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed; what its interpreter said before, where it did not come so far."""
        folder = JobFolder(array.folder)
        return folder.log(task) or folder.words("log/slurm.out")

    def last_words(self, array: Array) -> str:
        """Return nothing: `losses` tells it for each task."""
        del array
        return ""

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return why tasks ended that were killed, by task, as long as Slurm remembers them."""
        lost: dict[int, Loss] = {}
        starts = self._starts(array, native)
        stuck: set[str] = set()
        for row in self._rows("squeue", "-h", "--array", "--states=all", f"--Format={_ROW}"):
            if row.native not in starts or row.name != name_of(array):
                continue
            if row.stuck:
                stuck.add(f"{row.native}_{row.place}")
            loss = _loss(row, array)
            if loss is not None:
                lost[array.numbers[starts[row.native] + row.place]] = loss
        if stuck:
            self._run("scancel", "--quiet", *sorted(stuck), gone=True)
        return lost

    def ahead(self, array: Array, native: str) -> int | None:
        """Return how many tasks have a higher priority than the first one of this array that waits."""
        del array
        own = set(native.split("+"))
        waiting = self._run(
            "squeue", "-h", "--array", "--states=PENDING", "--sort=-p,i", "--format=%F"
        ).split()
        if not own.intersection(waiting):
            return 0
        return next(place for place, one in enumerate(waiting) if one in own)

    def _states(
        self, array: Array, native: str, queue: Mapping[str, Mapping[int, TaskState]]
    ) -> dict[int, TaskState]:
        states = dict.fromkeys(array.numbers, TaskState.DONE)
        for one, start in self._starts(array, native).items():
            for place, state in queue.get(one, {}).items():
                states[array.numbers[start + place]] = state
        return states

    def _starts(self, array: Array, native: str) -> dict[str, int]:
        """Return the place of the first task of each of its arrays."""
        begins = (part.start for part in parts(array, most=self._longest))
        return dict(zip(native.split("+"), begins, strict=False))

    def _rows(self, *command: str) -> Iterator[_Row]:
        for line in self._run(*command).splitlines():
            told, begin = {}, 0
            for name, width in _COLUMNS.items():
                told[name] = line[begin : begin + width].strip()
                begin += width
            if told["ArrayTaskID"].isdigit():
                status = told["exit_code"]
                yield _Row(
                    told["ArrayJobID"],
                    int(told["ArrayTaskID"]),
                    told["State"],
                    int(status) if status.isdigit() else 0,
                    told["Reason"],
                    told["Name"],
                )

    def _nodes(self) -> list[_Node]:
        """Return the nodes that are not down, of the partition that the operator names."""
        chosen = [word for word in self._settings.options if word.startswith(("--partition=", "-p"))]
        rows = self._run("sinfo", "-h", "-N", "-r", *chosen, "-o", "%N|%c|%m|%C|%G").splitlines()
        # A node is listed once for each of its partitions.
        return list({node.name: node for node in map(_node, rows)}.values())

    @cached_property
    def _longest(self) -> int:
        """The most tasks of an array: their numbers must stay below ``MaxArraySize``."""
        told = re.search(r"^MaxArraySize\s*=\s*(\d+)", self._run("scontrol", "show", "config"), re.MULTILINE)
        return int(told[1]) if told else 1001

    def _run(self, *command: str, said: str = "", gone: bool = False) -> str:
        """Run a command of Slurm and return what it printed.

        Raises
        ------
        UnavailableError
            It is not there, does not answer or refuses; with `gone`, a job that has ended is none of these.
        """
        config = self._environment.get("SLURM_CONF")
        if config is not None and not Path(config).is_file():
            raise UnavailableError(
                f"Slurm's configuration {config} is not there: the platform's administrator mends engines.slurm.config."
            )
        try:
            done = subprocess.run(
                command,
                input=said,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise UnavailableError(
                f"Slurm's command {command[0]} is not on the platform's path: its administrator sets engines.slurm.programs."
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            why = f"no answer in {SECONDS:g} s" if isinstance(error, subprocess.TimeoutExpired) else error
            raise UnavailableError(
                f"Slurm does not answer ({command[0]}: {why}): try again in a minute; its administrator finds the cause in "
                "slurmctld's log."
            ) from error
        if done.returncode and not (
            gone and re.search(r"[Ii]nvalid job id|already (?:completed|finished)", done.stderr)
        ):
            raise UnavailableError(self._sentence(command[0], done.stderr))
        return done.stdout

    @staticmethod
    def _sentence(command: str, error: str) -> str:
        reason = " ".join(re.sub(rf"{command}(-wlm)?: (error: )?", "", error).split())[:300].rstrip(".")
        if re.search(r"DNS SRV lookup failed|Could not establish a configuration source", error):
            return "Slurm's configuration is not on this host: the platform's administrator sets engines.slurm.config."
        if re.search(r"[Uu]nable to contact|[Cc]onnection refused|timed out|[Mm]unge|Zero Bytes", error):
            return (
                f"Slurm does not answer ({reason}): try again in a minute; its administrator looks whether slurmctld and munged "
                "run."
            )
        return f"Slurm refuses to run {command} ({reason}): its administrator can tell why."


@dataclass(frozen=True)
class _Node:
    name: str
    cores: int
    memory_mib: int
    free: int
    gpus: int


def _node(row: str) -> _Node:
    """Read a line of ``sinfo``: name, cores, memory, cores as allocated/idle/other/all, and further resources."""
    name, cores, memory, usage, more = row.split("|")
    # As in gpu:2 or gpu:a100:4(S:0-1), several with commas between them.
    gpus = sum(int(number) for number in re.findall(r"(?:^|,)gpu:(?:[^:,(]+:)?(\d+)", more))
    return _Node(name, int(cores), int(memory.rstrip("+")), int(usage.split("/")[1]), gpus)


def _check_room(array: Array, nodes: Sequence[_Node]) -> None:
    if not nodes or any(
        node.cores >= array.cpus and node.memory_mib >= array.memory_mib and node.gpus >= array.gpus
        for node in nodes
    ):
        return
    largest = max(nodes, key=lambda node: (node.cores, node.memory_mib))
    asks, has = (f" and {number} GPUs" if array.gpus else "" for number in (array.gpus, largest.gpus))
    raise LimitError(
        f"A task asks for {array.cpus} cores, {array.memory_mib:,} MiB{asks}, which no node of the Slurm cluster has together; the "
        f"largest has {largest.cores} cores, {largest.memory_mib:,} MiB{has}: ask for less."
    )


def _person(array: Array) -> Person:
    """Return the account that tasks run as; refuse what would run as nobody, or as root."""
    try:
        account = pwd.getpwnam(array.owner)
    except KeyError:
        account = None
    if account is None or account.pw_uid == 0:
        raise InputError(
            f"The Slurm cluster has no account {array.owner!r} for your tasks: have the platform's administrator make one, or "
            "use another engine."
        )
    return Person(account.pw_uid, account.pw_gid)


def _loss(row: _Row, array: Array) -> Loss | None:
    """Return why a task was lost; nothing for one that waits, runs or ended by itself."""
    if row.stuck:
        return Loss("Killed", f"Slurm does not start it ({row.reason}).", again=True)
    if row.waits or row.state in _RUNNING | {"COMPLETED"}:
        return None
    if row.state == "FAILED":
        return _loss_of_failed(row)
    asked = "its time" if array.time_s is None else f"the {array.time_s} s it asked for"
    too_long = Loss(
        "TimeLimit", f"It ran longer than {asked}: ask for more with time=... or give a task fewer inputs."
    )
    known = {
        "OUT_OF_MEMORY": Loss(
            "OutOfMemory",
            f"It used more memory than the {array.memory_mib:,} MiB it asked for: ask for more with memory=... or give it less "
            "data at a time.",
        ),
        "TIMEOUT": too_long,
        "DEADLINE": too_long,
        "CANCELLED": Loss("Killed", "Somebody cancelled it at Slurm."),
        **{state: Loss("Killed", why, again=True) for state, why in _AGAIN.items()},
    }
    return known.get(row.state, Loss("Killed", f"Slurm ended it ({row.state}: {row.reason})."))


def _loss_of_failed(row: _Row) -> Loss | None:
    """Return why a task failed; nothing for one that ended by itself, which tells in its results what failed."""
    number = row.status & 127
    if number == _NO_LOG:
        return Loss("Killed", "Its node could not write into the home of its owner.", again=True)
    return Loss("Killed", f"Its process was killed by signal {number}.", again=True) if number else None
