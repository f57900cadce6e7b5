"""What the Jupyter server is told, so that our classes stand in for its own."""

from __future__ import annotations

from cupola.lab.guardian.folder import hold_session, sessions_database
from cupola.lab.guardian.kernels.sessions import is_usable
from cupola.lab.guardian.terminals.manager import terminal_settings

__all__ = ["server_settings"]


def server_settings() -> list[str]:
    """Return the settings, as the command line takes them."""
    held = hold_session()
    settings = [
        "--ServerApp.kernel_manager_class=cupola.lab.guardian.kernels.manager.AdoptingKernelManager",
        f"--AdoptingKernelManager.adopts={held}",
        "--ServerApp.session_manager_class=cupola.lab.guardian.kernels.sessions.SurvivingSessions",
        "--ServerApp.kernel_websocket_connection_class=cupola.lab.guardian.pages.channel.SurvivingConnection",
        "--ServerApp.contents_manager_class=cupola.lab.guardian.documents.contents.SurvivingContents",
        # What a page missed it asks for.
        "--MappingKernelManager.buffer_offline_messages=False",
        *terminal_settings(),
    ]
    place = sessions_database()
    if held and is_usable(place):
        settings.append(f"--SessionManager.database_filepath={place}")
    return settings
