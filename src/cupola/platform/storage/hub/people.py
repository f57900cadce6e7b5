"""The hub's list of people, which its own sign-in keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from cupola.exceptions import UnavailableError
from cupola.models.admission import Admissions

if TYPE_CHECKING:
    from cupola.models.admission import AdmissionChange
    from cupola.platform.storage.hub.client import HubClient

__all__ = ["HubPeople"]

_PATH = "/cupola/people"
_MAIL_PATH = "/cupola/mail"


class HubPeople:
    """Who may come in, as the hub knows it.

    Parameters
    ----------
    hub
        The way to the hub.
    """

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def all(self) -> Admissions:
        """Return everybody.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        return self._parse(await self._hub.ask("GET", _PATH))

    async def change(self, change: AdmissionChange) -> Admissions:
        """Change something, and return everybody as it is then.

        Raises
        ------
        RefusedError
            If that cannot be; the text says why.
        UnavailableError
            If the hub does not answer.
        """
        return self._parse(await self._hub.ask("POST", _PATH, json=change.model_dump(mode="json")))

    async def mail_of(self, person: str) -> str | None:
        """Return the verified mail address that a person's sign-in gave, if any.

        Raises
        ------
        UnavailableError
            If the hub does not answer.
        """
        content = await self._hub.ask("POST", _MAIL_PATH, json={"name": person})
        found = content.get("mail") if isinstance(content, dict) else None
        return found if isinstance(found, str) and found else None

    def _parse(self, content: object) -> Admissions:
        try:
            return Admissions.model_validate(content)
        except ValidationError as error:
            raise UnavailableError(
                "The hub sent a list that we do not understand: see log/portal.log."
            ) from error
