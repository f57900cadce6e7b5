"""Capacity: what sessions may use together, what is left of it, and who gets the next of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import LimitError
from cupola.models.resources import Capacity
from cupola.platform.services.amounts import cores_text, gpus_text, memory_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cupola.config import DockerSettings
    from cupola.models.person import Profile
    from cupola.platform.storage.database.sessions import Held, SessionStore, StoredSession

__all__ = ["Admission", "CapacityService", "Machine"]

_ROUNDING = 1e-6
"""Sums of cores such as 0.1 are a little off."""
_UNLIMITED = "Sessions are processes of this machine here: they see what it has, and nothing can be given to one alone."
_NONE = "This platform has no GPUs."


@dataclass(frozen=True)
class Machine:
    """What the machine or the engine has."""

    cores: float
    memory_mib: int


@dataclass(frozen=True)
class Admission:
    """Decides whether a session may begin, given those that hold resources.

    Nothing comes between the look at those and the new row: the store calls this within its transaction.
    """

    profile: Profile
    total: Capacity
    """Its free amounts are not used: `held` is newer."""

    def __call__(self, wished: StoredSession, held: Sequence[Held]) -> StoredSession:
        """Return the session with the GPUs that are its own.

        Raises
        ------
        LimitError
            If the profile or what is free does not allow it.
        """
        mine = sum(one.owner == wished.session.owner for one in held)
        if mine >= self.profile.sessions:
            raise LimitError(
                f"You have {mine} sessions and may have {self.profile.sessions} at a time: stop one first."
            )
        wants = wished.session.resources
        if wants is None:
            return wished
        free = left(self.total, held)
        for enough, wanted, there in (
            (
                wants.cores <= free.free_cores + _ROUNDING,
                cores_text(wants.cores),
                cores_text(free.free_cores),
            ),
            (
                wants.memory_mib <= free.free_memory_mib,
                f"{memory_text(wants.memory_mib)} of memory",
                memory_text(free.free_memory_mib),
            ),
            (wants.gpus <= free.free_gpus, gpus_text(wants.gpus), gpus_text(free.free_gpus)),
        ):
            if not enough:
                raise LimitError(
                    f"This session wants {wanted} and {there} are free now: choose less, stop another session, "
                    "or try later."
                )
        return self._with_gpus(wished, held) if wants.gpus else wished

    def _with_gpus(self, wished: StoredSession, held: Sequence[Held]) -> StoredSession:
        taken = {gpu for one in held for gpu in one.gpus}
        wants = wished.session.resources
        container = wished.plan.container
        if wants is None or container is None:  # only containers have limits
            return wished
        free = [gpu for gpu in range(self.total.total_gpus) if gpu not in taken]
        container = container.model_copy(update={"gpus": free[: wants.gpus]})
        return wished.model_copy(update={"plan": wished.plan.model_copy(update={"container": container})})


def left(total: Capacity, held: Sequence[Held]) -> Capacity:
    """Return `total` with what is free of it."""
    limits = [one.resources for one in held if one.resources is not None]
    gpus = {gpu for one in held for gpu in one.gpus}
    return total.model_copy(
        update={
            "free_cores": round(max(0.0, total.total_cores - sum(one.cores for one in limits)), 3),
            "free_memory_mib": max(0, total.total_memory_mib - sum(one.memory_mib for one in limits)),
            # An operator may have taken some away while they are in use.
            "free_gpus": sum(gpu not in gpus for gpu in range(total.total_gpus)),
        }
    )


class CapacityService:
    """Knows what is free.

    Parameters
    ----------
    store
        The sessions, with what they hold.
    machine
        Tells what the machine has.
    docker
        Settings of the driver ``docker``; nothing where sessions are processes without limits.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        machine: Callable[[], Awaitable[Machine]],
        docker: DockerSettings | None,
    ) -> None:
        self._store = store
        self._machine = machine
        self._docker = docker

    @property
    def limited(self) -> bool:
        """Whether sessions have limits here."""
        return self._docker is not None

    async def capacity(self) -> Capacity:
        """Return what there is and what is free now.

        Raises
        ------
        UnavailableError
            If the engine does not tell.
        """
        return left(await self.total(), await self._store.held())

    async def total(self) -> Capacity:
        """Return what there is, as if nothing were in use.

        Raises
        ------
        UnavailableError
            If the engine does not tell.
        """
        machine = await self._machine()
        docker = self._docker
        cores = machine.cores * (docker.overcommit if docker else 1.0)
        gpus = docker.gpus if docker else 0
        why = _UNLIMITED if docker is None else None if gpus else _NONE
        return Capacity(
            total_cores=cores,
            most_cores=machine.cores,
            total_memory_mib=machine.memory_mib,
            total_gpus=gpus,
            free_cores=cores,
            free_memory_mib=machine.memory_mib,
            free_gpus=gpus,
            no_gpus=why,
        )

    async def admission(self, profile: Profile) -> Admission:
        """Return what decides about a new session of somebody with this profile.

        Raises
        ------
        UnavailableError
            If the engine does not tell.
        """
        return Admission(profile, await self.total())
