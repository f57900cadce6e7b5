"""The way of the job panel to the portal: through the session's Jupyter server, with the session's token.

The browser sends the Jupyter server's own cookie and never sees the token; only addresses of jobs and their ends are passed on.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, ClassVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from typing_extensions import override

__all__ = ["RelayHandler", "handlers"]

_JOB = r"jobs/[a-z][a-z0-9-]{0,39}"
_READ = re.compile(rf"{_JOB}(/grid|/failures|/tasks/[0-9]{{1,6}}(/log)?)?|notifications(/unread)?")
_ACT = re.compile(rf"{_JOB}/(cancel|hold|release|retry)")
SECONDS = 20.0
NOT_MODIFIED = 304


class RelayHandler(APIHandler):
    """Passes the panel's questions on."""

    auth_resource = "cupola_jobs"
    # A panel that asks each second must not keep a forgotten session alive.
    _track_activity = False
    allowed: ClassVar[dict[str, re.Pattern[str]]] = {"GET": _READ, "POST": _ACT}

    @override
    @web.authenticated
    @authorized
    async def get(self, path: str) -> None:
        """Read about a job."""
        await self._pass_on(path)

    @override
    @web.authenticated
    @authorized
    async def post(self, path: str) -> None:
        """Cancel, hold, release or retry a job; the base class has checked the XSRF token."""
        await self._pass_on(path)

    async def _pass_on(self, path: str) -> None:
        if self.allowed[str(self.request.method)].fullmatch(path) is None:
            self._problem(404, "not-found", "The job panel has no such address.")
            return
        portal, token = os.environ.get("CUPOLA_API_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
        if not portal or not token:
            self._problem(503, "unavailable", "This Jupyter server is no session of the platform.")
            return
        request = HTTPRequest(
            f"{portal.rstrip('/')}/{path}",
            method=str(self.request.method),
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/json, text/plain",
                **self._seen(),
            },
            body=b"" if self.request.method == "POST" else None,
            connect_timeout=SECONDS / 4,
            request_timeout=SECONDS,
            # A redirect would be to a sign-in page, and would carry the token elsewhere.
            follow_redirects=False,
        )
        try:
            answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (HTTPClientError, OSError):
            self._problem(503, "unavailable", "The portal does not answer now; the job runs on.")
            return
        if answer.code >= 600 or (answer.code in range(300, 400) and answer.code != NOT_MODIFIED):  # noqa: PLR2004
            self._problem(503, "unavailable", "The portal does not answer now; the job runs on.")
            return
        self.set_status(answer.code)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        if tag := answer.headers.get("ETag"):
            self.set_header("ETag", tag)
        if answer.code == NOT_MODIFIED:
            self.finish()
            return
        self.finish(answer.body, set_content_type=answer.headers.get("Content-Type", "application/json"))

    @override
    def compute_etag(self) -> str | None:
        """Let the portal alone say what has not changed."""
        return None

    def _seen(self) -> dict[str, str]:
        """Return what the panel has already, so that the portal need not send it again."""
        seen = self.request.headers.get("If-None-Match")
        return {"If-None-Match": seen} if seen else {}

    def _problem(self, status: int, code: str, detail: str) -> None:
        self.set_status(status)
        body = {
            "type": f"https://cupola.invalid/problems/{code}",
            "title": "No answer about the job",
            "status": status,
            "detail": detail,
        }
        self.finish(json.dumps(body), set_content_type="application/problem+json")


def handlers(base_url: str) -> list[tuple[str, Any]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    return [(rf"{re.escape(base_url)}cupola/api/(jobs/.+|notifications(?:/unread)?)", RelayHandler)]
