"""Who may visit this session, and what they may do in it: the portal is asked, with the session's own token."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import ValidationError
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from cupola.models.share import ShareAccess, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ASK_AGAIN_S", "Unanswered", "Visits"]

ASK_AGAIN_S = 10.0
"""Seconds for which an answer holds."""
WITHOUT_ANSWER_S = 30.0
"""Seconds for which the last answer holds where the portal does not answer: it restarts, and visits go on."""
_TIMEOUT_S = 5.0


class Unanswered(Exception):  # noqa: N818 - it is no error of ours
    """The portal does not answer, and what it said last is too old."""


class Visits:
    """Knows what visitors may do.

    Parameters
    ----------
    environ
        The variables of a session. Where they describe none, nobody but the owner gets in.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = environ.get("JUPYTERHUB_USER", "")
        self._portal = environ.get("CUPOLA_API_URL", "").rstrip("/")
        self._token = environ.get("JUPYTERHUB_API_TOKEN", "")
        self._session = environ.get("CUPOLA_SESSION", "")
        self._clock = clock
        self._known: dict[str, tuple[float, ShareAccess | None]] = {}

    async def access(self, person: str) -> ShareAccess | None:
        """Return what `person` may do here; nothing for whoever is to stay outside.

        Raises
        ------
        Unanswered
            If nobody can tell just now.
        """
        if person == self.owner:
            return ShareAccess.FULL
        known = self._known.get(person)
        if known is not None and self._clock() - known[0] < ASK_AGAIN_S:
            return known[1]
        try:
            access = await self._ask(person)
        except (HTTPClientError, OSError, ValidationError) as error:
            if known is not None and self._clock() - known[0] < WITHOUT_ANSWER_S:
                return known[1]
            raise Unanswered from error
        self._known[person] = (self._clock(), access)
        return access

    async def _ask(self, person: str) -> ShareAccess | None:
        if not (self._portal and self._token and self._session):
            return None
        request = HTTPRequest(
            f"{self._portal}/sessions/{quote(self._session, safe='')}/access?person={quote(person, safe='')}",
            headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
            connect_timeout=_TIMEOUT_S,
            request_timeout=_TIMEOUT_S,
            # A redirect would be to a sign-in page, and would carry the token elsewhere.
            follow_redirects=False,
        )
        answer = await AsyncHTTPClient().fetch(request)
        return Visit.model_validate_json(answer.body).access
