"""What the hub asks and tells the portal."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from cupola.exceptions import CupolaError, UnavailableError, error_class
from cupola.models.base import Problem
from cupola.models.session import Plan

if TYPE_CHECKING:
    from cupola.models.session import SessionReport

__all__ = ["Portal"]


class Portal:
    """The portal as the spawner sees it.

    Parameters
    ----------
    url
        Its root, ends in ``/services/cupola``.
    token
        The internal token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url.rstrip('/')}/internal/sessions"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def plan(self, session: str) -> Plan:
        """Return the plan of a session.

        Raises
        ------
        CupolaError
            The portal refuses, with its reason, or does not answer.
        """
        answer = await self._send("GET", f"{session}/plan")
        return Plan.model_validate_json(answer.content)

    async def report(self, session: str, report: SessionReport, *, tries: int = 3) -> None:
        """Tell the portal what a session does.

        Raises
        ------
        CupolaError
            The portal refuses, or did not answer in `tries` tries.
        """
        for attempt in range(tries):
            try:
                await self._send("POST", f"{session}/reports", report.model_dump_json())
            except UnavailableError:
                if attempt == tries - 1:
                    raise
                await asyncio.sleep(0.5 * 2**attempt)
            else:
                return

    async def _send(self, method: str, path: str, body: str | None = None) -> httpx.Response:
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            # The hub's own environment may name a proxy for the internet: not for this.
            async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as http:
                answer = await http.request(method, f"{self._url}/{path}", content=body)
        except httpx.HTTPError as exc:
            raise UnavailableError("the portal does not answer; try again in a moment") from exc
        if answer.is_success:
            return answer
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValueError as exc:
            kind = UnavailableError if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else CupolaError
            raise kind(f"the portal answered with HTTP {answer.status_code}; see log/portal.log") from exc
        raise error_class(problem.type.rpartition("/")[2])(problem.detail)
