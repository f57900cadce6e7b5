"""Sizes of sessions: what a person may choose, what is sensible next, and what a wish must be lowered to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import LimitError
from cupola.models.resources import Resources
from cupola.platform.services.amounts import cores_text, gpus_text, memory_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cupola.models.person import Profile
    from cupola.models.resources import Capacity

__all__ = ["Bigger", "bigger", "check_profile", "core_steps", "lowered", "memory_steps", "most"]

_CORES = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
_MEMORY = tuple(512 * 2**power for power in range(13))
"""In MiB: from 512 MiB to 2 TiB."""
_STEP_MIB = 256
_WORTH_IT = 1.25
"""Less than a quarter more would run out again."""


@dataclass(frozen=True)
class Bigger:
    """The next sensible size of a session, or why there is none."""

    resources: Resources | None
    why_not: str = ""


def most(profile: Profile, capacity: Capacity) -> Resources:
    """Return the largest session that a person may have here, were everything free."""
    return Resources(
        cores=min(profile.cores, capacity.most_cores),
        memory_mib=min(profile.memory_mib, capacity.total_memory_mib),
        gpus=min(profile.gpus, capacity.total_gpus),
    )


def check_profile(profile: Profile, wished: Resources) -> None:
    """Return if a session of this size is within the profile.

    Raises
    ------
    LimitError
        If it is not.
    """
    for too_much, wants, may in (
        (wished.cores > profile.cores, cores_text(wished.cores), cores_text(profile.cores)),
        (
            wished.memory_mib > profile.memory_mib,
            memory_text(wished.memory_mib),
            memory_text(profile.memory_mib),
        ),
        (wished.gpus > profile.gpus, gpus_text(wished.gpus), gpus_text(profile.gpus)),
    ):
        if too_much:
            raise LimitError(
                f"This session wants {wants} and your profile {profile.name} allows {may}: "
                "choose less, or ask whoever runs the platform for another profile."
            )


def lowered(wished: Resources, largest: Resources) -> tuple[Resources, list[str]]:
    """Return `wished` brought to what a person may have, and a sentence for each thing that was lowered."""
    fits = Resources(
        cores=min(wished.cores, largest.cores),
        memory_mib=min(wished.memory_mib, largest.memory_mib),
        gpus=min(wished.gpus, largest.gpus),
    )
    notes = [
        f"Lowered from {wants} to {gets}, the most that you may have here."
        for less, wants, gets in (
            (fits.cores < wished.cores, cores_text(wished.cores), cores_text(fits.cores)),
            (
                fits.memory_mib < wished.memory_mib,
                memory_text(wished.memory_mib),
                memory_text(fits.memory_mib),
            ),
            (fits.gpus < wished.gpus, gpus_text(wished.gpus), gpus_text(fits.gpus)),
        )
        if less
    ]
    return fits, notes


def bigger(had: Resources, largest: Resources, free_memory_mib: int, profile: str) -> Bigger:
    """Return the size after `had`: twice its memory, or what there is of it.

    Parameters
    ----------
    had
        The size of the session that ended.
    largest
        The most that the person may have, were everything free.
    free_memory_mib
        What is free now, in MiB.
    profile
        Its name, for the sentence.
    """
    if largest.memory_mib <= had.memory_mib:
        return Bigger(
            None, f"It had {memory_text(had.memory_mib)}, and your profile {profile} allows no more."
        )
    wanted = min(2 * had.memory_mib, largest.memory_mib)
    if free_memory_mib <= had.memory_mib:
        return Bigger(
            None,
            f"It had {memory_text(had.memory_mib)}, and only {memory_text(free_memory_mib)} are free now: "
            "stop another session, or try later.",
        )
    memory = wanted
    if wanted > free_memory_mib:
        # Whole steps: nobody wants to read 3071 MiB.
        memory = free_memory_mib // _STEP_MIB * _STEP_MIB
        if memory < _WORTH_IT * had.memory_mib:
            return Bigger(
                None, f"Hardly more than its {memory_text(had.memory_mib)} is free now: stop another session."
            )
    fits, _ = lowered(had.model_copy(update={"memory_mib": memory}), largest)
    return Bigger(fits)


def core_steps(largest: float, *also: float | None) -> list[float]:
    """Return the numbers of cores to choose from, up to `largest`, with what `also` is wished."""
    return _steps(_CORES, largest, also)


def memory_steps(largest: int, *also: int | None) -> list[int]:
    """Return the amounts of memory to choose from, in MiB, up to `largest`, with what `also` is wished."""
    return [int(step) for step in _steps(_MEMORY, largest, also)]


def _steps(steps: Iterable[float], largest: float, also: Iterable[float | None]) -> list[float]:
    chosen = {step for step in steps if step <= largest} | {largest}
    return sorted(chosen | {wish for wish in also if wish is not None and wish <= largest})
