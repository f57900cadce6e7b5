"""What pages ask of the journal."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from cupola.lab.guardian import is_on

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

    from cupola.lab.guardian.ledger import Execution

__all__ = ["handlers", "start"]


class GuardianHandler(APIHandler):
    """What became of a notebook's cells."""

    auth_resource = "kernels"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Tell about the executions of the notebook ``path``."""
        if not is_on():
            self.finish({"on": False})
            return
        path = self.get_query_argument("path", "").strip("/")
        found: list[dict[str, Any]] = []
        for ledger in self.kernel_manager.ledgers():
            ledger.poll()
            found += [_tell(one, ledger.folder.kernel_id) for one in ledger.of(path)]
        self.finish({"on": True, "executions": found})


def _tell(one: Execution, kernel: str) -> dict[str, Any]:
    fields = ("id", "cell", "state", "count", "started", "ended", "failed", "settled")
    return {name: getattr(one, name) for name in fields} | {"kernel": kernel}


def handlers(base_url: str) -> list[tuple[str, Any]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    return [(rf"{re.escape(base_url)}cupola/api/guardian", GuardianHandler)]


def start(server: ServerApp) -> None:
    """Take up the kernels that run, and follow their journals."""
    if not is_on():
        return
    manager: Any = server.kernel_manager
    manager.adopt()
    server.web_app.settings["cupola_guardian_watch"] = asyncio.get_event_loop().create_task(manager.watch())
