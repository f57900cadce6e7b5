"""The embedded engine's supervisor of one job: ``python -m cupola.lab.pool FOLDER CORES [SHARE]``.

It is detached, so it survives the portal and the hub. It loads the user's function once and forks a process
per task: libraries are imported once for the whole job. Everything it knows it can read again from the job's
folder, so after ``kill -9`` the next one goes on where this one stood:

* ``control`` says what its owner wants: ``run``, ``hold`` or ``cancel``,
* ``at_once`` says how many tasks may run at a time, where that is another number than the plan's,
* ``results`` says which inputs are settled,
* ``pool.lock`` is locked by the living supervisor: a second one ends at once.

SIGTERM ends it without an end of the job (the platform stops; the job goes on later), except where
``control`` says ``cancel``.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from cupola.lab.jobs import processes
from cupola.lab.jobs.cores import Cores
from cupola.lab.jobs.failure import Failure
from cupola.lab.jobs.journal import WHOLE_JOB, Journal
from cupola.lab.task import (
    DiskFullError,
    Exit,
    Payload,
    Plan,
    load_payload,
    redirect_output,
    run_task,
    write_failure,
)

__all__ = ["Supervisor", "main"]

GRACE = 2.0
"""Seconds between asking a task to end and killing it."""
WATCH = 0.1
"""Seconds between two looks at memory and at what the owner wants."""
WATCH_GROUPS = 1.0
"""Seconds between two looks at the memory of what the tasks started themselves: that reads all of /proc."""
ALREADY_RUNNING = 3


@dataclass
class Running:
    """A task's process."""

    task: int
    cores: tuple[Path, ...]
    stopped: bool = False
    used: int = 0
    """Most memory seen, in bytes, with what the task started itself."""
    over_memory: int | None = None
    """What it used, in bytes, when it was killed for that."""


@dataclass
class Supervisor:
    """Runs the tasks of one job.

    Parameters
    ----------
    folder
        The job's folder.
    plan
        What to run.
    payload
        The function and its inputs.
    cores
        The machine's cores.
    journal
        Where events go.
    """

    folder: Path
    plan: Plan
    payload: Payload
    cores: Cores
    journal: Journal
    queue: deque[int] = field(default_factory=deque)
    running: dict[int, Running] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    """By input: how often its process was killed while it computed it."""
    runs: Counter[int] = field(default_factory=Counter)
    terminated: bool = False
    cancelled: bool = False
    broken: str | None = None
    """Why no task can run any more."""
    _at_once: int = 0
    _looked: float = 0.0
    _looked_at_groups: float = 0.0
    _alarm: int = -1

    def run(self) -> int:
        """Run until all tasks have ended, the owner cancels or the platform stops; return the exit code."""
        self._listen()
        self._begin()
        while self.queue or self.running:
            wish, self._at_once = self._wish(), self._most_at_once()
            self.cancelled = wish == "cancel"
            if self.terminated or self.broken or self.cancelled:
                return self._stop()
            if wish == "hold":
                self._hold()
            else:
                self._go_on()
                self._start_tasks()
            self._wait()
            self._reap()
            self._watch_memory()
        self.journal.end({"task": WHOLE_JOB, "state": "done", "attempt": self.plan.attempt})
        return 0

    def _listen(self) -> None:
        """Let ended tasks and SIGTERM wake the loop."""
        self._alarm, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)

    def _on_term(self, *_: object) -> None:
        self.terminated = True

    def _begin(self) -> None:
        """Find the tasks that have something left to do; the others are told as they are."""
        settled = {entry.name for entry in os.scandir(self.folder / "results")}
        events: list[dict[str, object]] = []
        for task in range(self.plan.tasks) if self.plan.only is None else self.plan.only:
            numbers = self.plan.task_inputs(task)
            if all(f"{number}.pkl" in settled or f"{number}.error" in settled for number in numbers):
                failed = any(f"{number}.pkl" not in settled for number in numbers)
                events.append({"task": task, "state": "failed" if failed else "done"})
            else:
                self.queue.append(task)
        self.journal.write(*events)

    def _wish(self) -> str:
        """Return what the owner wants."""
        try:
            return (self.folder / "control").read_text().strip()
        except FileNotFoundError:
            return "run"

    def _most_at_once(self) -> int:
        """Return how many tasks may run at a time: what all jobs of a person may use together changes while they run."""
        try:
            return int((self.folder / "at_once").read_text())
        except (FileNotFoundError, ValueError):
            return self.plan.at_once

    def _hold(self) -> None:
        """Freeze the running tasks where they are and give their cores to others."""
        self.cores.content()
        for pid, entry in self.running.items():
            if not entry.stopped:
                _signal_group(pid, signal.SIGSTOP)
                self.journal.write({"task": entry.task, "state": "held"})
                self.cores.give(entry.cores)
                entry.cores, entry.stopped = (), True

    def _go_on(self) -> None:
        """Let frozen tasks go on, as far as there are cores."""
        for pid, entry in self.running.items():
            if entry.stopped:
                if sum(not one.stopped for one in self.running.values()) >= self._at_once:
                    return
                self.cores.wish()
                cores = self.cores.take(self.plan.cpus)
                if cores is None:
                    return
                entry.cores, entry.stopped = cores, False
                _signal_group(pid, signal.SIGCONT)
                self.journal.write({"task": entry.task, "state": "running", "attempt": self.runs[entry.task]})

    def _start_tasks(self) -> None:
        while self.queue and len(self.running) < self._at_once:
            self.cores.wish()
            cores = self.cores.take(self.plan.cpus)
            if cores is None:
                return
            try:
                self._start(self.queue[0], cores)
            except OSError as error:  # no more processes allowed: later, perhaps
                sys.stderr.write(f"A task could not be started: {error}\n")
                self.cores.give(cores)
                return
            self.queue.popleft()
        if not any(entry.stopped for entry in self.running.values()):
            self.cores.content()

    def _start(self, task: int, cores: tuple[Path, ...]) -> None:
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_task(task, supervisor)
        os.setpgid(pid, pid)  # here and in the child: whoever comes first
        self.runs[task] += 1
        self.running[pid] = Running(task, cores)
        self.journal.write({"task": task, "state": "running", "attempt": self.runs[task]})

    def _be_task(self, task: int, supervisor: int) -> NoReturn:
        """Run a task in the forked child and end it."""
        code = 70
        try:
            processes.die_with_parent(supervisor)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # A lock would live as long as any process has its file open.
            self.cores.forget()
            self.journal.close()
            os.close(self._alarm)
            redirect_output(self.folder, task)
            _seed_anew()
            code = run_task(self.folder, self.plan, task, self.payload)
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - nothing may return into the supervisor's loop
            traceback.print_exc()
        finally:
            os._exit(code)

    def _wait(self) -> None:
        """Sleep until a task ends or it is time to look again."""
        waits_for_cores = bool(self.queue) and len(self.running) < self._at_once
        select.select([self._alarm], [], [], WATCH / 4 if waits_for_cores else WATCH)
        try:
            while os.read(self._alarm, 4096):
                pass
        except BlockingIOError:
            pass

    def _reap(self) -> None:
        """Settle the tasks whose process has ended."""
        while self.running:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            # While the process is not waited for, its group's number cannot be given to another.
            _signal_group(ended.si_pid, signal.SIGKILL)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            entry = self.running.pop(pid, None)
            if entry is not None:
                self.cores.give(entry.cores)
                self._settle(entry, os.waitstatus_to_exitcode(status), usage)

    def _settle(self, entry: Running, code: int, usage: Any) -> None:
        """Tell how a task ended; put it back in the queue where something is left to do."""
        event: dict[str, object] = {
            "task": entry.task,
            "peak_memory_mib": max(usage.ru_maxrss // 1024, entry.used >> 20),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "attempt": self.runs[entry.task],
            **({"signal": -code} if code < 0 else {"exit_code": code}),
        }
        left, failed = self._look_at(entry.task)
        if code == Exit.DISK_FULL:
            self.broken = "No space is left on the disk of the job's folder: free some and retry."
        elif left and not self.terminated:
            self._blame(entry, left[0], code)
            left, failed = self._look_at(entry.task)
            if left:
                self.queue.appendleft(entry.task)
        state = "failed" if failed else "done"
        if left:
            state = "cancelled" if self.cancelled else "lost"
        self.journal.write({**event, "state": state})

    def _look_at(self, task: int) -> tuple[list[int], bool]:
        """Return the inputs of `task` without an outcome, in order, and whether one has failed."""
        results = os.path.join(self.folder, "results")  # noqa: PTH118 - twice per input
        left, failed = [], False
        for number in self.plan.task_inputs(task):
            if os.path.exists(f"{results}/{number}.pkl"):  # noqa: PTH110
                continue
            if os.path.exists(f"{results}/{number}.error"):  # noqa: PTH110
                failed = True
            else:
                left.append(number)
        return left, failed

    def _blame(self, entry: Running, number: int, code: int) -> None:
        """Give up the input that was being computed when its process was killed, after its retries."""
        if entry.over_memory is not None:
            failure = Failure(
                "OutOfMemory",
                f"out of memory: used {entry.over_memory >> 20} of {self.plan.memory_mib} MiB; "
                "ask for more with memory=... or give it less data at a time",
            )
        else:
            self.losses[number] += 1
            if self.losses[number] <= self.plan.retries:
                return
            failure = Failure("Killed", _how_it_ended(code, self.losses[number]))
        try:
            write_failure(self.folder, failure, number=number, task=entry.task)
        except DiskFullError:
            self.broken = "No space is left on the disk of the job's folder: free some and retry."

    def _watch_memory(self) -> None:
        """Kill a task that uses more memory than it asked for."""
        now = time.monotonic()
        if now - self._looked < WATCH:
            return
        self._looked = now
        self.journal.flush()
        self.cores.charge()
        limit = self.plan.memory_mib << 20
        groups: dict[int, list[int]] = {}
        if now - self._looked_at_groups > WATCH_GROUPS:
            self._looked_at_groups = now
            groups = processes.members(set(self.running))
        for pid, entry in self.running.items():
            pids = groups.get(pid) or [pid]
            used = sum(processes.memory(one) for one in pids)
            if used > limit:
                # The quick figure counts shared pages several times.
                used = processes.group_memory(pids)
            entry.used = max(entry.used, used)
            if used > limit and entry.over_memory is None:
                entry.over_memory = used
                _signal_group(pid, signal.SIGKILL)

    def _stop(self) -> int:
        """End the running tasks, first asking; tell the end unless the job is to go on later."""
        for pid in self.running:
            _signal_group(pid, signal.SIGTERM)
            _signal_group(pid, signal.SIGCONT)
        self.terminated = True
        end = time.monotonic() + GRACE
        while self.running and time.monotonic() < end:
            self._wait()
            self._reap()
        for pid in self.running:
            _signal_group(pid, signal.SIGKILL)
        while self.running:
            self._wait()
            self._reap()
        processes.end_job_processes(self.plan.tag)
        if self.broken:
            self.journal.use_reserve()
            self.journal.end(
                {"task": WHOLE_JOB, "state": "failed", "attempt": self.plan.attempt, "message": self.broken}
            )
        elif self.cancelled:
            self.journal.end({"task": WHOLE_JOB, "state": "cancelled", "attempt": self.plan.attempt})
        else:
            # Not the job's fault: going on after this is not counted against it.
            self.journal.write({"task": WHOLE_JOB, "state": "lost", "attempt": self.plan.attempt})
        return 0


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass
    except PermissionError:  # something in it runs as somebody else (sudo): not ours to end
        pass


def _how_it_ended(code: int, times: int) -> str:
    how = f"ended by itself with exit code {code}"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += " (perhaps the machine ran out of memory)"
    often = "" if times == 1 else f", {times} times"
    return f"the process that computed this input {how}{often}: the task's log may say more"


def _seed_anew() -> None:
    """Give NumPy's global generator a state of its own: a fork copies it. Python's own does so by itself."""
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()


def _take_lock(folder: Path) -> bool:
    """Make this the only supervisor of the job, for as long as it lives."""
    # A POSIX lock is not inherited by forked tasks, so it ends with this process and not with the last of them.
    file = os.open(folder / "pool.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True


def _sign(folder: Path) -> None:
    """Write ``pool.json``: who supervises the job."""
    pid = os.getpid()
    born = processes.birth(pid)
    partial = folder / "pool.json.part"
    partial.write_text(json.dumps({"pid": pid, "created": processes.created(born or 0), "born": born}))
    partial.rename(folder / "pool.json")


def _sweep(folder: Path, tag: str) -> None:
    """End what a killed supervisor left behind, before anything is computed again."""
    if (folder / "events.jsonl").exists():
        processes.end_job_processes(tag)
        for entry in os.scandir(folder / "results"):
            # A power cut can leave an empty file under the final name.
            if entry.name.endswith(".part") or entry.stat().st_size == 0:
                Path(entry.path).unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Supervise the job in a folder until it has ended.

    Parameters
    ----------
    arguments
        The job's folder, the folder of the machine's cores (see `cupola.lab.jobs.cores`), and whose share it counts against.
    """
    match arguments:
        case [first, second, *rest] if len(rest) < 2:  # noqa: PLR2004
            folder, cores, share = Path(first), Path(second), rest[0] if rest else ""
        case _:
            sys.stderr.write("Say which job to run: python -m cupola.lab.pool FOLDER CORES [SHARE]\n")
            return 2
    os.chdir(folder)  # the portal's own folder may go away
    if not _take_lock(folder):
        return ALREADY_RUNNING
    _sign(folder)
    plan = Plan.read(folder)
    _sweep(folder, plan.tag)
    journal = Journal(folder)
    journal.write({"task": WHOLE_JOB, "state": "running", "attempt": plan.attempt})
    payload = load_payload(folder)
    # What is loaded now stays shared with the forked tasks: the collector must not write to it.
    gc.collect()
    gc.freeze()
    return Supervisor(folder, plan, payload, Cores(cores, plan.tag, share), journal).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
