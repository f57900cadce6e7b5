"""Launches: from what a person wishes to a session with its plan, or to the reason why not."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from cupola.exceptions import InputError, LimitError
from cupola.models.base import now
from cupola.models.resources import Resources
from cupola.models.session import Session, SessionState
from cupola.models.volume import VolumeKind
from cupola.platform.services.amounts import cores_text, memory_text
from cupola.platform.services.sessions.sizes import check_profile, lowered, most
from cupola.platform.services.sessions.variables import check_variables
from cupola.platform.storage.database.sessions import StoredSession

if TYPE_CHECKING:
    from cupola.config import DockerSettings
    from cupola.models.datalab import Datalab
    from cupola.models.person import Person
    from cupola.models.resources import Capacity
    from cupola.models.session import LaunchRequest
    from cupola.platform.services.datalabs.catalogue import CatalogueService
    from cupola.platform.services.prices import Prices
    from cupola.platform.services.sessions.capacity import CapacityService
    from cupola.platform.services.sessions.places import SessionPlaces
    from cupola.platform.services.volumes.volumes import Chosen, VolumeService

__all__ = ["Launches", "other_volumes"]

_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without those that look alike."""
_LEAST = Resources(cores=0.05, memory_mib=128)
_NO_LIMITS = (
    "Sessions are processes of this machine here and have no limits: the wished size is not enforced."
)


class Launches:
    """Decides what a wished session gets.

    Parameters
    ----------
    catalogue, volumes
        What can be launched, with which data.
    capacity
        What there is.
    prices
        What it costs.
    places
        Makes the plans.
    docker
        Settings of the driver ``docker``, with the usual size of a session.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        catalogue: CatalogueService,
        volumes: VolumeService,
        capacity: CapacityService,
        prices: Prices,
        places: SessionPlaces,
        docker: DockerSettings,
    ) -> None:
        self._catalogue = catalogue
        self._volumes = volumes
        self._capacity = capacity
        self._prices = prices
        self._places = places
        self._usual = Resources(cores=docker.cores, memory_mib=docker.memory_mib)

    async def prepare(
        self,
        person: Person,
        request: LaunchRequest,
        *,
        key: str | None = None,
        again: bool = False,
        name: str | None = None,
    ) -> StoredSession:
        """Return the session that `request` asks for, not begun yet.

        Parameters
        ----------
        person, request
            Who wants what.
        key
            Is kept with it.
        again
            Whether it takes the place of an earlier one: volumes that are gone since are left out with a notice.
        name
            The id of the session that begins anew; without, it is a new one.

        Raises
        ------
        NotFoundError
            If there is no such datalab, version or volume.
        ConflictError
            If the datalab or the version cannot run here.
        InputError
            If a variable cannot be set, or the size is too small for any session.
        LimitError
            If the person's profile or the machine does not allow the size.
        """
        check_variables(request.environment)
        datalab = await self._catalogue.datalab(request.datalab)
        built = await self._catalogue.version(request.datalab, request.version, fetched=True)
        resources, notices = await self._size(person, request.resources, datalab)
        chosen, gone = await self._data(person, request.volumes, datalab, again=again)
        session = Session(
            id=name or _new_id(datalab.name),
            owner=person.name,
            datalab=datalab.name,
            version=built.version.digest,
            title=" ".join((request.title or "").split()) or datalab.title,
            state=SessionState.REQUESTED,
            created=now(),
            volumes=[volume.name for volume in chosen.volumes],
            clean=request.clean,
            resources=resources,
            environment=dict(request.environment),
            notices=[*notices, *gone, *chosen.notices],
        )
        plan = await self._places.plan(person, session, datalab=datalab, built=built, volumes=chosen.volumes)
        return StoredSession(session=session, plan=plan, rate=self._prices.rate(resources), request_key=key)

    def usual(self, datalab: Datalab) -> Resources:
        """Return what a session of `datalab` gets when nobody chooses, before any profile."""
        return datalab.resources or self._usual

    async def _size(
        self, person: Person, wished: Resources | None, datalab: Datalab
    ) -> tuple[Resources | None, list[str]]:
        """Return the limits of a new session, nothing where there are none, and what its owner should know of them."""
        if wished is not None and (wished.cores < _LEAST.cores or wished.memory_mib < _LEAST.memory_mib):
            raise InputError(
                f"A session needs {cores_text(_LEAST.cores)} and {memory_text(_LEAST.memory_mib)} at least: choose more."
            )
        if not self._capacity.limited:
            if wished is not None:
                check_profile(person.profile, wished)
            return None, [_NO_LIMITS] if wished is not None else []
        total = await self._capacity.total()
        if wished is None:
            return lowered(self.usual(datalab), most(person.profile, total))
        check_profile(person.profile, wished)
        _check_machine(total, wished)
        return wished, []

    async def _data(
        self, person: Person, names: list[str] | None, datalab: Datalab, *, again: bool
    ) -> tuple[Chosen, list[str]]:
        """Return the volumes of a new session, and a sentence for each that is gone."""
        if names is None:
            return await self._volumes.chosen(person, datalab.volumes or None, skip_missing=True), []
        if not again:
            return await self._volumes.chosen(person, names), []
        chosen = await self._volumes.chosen(person, names, skip_missing=True)
        there = {volume.name for volume in chosen.volumes}
        gone = [
            f"The volume {name} is gone or no longer yours: it is left out."
            for name in names
            if name not in there
        ]
        return chosen, gone


def other_volumes(names: list[str]) -> list[str]:
    """Return `names` without the home, which every session has."""
    return [name for name in names if name != VolumeKind.HOME]


def _check_machine(total: Capacity, wished: Resources) -> None:
    if wished.gpus and total.no_gpus:
        raise LimitError(f"This session wants a GPU: {total.no_gpus} Choose none.")
    for too_much, wants, there in (
        (wished.cores > total.most_cores, cores_text(wished.cores), cores_text(total.most_cores)),
        (
            wished.memory_mib > total.total_memory_mib,
            f"{memory_text(wished.memory_mib)} of memory",
            memory_text(total.total_memory_mib),
        ),
        (wished.gpus > total.total_gpus, f"{wished.gpus} GPUs", str(total.total_gpus)),
    ):
        if too_much:
            raise LimitError(f"This session wants {wants} and this platform has {there}: choose less.")


def _new_id(datalab: str) -> str:
    """Return an id that is also a server name at the hub: small letters, digits, single hyphens, at most 30."""
    return f"{datalab[:20].rstrip('-')}-{''.join(secrets.choice(_ID_LETTERS) for _ in range(8))}"
