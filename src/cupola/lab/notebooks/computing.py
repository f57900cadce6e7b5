"""Tell the portal which notebooks have a cell that runs, so that nobody stops their session unawares.

The portal cannot ask a session; the session tells it, with its own token, while something runs and when it has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_server.serverapp import ServerApp

__all__ = ["Teller", "busy_notebooks", "watch"]

LOOK_S = 5.0
AGAIN_S = 20.0
"""What still runs is told again, as the portal forgets what is not (`cupola.platform.services.sessions.computing`)."""
MOST = 20
_TIMEOUT_S = 5.0


class Teller:
    """Tells the portal what has changed.

    Parameters
    ----------
    environ
        The variables of a session; where they describe none, nothing is told.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._portal = environ.get("CUPOLA_API_URL", "").rstrip("/")
        self._token = environ.get("JUPYTERHUB_API_TOKEN", "")
        self._session = environ.get("CUPOLA_SESSION", "")
        self._clock = clock
        self._told: list[str] = []
        self._at = 0.0

    @property
    def able(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._portal and self._token and self._session)

    async def tell(self, notebooks: list[str]) -> None:
        """Tell what computes now, if the portal does not know it; one that does not answer is told at the next look."""
        if notebooks == self._told and not (notebooks and self._clock() - self._at >= AGAIN_S):
            return
        request = HTTPRequest(
            f"{self._portal}/sessions/{quote(self._session, safe='')}/computing",
            method="PUT",
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            body=json.dumps({"notebooks": notebooks}),
            connect_timeout=_TIMEOUT_S,
            request_timeout=_TIMEOUT_S,
            # A redirect would be to a sign-in page, and would carry the token elsewhere.
            follow_redirects=False,
        )
        try:
            await AsyncHTTPClient().fetch(request)
        except (HTTPClientError, OSError):
            return
        self._told, self._at = notebooks, self._clock()


async def busy_notebooks(server: ServerApp) -> list[str]:
    """Return the paths of the notebooks whose kernel is busy."""
    kernels: Any = server.kernel_manager
    busy = {
        kernel
        for kernel in kernels.list_kernel_ids()
        if getattr(kernels.get_kernel(kernel), "execution_state", "") == "busy"
    }
    if not busy:
        return []
    sessions: list[dict[str, Any]] = await server.session_manager.list_sessions()
    found = {one["path"] for one in sessions if one["kernel"]["id"] in busy and one["type"] == "notebook"}
    # A console or a file that was never saved has no name by which it could be made a job.
    return sorted(path for path in found if path.endswith(".ipynb"))[:MOST]


def watch(server: ServerApp) -> asyncio.Task[None] | None:
    """Look at the kernels now and again, until the server's loop ends.

    Parameters
    ----------
    server
        Whose kernels they are.
    """
    teller = Teller()
    if not teller.able:
        return None

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await teller.tell(await busy_notebooks(server))
            except Exception:
                # A kernel that ends meanwhile, say: there is a next look.
                server.log.debug("cupola: what computes could not be told", exc_info=True)

    return asyncio.get_event_loop().create_task(look())
