"""The Jupyter server extension of a session: tiles for the map, and the ways of the Lab to the portal."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["BASE_URL_VARIABLE"]

BASE_URL_VARIABLE = "CUPOLA_BASE_URL"
"""Tells kernels (they inherit the server's environment) under which path this server answers."""

PARTS = (
    "cupola.lab.tiles.handlers",
    "cupola.lab.tiles.hips",
    "cupola.lab.jobs.relay",
    "cupola.lab.notices",
    "cupola.lab.notebooks.handlers",
    "cupola.lab.dashboards",
    "cupola.lab.guardian.pages.handlers",
    "cupola.lab.guardian.stops.stop",
)
"""Modules with a function ``handlers(base_url)`` that returns addresses and handlers; ``start(server)``, if there is one,
begins what goes on by itself."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell the Jupyter server what to load."""
    return [{"module": "cupola.lab.extension"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    """Add our addresses to `server`."""
    from cupola.lab.tiles.handlers import SETTING
    from cupola.lab.tiles.service import TileService

    base_url = server.web_app.settings["base_url"]
    os.environ[BASE_URL_VARIABLE] = base_url
    found: list[Any] = []
    for name in PARTS:
        try:
            part = importlib.import_module(name)
        except ImportError:
            # One part that is missing must not take the others along; the log says which.
            server.log.exception("cupola: %s is not available", name)
            continue
        found += part.handlers(base_url)
        if hasattr(part, "start"):
            try:
                part.start(server)
            except Exception:
                # Its addresses answer all the same, and the other parts work.
                server.log.exception("cupola: %s does not start", name)
    # The pool inside starts nothing until the first tile is asked for.
    server.web_app.settings[SETTING] = TileService()
    server.web_app.add_handlers(".*$", found)  # type: ignore[no-untyped-call]
    server.log.info("cupola: %d addresses under %scupola/", len(found), base_url)
