"""The folder of a job: what was written for the tasks, and what they wrote.

The portal reads plain text and JSON here; the user's pickles it only passes on.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cupola.exceptions import InputError, LimitError
from cupola.models.job import TaskEvent, TaskFailure, TaskPlan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["EventReader", "JobFolder", "Settled", "end_of_text"]

LONGEST_LOG = 2**20
"""Bytes of a log that are shown: the end, which says most."""


class Settled:
    """Which inputs have a result and which have failed, at one moment."""

    def __init__(self, done: set[int], failed: set[int]) -> None:
        self.done = done
        self.failed = failed - done
        """An old failure beside a result counts no more."""


class JobFolder:
    """One job's folder.

    Parameters
    ----------
    path
        Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._results = path / "results"

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
            for folder in (self._results, self.path / "log"):
                folder.mkdir(parents=True, mode=0o700)
            (self.path / "payload.pkl").write_bytes(payload)
            (self.path / "labels.json").write_text(json.dumps(labels, ensure_ascii=False))
            (self.path / "control").write_text("run")
            self.write_plan(plan)  # the last: a folder that has it is whole
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise LimitError(
                    "No space is left on the disk of your home: free some, then start the job again."
                ) from error
            raise InputError(f"The job could not be written to your home ({error.strerror}).") from error

    def write_plan(self, plan: TaskPlan) -> None:
        """Replace ``job.json``."""
        partial = self.path / "job.json.part"
        partial.write_text(plan.model_dump_json())
        partial.replace(self.path / "job.json")

    def plan(self) -> TaskPlan | None:
        """Return the plan, or nothing where the folder is not whole."""
        try:
            return TaskPlan.model_validate_json((self.path / "job.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def control(self) -> str:
        """Return what the owner wants."""
        try:
            return (self.path / "control").read_text().strip()
        except OSError:
            return "run"

    def want_to_run(self) -> None:
        """Forget that the owner cancelled the submit before."""
        (self.path / "control").write_text("run")

    def results_changed(self) -> int:
        """Return a number that changes with each new result."""
        try:
            return self._results.stat().st_mtime_ns
        except OSError:
            return 0

    def settled(self) -> Settled:
        """Look which inputs have a result and which have failed."""
        done: set[int] = set()
        failed: set[int] = set()
        try:
            with os.scandir(self._results) as entries:
                for entry in entries:
                    name, _, kind = entry.name.partition(".")
                    if kind == "pkl":
                        done.add(int(name))
                    elif kind == "error":
                        failed.add(int(name))
        except (OSError, ValueError):  # deleted by hand, or something foreign in it
            return Settled(done, failed)
        return Settled(done, failed)

    def result(self, number: int) -> Path:
        """Return the file with the result of an input."""
        return self._results / f"{number}.pkl"

    def failure(self, number: int) -> TaskFailure | None:
        """Return why an input failed."""
        try:
            return TaskFailure.model_validate_json((self._results / f"{number}.error").read_bytes())
        except (OSError, ValidationError):
            return None

    def set_failures_aside(self, attempt: int) -> None:
        """Put the failures of a submit away, so that their inputs count as not tried."""
        aside = self.path / "failures" / str(attempt)
        aside.mkdir(parents=True, exist_ok=True)
        for file in self._results.glob("*.error"):
            file.replace(aside / file.name)

    def space_left(self) -> bool:
        """Say whether the disk has room for anything at all."""
        try:
            return shutil.disk_usage(self.path).free > LONGEST_LOG
        except OSError:
            return True

    def delete(self) -> None:
        """Remove the folder with all results."""
        shutil.rmtree(self.path, ignore_errors=True)


def end_of_text(path: Path, *, longest: int = LONGEST_LOG) -> str:
    """Return the last part of a text file; an absent one is empty."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - longest))
            text = file.read(longest).decode(errors="replace")
    except OSError:
        return ""
    return f"[... the first {size - longest} bytes are left out ...]\n{text}" if size > longest else text


class EventReader:
    """Reads ``events.jsonl`` as it grows: each line once."""

    def __init__(self, folder: JobFolder) -> None:
        self._path = folder.path / "events.jsonl"
        self._read = 0
        self._rest = b""

    def news(self) -> Iterator[TaskEvent]:
        """Yield the events that were written since the last call; a line that is not whole waits."""
        try:
            if self._path.stat().st_size == self._read:
                return
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                yield TaskEvent.model_validate_json(line)
            except ValidationError:  # torn by kill -9 in the middle of a write
                continue
