"""Failures of a job by their cause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cupola.models.job import TaskFailureGroup

if TYPE_CHECKING:
    from cupola.models.job import TaskFailure
    from cupola.platform.storage.files.jobs import JobFolder

__all__ = ["MOST_INPUTS_TOLD", "Failures"]

MOST_INPUTS_TOLD = 1000


class Failures:
    """Failures by their cause: each file is read once, however often one looks.

    Parameters
    ----------
    folder
        The job's folder.
    """

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._causes: dict[int, tuple[str, str]] = {}
        self._examples: dict[tuple[str, str], TaskFailure] = {}
        self._lock = threading.Lock()

    def groups(self, failed: set[int]) -> list[TaskFailureGroup]:
        """Put failures together that have the same error at the same line, the most frequent first.

        Parameters
        ----------
        failed
            The inputs that failed.
        """
        with self._lock:
            for number in self._causes.keys() - failed:
                del self._causes[number]
            self._examples = {
                cause: example for cause, example in self._examples.items() if example.input in self._causes
            }
            for number in sorted(failed - self._causes.keys()):
                failure = self._folder.failure(number)
                if failure is not None:  # else taken away by a retry at this moment
                    self._causes[number] = failure.error, failure.line
                    self._examples.setdefault(self._causes[number], failure)
            inputs: dict[tuple[str, str], list[int]] = {}
            for number in sorted(self._causes):
                inputs.setdefault(self._causes[number], []).append(number)
            found = [self._group(cause, numbers) for cause, numbers in inputs.items()]
        return sorted((group for group in found if group is not None), key=lambda group: -group.count)

    def _group(self, cause: tuple[str, str], numbers: list[int]) -> TaskFailureGroup | None:
        example = self._examples.get(cause) or self._folder.failure(numbers[0])
        if example is None:
            return None
        self._examples[cause] = example
        return TaskFailureGroup(
            error=cause[0],
            line=cause[1],
            example=example,
            inputs=numbers[:MOST_INPUTS_TOLD],
            count=len(numbers),
        )
