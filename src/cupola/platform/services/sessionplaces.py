"""Where sessions run: from what was decided to the plan for this platform's driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cupola.platform.builders.session import links, session_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.config import StatePaths
    from cupola.models.datalab import Datalab
    from cupola.models.person import Person
    from cupola.models.session import Plan, Session
    from cupola.models.volume import Volume
    from cupola.platform.storage.environments import BuiltVersion

__all__ = ["SessionPlaces"]


class SessionPlaces:
    """Makes the plans of sessions.

    Parameters
    ----------
    paths
        The platform's folders.
    api_url
        The portal's REST root, as sessions reach it.
    """

    def __init__(self, *, paths: StatePaths, api_url: str) -> None:
        self._paths = paths
        self._api_url = api_url

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
        """
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
        )
