"""What the Jupyter server is told, so that our classes stand in for its own."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["server_settings"]


def server_settings() -> list[str]:
    """Return the settings, as the command line takes them."""
    runtime = Path(os.environ.get("CUPOLA_RUNTIME") or Path.home() / ".cupola")
    database = runtime / "sessions" / f"{os.environ.get('CUPOLA_SESSION') or 'session'}.db"
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [
        "--ServerApp.kernel_manager_class=cupola.lab.guardian.kernels.AdoptingKernelManager",
        "--ServerApp.kernel_websocket_connection_class=cupola.lab.guardian.channel.SurvivingConnection",
        "--KernelProvisionerFactory.default_provisioner_name=cupola-guarded",
        "--ServerApp.contents_manager_class=cupola.lab.guardian.documents.SurvivingContents",
        f"--SessionManager.database_filepath={database}",
        # What a page missed it asks for.
        "--MappingKernelManager.buffer_offline_messages=False",
    ]
