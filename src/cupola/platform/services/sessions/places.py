"""Where sessions run: from what was decided to the plan for this platform's driver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from cupola.exceptions import UnavailableError
from cupola.models.containers import SessionNetwork
from cupola.models.resources import Resources
from cupola.platform.builders.session import container_plan, links, session_plan
from cupola.platform.storage.files.accounts import write_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cupola.config import DockerSettings, StatePaths
    from cupola.models.datalab import Datalab
    from cupola.models.person import Person
    from cupola.models.session import Plan, Session
    from cupola.models.volume import Volume
    from cupola.platform.services.people.accounts import AccountService
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["ContainerPlaces", "ProcessPlaces", "SessionPlaces"]

_GIB = 2**30


class Homes(Protocol):
    """What makes homes."""

    async def prepare(
        self, kind: str, name: str, number: int | None = None, limit: int | None = None
    ) -> Path:
        """Make a home under its limit, or bring an existing one up to date."""
        ...


class SessionPlaces(Protocol):
    """Makes the plans of sessions."""

    async def plan(
        self,
        person: Person,
        session: Session,
        *,
        datalab: Datalab,
        built: BuiltVersion,
        volumes: Sequence[Volume],
    ) -> Plan:
        """Return the plan of a new session.

        Parameters
        ----------
        person, session
            Whose it is, and what was decided: limits, variables, with or without the person's own packages.
        datalab, built
            What runs, in which version.
        volumes
            What it mounts; the home first.

        Raises
        ------
        UnavailableError
            If what it stands on cannot be made or found.
        ConflictError
            If the home cannot be used just now.
        """
        ...


class ProcessPlaces:
    """Plans of processes of this host.

    Parameters
    ----------
    paths
        The platform's folders.
    api_url
        The portal's REST root, as sessions reach it.
    homes
        Makes homes.
    guardian
        Whether kernels outlive their server.
    """

    def __init__(self, *, paths: StatePaths, api_url: str, homes: Homes, guardian: bool = True) -> None:
        self._paths = paths
        self._api_url = api_url
        self._homes = homes
        self._guardian = guardian

    async def plan(
        self,
        person: Person,
        session: Session,
        *,
        datalab: Datalab,
        built: BuiltVersion,
        volumes: Sequence[Volume],
    ) -> Plan:
        """Return the plan of a new session; see :class:`SessionPlaces`."""
        await self._homes.prepare("home", person.name, None, limit_of(person))
        return session_plan(
            session=session.id,
            owner=person.name,
            datalab=datalab,
            digest=built.version.digest,
            python=built.python,
            mounts=links(volumes, self._paths.home(person.name)),
            clean=session.clean,
            variables={**datalab.environment, **session.environment},
            paths=self._paths,
            api_url=self._api_url,
            guardian=self._guardian,
        )


class ContainerPlaces:
    """Plans of containers.

    Parameters
    ----------
    paths
        The platform's folders.
    settings
        What holds for every container.
    accounts
        Knows the numbers of people and teams.
    homes
        Makes homes.
    shared
        Tells whether containers see what is mounted after their start.
    guardian
        Whether kernels outlive their server.
    """

    def __init__(  # noqa: PLR0913 - the parts it needs; each by its name
        self,
        *,
        paths: StatePaths,
        settings: DockerSettings,
        accounts: AccountService,
        homes: Homes,
        shared: Callable[[], bool],
        guardian: bool = True,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._accounts = accounts
        self._homes = homes
        self._shared = shared
        self._guardian = guardian

    async def plan(
        self,
        person: Person,
        session: Session,
        *,
        datalab: Datalab,
        built: BuiltVersion,
        volumes: Sequence[Volume],
    ) -> Plan:
        """Return the plan of a new session; see :class:`SessionPlaces`."""
        network = self._network()
        account = await self._accounts.account(person)
        await self._homes.prepare("home", person.name, account.user, limit_of(person))
        await asyncio.to_thread(
            write_accounts,
            self._paths.passwd(person.name),
            self._paths.group(person.name),
            person.name,
            account,
        )
        usual = Resources(cores=self._settings.cores, memory_mib=self._settings.memory_mib)
        return container_plan(
            session=session,
            resources=session.resources or datalab.resources or usual,
            datalab=datalab,
            python=built.python,
            volumes=volumes,
            account=account,
            paths=self._paths,
            network=network,
            settings=self._settings,
            shared=self._shared(),
            guardian=self._guardian,
        )

    def _network(self) -> SessionNetwork:
        try:
            return SessionNetwork.model_validate_json(self._paths.network.read_bytes())
        except (OSError, ValidationError) as error:
            raise UnavailableError(
                "The network of the sessions is not known: stop the platform with `cupola down`, then start it with "
                "`cupola up`, which makes it."
            ) from error


def limit_of(person: Person) -> int | None:
    """Return how many bytes the person's home may hold; nothing where the profile does not say."""
    return None if person.profile.home_gib is None else int(person.profile.home_gib * _GIB)
