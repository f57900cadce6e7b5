"""A job in a notebook: its state, its results, what went wrong, its panel."""

from __future__ import annotations

import pickle
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from cupola.exceptions import (
    ConflictError,
    CupolaError,
    InputError,
    NotFoundError,
    TaskError,
    UnavailableError,
)
from cupola.lab.jobs.resources import JobResources
from cupola.models.job import Job as JobModel
from cupola.models.job import JobAction, JobCounts, JobState, TaskFailure, TaskFailureGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cupola.client import Client
    from cupola.lab.collections import Collection

__all__ = ["Job"]

SOONEST, LATEST = 0.02, 0.5
"""Seconds between two looks while waiting."""
PATIENCE = 120.0
"""Seconds for which a portal that does not answer (it may be restarted) does not end the waiting."""


class Job:
    """One job: a function over many inputs, run by a batch engine.

    Made by `cupola.map`, `Chain.run`, `cupola.job` and `cupola.jobs`. Show it in a notebook for the live panel.

    Parameters
    ----------
    state
        The job as the portal knows it.
    client
        For the portal.
    """

    def __init__(self, state: JobModel, client: Client) -> None:
        self._state = state
        self._client = client
        self._panel: Any = None
        self._products: Collection | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self._state.id

    @property
    def name(self) -> str:
        """The job's name, for people."""
        return self._state.name

    @property
    def folder(self) -> Path:
        """The job's folder in your home: results, logs, the payload."""
        return self._state.folder

    @property
    def state(self) -> JobState:
        """Where the job is now.

        Raises
        ------
        UnavailableError
            The portal does not answer.
        """
        return self.refresh().state

    @property
    def counts(self) -> JobCounts:
        """How many inputs are done, failed and running now.

        Raises
        ------
        UnavailableError
            The portal does not answer.
        """
        return self.refresh().counts

    @property
    def reason(self) -> str | None:
        """Why it failed or was cancelled, in a sentence."""
        return self.refresh().reason

    @property
    def core_hours(self) -> float:
        """What its tasks have used so far: cores asked for times hours of the clock."""
        return self.refresh().core_hours

    @property
    def resources(self) -> JobResources:
        """What was asked for against what was used, with hints for the next time."""
        return JobResources.of(self.refresh(), self._client.job_grid(self.id))

    def refresh(self) -> JobModel:
        """Ask the portal and return all it knows of the job."""
        self._state = self._client.job(self.id)
        return self._state

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Job:
        """Wait for the end of the job; returns itself.

        Parameters
        ----------
        timeout
            Seconds; for ever where nothing is said. When they have passed the job runs on.
        progress
            Whether to show a line that tells how far it is.

        Raises
        ------
        TimeoutError
            The job has not ended in time.
        UnavailableError
            The portal did not answer for two minutes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = SOONEST
        line = _Line() if progress else None
        try:
            while True:
                state = self._refresh_patiently()
                if line is not None:
                    line.show(str(self._told(state)))
                if not state.state.active:
                    return self
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError(
                        f"The job {self.name!r} has not ended after {timeout:g} s; it runs on."
                    )
                time.sleep(pause)
                pause = min(LATEST, pause * 1.2)
        finally:
            if line is not None:
                line.end()

    def results(self, errors: Literal["raise", "skip", "return"] = "raise") -> Iterator[Any]:
        """Yield the results in the order of the inputs, each as soon as it is there.

        Parameters
        ----------
        errors
            What a failed input gives: ``raise`` its `TaskError`, ``skip`` it, or ``return`` the error in its place.

        Raises
        ------
        TaskError
            An input failed, or was not computed because the job was cancelled.
        """
        if errors not in {"raise", "skip", "return"}:
            raise InputError(f"errors={errors!r} is not known: use 'raise', 'skip' or 'return'.")
        for number in range(self._state.counts.inputs):
            try:
                yield self._result_when_ready(number)
            except TaskError as error:
                if errors == "raise":
                    raise
                if errors == "return":
                    yield error

    def result(self, number: int) -> Any:
        """Return the result of one input; waits until it is there.

        Parameters
        ----------
        number
            Of the input, counted from 0.

        Raises
        ------
        TaskError
            The input failed; the text is the traceback.
        InputError
            There is no such input.
        """
        self._check(number)
        return self._result_when_ready(number)

    def failures(self) -> list[TaskFailureGroup]:
        """Return why inputs failed, alike ones together, the most frequent first."""
        return self._client.job_failures(self.id)

    def logs(self, number: int) -> str:
        """Return what the task printed that computes (or computed) an input.

        Parameters
        ----------
        number
            Of the input. Where a task takes several inputs, the text is of all of them.
        """
        self._check(number)
        # The portal knows which task that is: tasks may be cut anew while a job runs.
        return self._client.job_input_log(self.id, number)

    def cancel(self) -> Job:
        """End the job; results that are there stay. Returns itself."""
        return self._act(JobAction.CANCEL)

    def hold(self) -> Job:
        """Freeze the job until `release`; its cores go to others. Returns itself."""
        return self._act(JobAction.HOLD)

    def release(self) -> Job:
        """Let a held job go on. Returns itself."""
        return self._act(JobAction.RELEASE)

    def retry(self) -> Job:
        """Run the inputs again that failed or were cancelled; results that are there stay. Returns itself."""
        return self._act(JobAction.RETRY)

    def delete(self) -> None:
        """Forget an ended job and remove its results; products stay."""
        self._client.delete_job(self.id)

    @property
    def products(self) -> Collection:
        """The products written so far, as a collection; look again for newer ones.

        Raises
        ------
        InputError
            This job writes none.
        """
        if self._state.products is None:
            raise InputError(f"The job {self.name!r} writes no products: its results are in job.results().")
        if self._products is None:
            from cupola.lab import collections

            self._products = collections.open(self._state.products)
        return self._products.refresh()

    @override
    def __repr__(self) -> str:
        try:
            return str(self._told(self.refresh()))
        except CupolaError as error:
            return f"{self._told(self._state)} (as last seen: {error})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """Show the panel; what cannot show it (a terminal, a page on the web) shows the text."""
        text = {"text/plain": repr(self)}
        if "ipykernel" not in sys.modules:
            return text
        if self._panel is None:
            from cupola.lab.jobs.panel import panel

            self._panel = panel(self._state)
        shown = self._panel._repr_mimebundle_(include=include, exclude=exclude)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})
        return {**data, **text}, metadata

    def _act(self, action: JobAction) -> Job:
        self._state = self._client.act(self.id, action)
        return self

    def _check(self, number: object) -> None:
        inputs = self._state.counts.inputs
        if not isinstance(number, int) or not 0 <= number < inputs:
            raise InputError(f"The job {self.name!r} has inputs 0 to {inputs - 1}, and no input {number!r}.")

    def _told(self, state: JobModel) -> str:
        counts = state.counts
        text = f"Job {state.name!r} ({state.id}): {state.state}, {counts.done:,} of {counts.inputs:,} inputs done"
        if counts.failed:
            text += f", {counts.failed:,} failed"
        told = " ".join(filter(None, (state.reason, state.waits)))
        return f"{text}. {told}" if told else text

    def _refresh_patiently(self) -> JobModel:
        """Ask the portal; bear with one that is being restarted."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.refresh()
            except UnavailableError:
                if time.monotonic() > end:
                    raise
                time.sleep(LATEST)

    def _result_when_ready(self, number: int) -> Any:
        """Return a result; ask the portal only whether to go on waiting where the folder lies in this home."""
        results = self.folder / "results"
        here = results.is_dir()
        pause = SOONEST / 4
        asked = time.monotonic()
        ended = not self._state.state.active
        while True:
            data = _read(results / f"{number}.pkl") if here else self._fetched(number)
            if data is not None:
                return self._load(number, data)
            if ended:
                raise self._why_not(number)
            if (failure := _failure(results / f"{number}.error")) is not None:
                raise _task_error(failure)
            time.sleep(pause)
            pause = min(pause * 1.3, LATEST / 5)
            if time.monotonic() - asked > LATEST:
                # Look once more after the end was seen: the result may have come in between.
                ended = not self._refresh_patiently().state.active
                asked = time.monotonic()

    def _fetched(self, number: int) -> bytes | None:
        """Ask the portal for a result: this is not the machine of the session."""
        try:
            return self._client.job_result(self.id, number)
        except NotFoundError:
            return None
        except ConflictError as error:  # it says what failed
            raise self._fetched_error(number, str(error)) from None

    def _fetched_error(self, number: int, said: str) -> TaskError:
        """Return the failure of an input with its traceback, or with that of one which failed alike."""
        for group in self.failures():
            if group.example.input == number:
                return _task_error(group.example)
            if number in group.inputs and group.example.traceback:
                return TaskError(
                    f"{said}\n\nInput {group.example.input} failed alike:\n\n{group.example.traceback}"
                )
        return TaskError(said)

    def _why_not(self, number: int) -> TaskError:
        """Return why an input has no result after the end of the job."""
        failure = _failure(self.folder / "results" / f"{number}.error")
        if failure is not None:
            return _task_error(failure)
        return TaskError(
            f"Input {number} was not computed: the job {self.name!r} is {self._state.state}; "
            "job.retry() computes what is missing."
        )

    def _load(self, number: int, data: bytes) -> Any:
        try:
            return pickle.loads(data)  # noqa: S301 - written by the user's own task, in the user's home
        except Exception as error:
            raise TaskError(
                f"The result of input {number} cannot be read here ({type(error).__name__}: {error}): "
                "import what it is made of in this notebook first."
            ) from error


class _Line:
    """A line in the notebook or terminal that is written over, and only when it changes."""

    def __init__(self) -> None:
        self._text = ""

    def show(self, text: str) -> None:
        if text != self._text:
            sys.stdout.write(f"\r{text}{' ' * max(0, len(self._text) - len(text))}")
            sys.stdout.flush()
            self._text = text

    def end(self) -> None:
        sys.stdout.write("\n")


def _read(path: Path) -> bytes | None:
    """Return a result; an empty file (left by a power cut) is none."""
    try:
        return path.read_bytes() or None
    except FileNotFoundError:
        return None


def _failure(path: Path) -> TaskFailure | None:
    try:
        return TaskFailure.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _task_error(failure: TaskFailure) -> TaskError:
    head = f"Input {failure.input} ({failure.label}) failed: {failure.error}: {failure.message}"
    return TaskError(f"{head}\n\n{failure.traceback}" if failure.traceback else head)
