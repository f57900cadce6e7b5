"""When a session was last used, told to the hub: what is idle can then be found, and what is used is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from cupola.lab.app.tool import say

__all__ = ["Activity", "is_input"]

INTERVAL = 300.0
"""Seconds between two reports, as in JupyterHub's own servers."""
REQUEST_TIMEOUT = 20.0
RFB_PATH = "/rfb"
RFB_CHATTER = frozenset({0, 2, 3, 150, 248, 251})
"""Messages that a VNC viewer sends by itself: it asks for pictures. Keys, pointer and clipboard are a person's."""


def is_input(path: str, message: str | bytes) -> bool:
    """Return whether a websocket message shows that somebody uses the tool.

    A window that redraws itself, a clock for example, makes the viewer ask for more all night long.
    """
    if not path.endswith(RFB_PATH) or isinstance(message, str):
        return True
    return bool(message) and message[0] not in RFB_CHATTER


class Activity:
    """Knows when the session was last used and reports it.

    Parameters
    ----------
    url
        The hub's address for reports (``JUPYTERHUB_ACTIVITY_URL``); without it nothing is reported.
    token
        The session's token.
    server
        The session's name at the hub.
    interval
        Seconds between two reports.
    """

    def __init__(self, url: str, token: str, server: str, interval: float = INTERVAL) -> None:
        self.url, self.token, self.server, self.interval = url, token, server, interval
        self.last = time.time()

    @classmethod
    def from_environment(cls) -> Activity:
        """Return what the hub's variables describe."""
        told = os.environ.get
        interval = float(told("JUPYTERHUB_ACTIVITY_INTERVAL") or INTERVAL)
        return cls(
            told("JUPYTERHUB_ACTIVITY_URL", ""),
            told("JUPYTERHUB_API_TOKEN", ""),
            told("JUPYTERHUB_SERVER_NAME", ""),
            interval,
        )

    def note(self) -> None:
        """Note that somebody uses the session now."""
        self.last = time.time()

    async def report(self) -> bool:
        """Tell the hub; return whether it took it."""
        when = datetime.fromtimestamp(self.last, UTC).isoformat()
        try:
            await AsyncHTTPClient().fetch(
                self.url,
                method="POST",
                headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
                body=json.dumps({"servers": {self.server: {"last_activity": when}}, "last_activity": when}),
                request_timeout=REQUEST_TIMEOUT,
            )
        except (HTTPClientError, OSError) as exc:
            say(f"the hub at {urlsplit(self.url).netloc} did not take the report of the last use: {exc}")
            return False
        return True

    async def keep_reporting(self) -> None:
        """Report at each interval, and once more when this is cancelled."""
        if not self.url:
            return
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await self.report()
                await asyncio.sleep(self.interval)
