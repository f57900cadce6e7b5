"""``cupola.yaml``: one file, read once, into one :class:`Config`.

Every field has a title, a description and an example; ``cupola init`` and the reference in the docs are made from
them. An unknown key is refused, with file, line and suggestion.
"""

from __future__ import annotations

from cupola.config.loader import load
from cupola.config.paths import StatePaths, environments_source
from cupola.config.root import Config
from cupola.config.server import Driver, FolderSettings, LogLevel, LogSettings, ServerSettings
from cupola.config.usage import EngineSettings, LocalEngineSettings, ProfileSettings
from cupola.config.volumes import VolumeSettings

__all__ = [
    "Config",
    "Driver",
    "EngineSettings",
    "FolderSettings",
    "LocalEngineSettings",
    "LogLevel",
    "LogSettings",
    "ProfileSettings",
    "ServerSettings",
    "StatePaths",
    "VolumeSettings",
    "environments_source",
    "load",
]
