"""From an array to a submit description: pure, so that its tests are golden files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cupola.platform.storage.engine import Array

__all__ = ["ATTEMPT", "OVER_TIME", "OWNER", "TAG", "Terms", "describe", "most_made"]

TAG, ATTEMPT, OWNER = "CupolaJob", "CupolaAttempt", "CupolaOwner"
"""Attributes that we add to each proc: a cluster is found by them, and so is whose it is."""
FACTORY = 1000
"""Most procs of an array in the queue at a time; the others are made when there is room for them. With few, the queue runs dry
between two rounds of the schedd."""
LEASE_S = 120
"""A node that is silent this long has lost its task, which then runs elsewhere; HTCondor's own default is 40 min."""
STUCK_S = 10
"""What the pool itself holds (no interpreter there, too much memory) does not get better by waiting."""
OVER_TIME = "It has had the time it asked for"
"""Why we have a task held that runs too long; as all that is held it is then removed."""
OWN_HOLD = 1
"""The code of a hold that somebody asked for."""


@dataclass(frozen=True)
class Terms:
    """What the pool and its operator add to each array."""

    cores: int = 0
    """Cores of the pool; 0 where that is not known."""
    group: str | None = None
    """Accounting group of the platform's jobs."""
    universe: str = "vanilla"
    image: str = ""
    """For the universes of containers: the image as nodes get it."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further submit commands; they win."""


def describe(array: Array, terms: Terms) -> dict[str, str]:
    """Return the submit description of `array`.

    Parameters
    ----------
    array
        What is to run. Its folder and interpreter are on storage that every node sees.
    terms
        What the pool and its operator add.

    Raises
    ------
    InputError
        A variable of the tasks' environment cannot be given to HTCondor.
    """
    # In a container the job's folder lies elsewhere.
    folder = array.folder if array.container is None else array.container.folder
    words = ["-P", "-m", "cupola.lab.task", str(folder), "--nth"]
    environment = array.environment if array.container is None else array.container.environment
    return {
        **_universe(terms),
        "executable": _plain(str(array.python)),
        "transfer_executable": "false",
        "should_transfer_files": "NO",
        "arguments": f'"{_quoted(words)} $(Process)"',
        "environment": f'"{_quoted(_variables(environment))}"',
        "initialdir": _plain(str(array.folder)),
        # What comes before the task opens its own log: an interpreter that does not start.
        "error": f"{_plain(str(array.folder))}/log/$(Process).err",
        **_asked(array),
        "max_materialize": str(most_made(array, terms.cores, at_once=array.at_once)),
        # A task that ends by itself has told what failed in its results; one that was killed runs again.
        "on_exit_remove": f"ExitBySignal =!= true || NumJobCompletions > {array.retries}",
        "periodic_remove": (
            f"JobStatus == 5 && HoldReasonCode =!= {OWN_HOLD} && time() - EnteredCurrentStatus > {STUCK_S}"
        ),
        "job_lease_duration": str(LEASE_S),
        # A claim that is kept long holds its cores against everybody else.
        "keep_claim_idle": "3",
        "JobBatchName": array.tag,
        f"MY.{TAG}": _text(array.tag),
        f"MY.{ATTEMPT}": str(array.attempt),
        f"MY.{OWNER}": _text(array.owner),
        **_account(array, terms.group),
        **terms.extra,
    }


def most_made(array: Array, cores: int, *, at_once: int) -> int:
    """Return how many procs of an array may be in the queue at a time.

    Where a person may not use the whole pool anyway, this holds them to their share; else many are offered, so that slots that
    come free find one.
    """
    return at_once if at_once * array.cpus < cores else max(FACTORY, 4 * at_once)


def _universe(terms: Terms) -> dict[str, str]:
    if terms.universe == "vanilla":
        return {"universe": "vanilla"}
    return {"universe": terms.universe, f"{terms.universe}_image": _plain(terms.image)}


def _asked(array: Array) -> dict[str, str]:
    asked = {
        "request_cpus": str(array.cpus),
        "request_memory": f"{array.memory_mib}MB",
        "request_disk": "10MB",
    }
    if array.gpus:
        asked["request_gpus"] = str(array.gpus)
    if array.time_s is not None:
        # Not allowed_execute_duration, which HTCondor 23.9 has been seen to forget.
        asked["periodic_hold"] = f"JobStatus == 2 && time() - JobCurrentStartDate > {array.time_s}"
        asked["periodic_hold_reason"] = _text(OVER_TIME)
    return asked


def _account(array: Array, group: str | None) -> dict[str, str]:
    """Return whose share it counts against: the person's, in the platform's group or its team's group there."""
    account = {"accounting_group_user": array.owner} if array.owner else {}
    if group is not None:
        account["accounting_group"] = f"{group}.{array.team}" if array.team else group
    return account


def _variables(environment: Mapping[str, str]) -> list[str]:
    for name, value in environment.items():
        if "\n" in value or "$$" in value:
            raise InputError(
                f"HTCondor cannot give tasks the variable {name}, which has a line break or two dollar signs in a row: "
                "change it, or use another engine."
            )
    return [f"{name}={value}" for name, value in environment.items()]


def _quoted(words: Iterable[str]) -> str:
    """Return words as they stand inside of HTCondor's double quotes: each in single ones, both kinds doubled."""
    return " ".join("'" + _plain(word.replace("'", "''").replace('"', '""')) + "'" for word in words)


def _plain(value: str) -> str:
    """Return a text with which HTCondor does nothing: a dollar sign begins a macro."""
    return value.replace("$", "$(DOLLAR)")


def _text(value: str) -> str:
    """Return a string as ClassAds write it."""
    return _plain('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')
