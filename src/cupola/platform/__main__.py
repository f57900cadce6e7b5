"""``python -m cupola.platform``: the portal, as the hub starts it."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import uvicorn

from cupola.config import load
from cupola.exceptions import CupolaError
from cupola.platform.app import create_app
from cupola.platform.logs import configure_logs
from cupola.platform.storage.hub.settings import HubSettings

__all__ = ["main"]

_GOODBYE_S = 3
"""How long open connections, such as event streams, may go on at the end."""


def main() -> int:
    """Serve until told to stop. Returns the exit code."""
    try:
        config = load()
        configure_logs(config.log.level.value)
        settings = HubSettings.from_environment(os.environ)
        app = create_app(config, settings)
    except CupolaError as error:
        sys.stderr.write(f"cupola.platform: {error}\n")
        return 2
    where = urlsplit(settings.service_url)
    uvicorn.run(
        app,
        host=where.hostname or "127.0.0.1",
        port=where.port or 80,
        log_config=None,
        access_log=False,
        # The proxy in front says which scheme the browser used.
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        server_header=False,
        timeout_graceful_shutdown=_GOODBYE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
