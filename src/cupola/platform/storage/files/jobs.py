"""The folder of a job: what was written for the tasks, and what they wrote.

The portal reads plain text and JSON here; the user's pickles it only passes on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from cupola.exceptions import InputError, LimitError
from cupola.models.job import TaskEvent, TaskFailure, TaskPlan, TaskUsage
from cupola.platform.storage.files.beneath import Beneath

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path

__all__ = ["EventReader", "JobFolder", "Settled", "end_of_text"]

LONGEST_LOG = 2**20
"""Bytes of a log that are shown: the end, which says most."""
LONGEST_NEWS = 2**24
"""Bytes of events that are read at a time."""
_SHORT = 100


class Settled:
    """Which inputs have a result and which have failed, at one moment."""

    def __init__(self, done: set[int], failed: set[int]) -> None:
        self.done = done
        self.failed = failed - done
        """An old failure beside a result counts no more."""


class JobFolder:
    """One job's folder, in the home of its owner: nothing in it is believed, and no link in it followed.

    Parameters
    ----------
    path
        Where it is: ``HOMES/PERSON/.cupola/jobs/ID``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The homes' folder is the platform's; from the home on, all belongs to the person.
        self._files = Beneath(path.parents[3], PurePosixPath(*path.parts[-4:]))

    def write(self, plan: TaskPlan, payload: bytes, labels: list[str]) -> None:
        """Write all that the tasks need; nothing is left where that fails.

        Raises
        ------
        LimitError
            No space is left.
        InputError
            The home does not allow to write.
        """
        try:
            self.path.parents[3].mkdir(parents=True, exist_ok=True)
            self._files.make("results", "log", "usage")
            self._files.write("payload.pkl", payload)
            self._files.write("labels.json", json.dumps(labels, ensure_ascii=False).encode())
            self._files.write("control", b"run")
            self.write_plan(plan)  # the last: a folder that has it is whole
        except OSError as error:
            self.delete()
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise LimitError(
                    "No space is left on the disk of your home: free some, then start the job again."
                ) from error
            raise InputError(f"The job could not be written to your home ({error.strerror}).") from error

    def write_plan(self, plan: TaskPlan) -> None:
        """Replace ``job.json``."""
        self._files.write("job.json", plan.model_dump_json().encode())

    def plan(self) -> TaskPlan | None:
        """Return the plan, or nothing where the folder is not whole."""
        try:
            return TaskPlan.model_validate_json(self._files.read("job.json"))
        except (OSError, ValidationError):
            return None

    def control(self) -> str:
        """Return what the owner wants."""
        try:
            return self._files.read("control", longest=_SHORT).decode(errors="replace").strip()
        except OSError:
            return "run"

    def want(self, wish: str) -> None:
        """Write down what the owner wants."""
        self._files.write("control", wish.encode())

    def let_run(self, at_once: int) -> None:
        """Write down how many tasks may run at a time, for a supervisor."""
        self._files.write("at_once", str(at_once).encode())

    def changed(self, folder: str) -> int:
        """Return a number that changes with each new file of ``results`` or ``usage``."""
        try:
            return self._files.status(folder).st_mtime_ns
        except OSError:
            return 0

    def settled(self) -> Settled:
        """Look which inputs have a result and which have failed."""
        done: set[int] = set()
        failed: set[int] = set()
        try:
            for entry in self._files.names("results"):
                name, _, kind = entry.partition(".")
                if kind == "pkl":
                    done.add(int(name))
                elif kind == "error":
                    failed.add(int(name))
        except (OSError, ValueError):  # deleted by hand, or something foreign in it
            return Settled(done, failed)
        return Settled(done, failed)

    def result(self, number: int) -> BinaryIO | None:
        """Open the file with the result of an input; nothing where there is none."""
        try:
            return self._files.open(f"results/{number}.pkl")
        except OSError:
            return None

    def failure(self, number: int) -> TaskFailure | None:
        """Return why an input failed."""
        try:
            return TaskFailure.model_validate_json(
                self._files.read(f"results/{number}.error", longest=LONGEST_LOG)
            )
        except (OSError, ValidationError):
            return None

    def write_failure(self, failure: TaskFailure) -> None:
        """Write down why an input failed whose process cannot tell it any more; a result that came meanwhile wins."""
        self._files.write(f"results/{failure.input}.error", failure.model_dump_json().encode())

    def labels(self) -> list[str]:
        """Return the short text of each input; none where they were removed."""
        try:
            return [str(label) for label in json.loads(self._files.read("labels.json"))]
        except (OSError, ValueError):
            return []

    def usages(self, known: Container[str]) -> Iterator[tuple[str, TaskUsage]]:
        """Yield what tasks used, each with the name of its file, but not those that are known."""
        try:
            names = [
                name for name in self._files.names("usage") if name.endswith(".json") and name not in known
            ]
        except OSError:
            return
        for name in names:
            with contextlib.suppress(OSError, ValidationError):
                yield (
                    name,
                    TaskUsage.model_validate_json(self._files.read(f"usage/{name}", longest=LONGEST_LOG)),
                )

    def set_failures_aside(self, attempt: int) -> None:
        """Put the failures of a submit away, so that their inputs count as not tried."""
        failures = [name for name in self._files.names("results") if name.endswith(".error")]
        self._files.move(failures, "results", f"failures/{attempt}")

    def space_left(self) -> bool:
        """Say whether the disk has room for anything at all."""
        try:
            return self._files.free_bytes() > LONGEST_LOG
        except OSError:
            return True

    def events(self, start: int) -> bytes:
        """Return what was added to ``events.jsonl`` after its first `start` bytes."""
        try:
            if self._files.status("events.jsonl").st_size == start:
                return b""
            return self._files.read("events.jsonl", start=start, longest=LONGEST_NEWS)
        except OSError:
            return b""

    def log(self, task: int | str) -> str:
        """Return the last part of what a task (or, as ``pool``, the engine's side) printed."""
        return self.words(f"log/{task}.out")

    def words(self, name: str) -> str:
        """Return the last part of a text file of the folder; an absent one is empty."""
        try:
            with self._files.open(name) as file:
                return _end(file, LONGEST_LOG)
        except OSError:
            return ""

    def signature(self) -> bytes:
        """Return what the engine's supervisor of this job wrote about itself; empty where there is none."""
        try:
            return self._files.read("pool.json", longest=LONGEST_LOG)
        except OSError:
            return b""

    def delete(self) -> None:
        """Remove the folder with all results."""
        self._files.remove()


def end_of_text(path: Path, *, longest: int = LONGEST_LOG) -> str:
    """Return the last part of a text file of the platform's own; an absent one is empty."""
    try:
        with path.open("rb") as file:
            return _end(file, longest)
    except OSError:
        return ""


def _end(file: BinaryIO, longest: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - longest))
    text = file.read(longest).decode(errors="replace")
    return f"[... the first {size - longest} bytes are left out ...]\n{text}" if size > longest else text


class EventReader:
    """Reads ``events.jsonl`` as it grows: each line once."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._read = 0
        self._rest = b""

    def news(self) -> Iterator[TaskEvent]:
        """Yield the events that were written since the last call; a line that is not whole waits."""
        data = self._folder.events(self._read)
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                yield TaskEvent.model_validate_json(line)
            except ValidationError:  # torn by kill -9 in the middle of a write
                continue
