"""The launch wizard: one form with everything that can be chosen, and what is free now beside it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from fastapi import Request
from fastapi.responses import HTMLResponse

from cupola.models.datalab import Datalab, DatalabKind, Version
from cupola.models.person import Person
from cupola.models.resources import Capacity, Resources
from cupola.models.volume import Volume, VolumeKind
from cupola.platform.factory import Factory
from cupola.platform.handlers.pages.forms import Choices
from cupola.platform.handlers.pages.render import page
from cupola.platform.services.sessions.sizes import core_steps, lowered, memory_steps, most

__all__ = ["Size", "adapted", "wizard"]

_SHOWN_VERSIONS = 3
"""Older ones are folded away."""
_BLANK_ROWS = 2
"""Empty rows for variables: without scripts there is no other way to add one."""


@dataclass(frozen=True)
class Size:
    """What the part about the size shows."""

    limited: bool
    """Whether sessions have limits here at all."""
    capacity: Capacity
    largest: Resources
    chosen: Resources
    cores: list[float]
    memory: list[int]
    gpus: list[int]
    no_gpus: str | None
    """Why no GPU can be chosen."""

    def free(self, what: str, amount: float) -> bool:
        """Tell whether `amount` of ``cores``, ``memory_mib`` or ``gpus`` is free now."""
        left: float = getattr(self.capacity, f"free_{what}")
        return amount <= left


async def wizard(  # noqa: PLR0913 - all that a form can show; each by its name
    request: Request,
    person: Person,
    factory: Factory,
    datalab: Datalab,
    choices: Choices,
    *,
    notes: list[str] | None = None,
    problem: str = "",
    link: str = "",
    status: int = 200,
) -> HTMLResponse:
    """Return the page of a datalab with its launch form.

    Parameters
    ----------
    request, person, factory, datalab
        Whose page of what.
    choices
        What is chosen; where nothing is, the datalab's defaults are.
    notes
        What was changed of a link's choices, a sentence each.
    problem
        Why a launch with these choices was refused.
    link
        The address that carries the choices, where it was asked for.
    status
        Of the answer.
    """
    volumes = [one for one in await factory.volumes.volumes(person) if one.kind is not VolumeKind.HOME]
    size = await _size(person, factory, datalab, choices)
    versions = datalab.versions
    wanted = choices.version or datalab.recommended
    # What is chosen is always seen.
    shown = [
        v for n, v in enumerate(versions) if n < _SHOWN_VERSIONS or v.digest in {wanted, datalab.recommended}
    ]
    return page(
        request,
        "datalab.html",
        person=person,
        status=status,
        datalab=datalab,
        wanted=wanted,
        versions=_recommended_first(shown, datalab.recommended),
        older=[version for version in versions if version not in shown],
        newest=versions[0].digest if versions else None,
        volumes=volumes,
        ticked=_ticked(volumes, datalab, choices),
        size=size,
        rate=factory.prices.rate(size.chosen) if size.limited else None,
        currency=factory.prices.currency,
        choices=choices,
        blank_rows=_BLANK_ROWS,
        notes=notes or [],
        problem=problem,
        link=link,
        packages=await _packages(person, factory, datalab, wanted),
        key=secrets.token_hex(8),
    )


async def adapted(
    person: Person, factory: Factory, datalab: Datalab, choices: Choices
) -> tuple[Choices, list[str]]:
    """Return the choices of a link as this person may have them, and a sentence for each that was changed."""
    notes: list[str] = []
    changed = replace(choices)
    wished = choices.resources
    if wished is not None and factory.capacity.limited:
        largest = most(person.profile, await factory.capacity.total())
        fits, lower = lowered(wished, largest)
        changed.cores, changed.memory_mib, changed.gpus = fits.cores, fits.memory_mib, fits.gpus
        notes += lower
    elif wished is not None:
        notes.append(
            "Sessions have no limits of their own on this platform: the size in the link is left out."
        )
        changed.cores = changed.memory_mib = changed.gpus = None
    if choices.version and all(version.digest != choices.version for version in datalab.versions):
        changed.version = None
        notes.append(f"The version {choices.version[7:19]} is not here: the recommended one is chosen.")
    if choices.volumes is not None:
        yours = {volume.name for volume in await factory.volumes.volumes(person)}
        changed.volumes = [name for name in choices.volumes if name in yours]
        notes += [
            f"There is no volume {name} for you: it is left out."
            for name in choices.volumes
            if name not in yours
        ]
    return changed, notes


async def _size(person: Person, factory: Factory, datalab: Datalab, choices: Choices) -> Size:
    capacity = await factory.capacity.capacity()
    largest = most(person.profile, capacity)
    usual, _ = lowered(choices.resources or factory.launches.usual(datalab), largest)
    return Size(
        limited=factory.capacity.limited,
        capacity=capacity,
        largest=largest,
        chosen=usual,
        cores=core_steps(largest.cores, usual.cores),
        memory=memory_steps(largest.memory_mib, usual.memory_mib),
        gpus=list(range(max(largest.gpus, 1) + 1)),
        no_gpus=_why_no_gpus(person, capacity),
    )


async def _packages(person: Person, factory: Factory, datalab: Datalab, wanted: str | None) -> str:
    """Return what becomes of the person's own packages on the wanted version, in a sentence."""
    if wanted is None or datalab.kind is not DatalabKind.JUPYTERLAB:
        return ""
    return (await factory.packages.hint(person, wanted)).sentence


def _why_no_gpus(person: Person, capacity: Capacity) -> str | None:
    if capacity.no_gpus:
        return capacity.no_gpus
    if not person.profile.gpus:
        return f"Your profile {person.profile.name} has no GPUs: ask whoever runs the platform."
    return (
        None
        if capacity.free_gpus
        else "All GPUs are in use now: they are free again when their sessions end."
    )


def _recommended_first(versions: list[Version], recommended: str | None) -> list[Version]:
    return sorted(versions, key=lambda version: version.digest != recommended)


def _ticked(volumes: list[Volume], datalab: Datalab, choices: Choices) -> set[str]:
    """Return the names of the volumes whose boxes are ticked."""
    if choices.volumes is not None:
        return set(choices.volumes)
    if datalab.volumes:
        return set(datalab.volumes)
    return {volume.name for volume in volumes if volume.unavailable is None}
