"""Telling everybody that the platform is going to stop, before it does: ``cupola down --in 10m``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import typer
from pydantic import ValidationError

from cupola.exceptions import InputError, StartError
from cupola.models.activity import NewMaintenance, PlannedStop

if TYPE_CHECKING:
    from cupola.config import StatePaths
    from cupola.hub.platform import Living

__all__ = ["Announcement", "wait_for_it"]

LONGEST_S = 90.0
"""How long sessions may write down their variables and end; those that need longer are ended like any other."""
_LOOK_S = 0.5
_ANSWER_S = 10.0


class Announcement:
    """The way to the portal of a running platform, for whoever may read its secrets.

    Parameters
    ----------
    paths
        The platform's folders.

    Raises
    ------
    StartError
        The secrets or the ports cannot be read.
    """

    def __init__(self, paths: StatePaths) -> None:
        from cupola.hub.keys import Keys
        from cupola.hub.ports import LOOPBACK, Ports

        self._http = httpx.Client(
            base_url=f"http://{LOOPBACK}:{Ports.read(paths.ports).portal}/services/cupola/internal/",
            headers={"Authorization": f"Bearer {Keys(paths.secrets).internal}"},
            timeout=_ANSWER_S,
            # The environment may name a proxy for the internet; the portal is on this host.
            trust_env=False,
        )

    def make(self, seconds: float, reason: str) -> PlannedStop:
        """Announce the stop.

        Raises
        ------
        InputError
            It is too late, or the reason too long.
        StartError
            Nobody can be told.
        """
        try:
            new = NewMaintenance(seconds=seconds, reason=reason)
        except ValidationError as exc:
            raise InputError("--in takes 7 days at most, and --reason 300 letters: say less.") from exc
        answer = self._ask("PUT", "maintenance", new.model_dump())
        return PlannedStop.model_validate_json(answer.content)

    def take_back(self) -> None:
        """Let everybody know that the platform goes on.

        Raises
        ------
        StartError
            Nobody can be told.
        """
        self._ask("DELETE", "maintenance")

    def sessions(self) -> int:
        """Return how many sessions have not ended.

        Raises
        ------
        StartError
            The portal does not answer.
        """
        return len(self._ask("GET", "sessions").json())

    def _ask(self, method: str, path: str, content: object = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=content)
            answer.raise_for_status()
        except httpx.HTTPError as exc:
            raise StartError(
                f"the portal cannot be told ({exc}); try again in a moment, or stop at once with `cupola down`"
            ) from exc
        return answer


def wait_for_it(living: Living, announcement: Announcement, seconds: float, reason: str) -> None:
    """Announce the stop, wait until its time has come, and then until the sessions have ended, or long enough.

    Raises
    ------
    InputError
        It is too late, or the reason too long.
    StartError
        Nobody can be told.
    KeyboardInterrupt
        Somebody thought better of it; everybody was told.
    """
    plan = announcement.make(seconds, reason)
    until = time.monotonic() + seconds
    count = announcement.sessions()
    typer.echo(
        f"The platform stops at {plan.at.astimezone():%H:%M:%S}. {count} session(s) are told, and hibernated then. "
        "Ctrl-C takes it back."
    )
    try:
        while living.process.alive and time.monotonic() < until:
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        announcement.take_back()
        typer.echo("Taken back: the platform goes on, and everybody is told.")
        raise
    _until_they_slept(living, announcement)


def _until_they_slept(living: Living, announcement: Announcement) -> None:
    until = time.monotonic() + LONGEST_S
    typer.echo("Sessions write down their variables.")
    while living.process.alive and time.monotonic() < until:
        try:
            if not announcement.sessions():
                return
        except StartError:
            pass  # a portal that is just restarted goes on with it
        time.sleep(_LOOK_S)
