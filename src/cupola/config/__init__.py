"""``cupola.yaml``: one file, read once, into one :class:`Config`.

Every field has a title, a description and an example; ``cupola init`` and the reference in the docs are made from
them. An unknown key is refused, with file, line and suggestion.
"""

from __future__ import annotations

from cupola.config.docker import DockerSettings, NetworkKind
from cupola.config.loader import load
from cupola.config.paths import StatePaths, environments_source
from cupola.config.root import Config
from cupola.config.server import (
    Compute,
    DatabaseSettings,
    FolderSettings,
    LogLevel,
    LogSettings,
    ServerSettings,
)
from cupola.config.usage import (
    EngineSettings,
    LocalEngineSettings,
    NamedProfileSettings,
    PriceSettings,
    ProfileSettings,
    QuotaKind,
    QuotaSettings,
)
from cupola.config.volumes import VolumeSettings

__all__ = [
    "Compute",
    "Config",
    "DatabaseSettings",
    "DockerSettings",
    "EngineSettings",
    "FolderSettings",
    "LocalEngineSettings",
    "LogLevel",
    "LogSettings",
    "NamedProfileSettings",
    "NetworkKind",
    "PriceSettings",
    "ProfileSettings",
    "QuotaKind",
    "QuotaSettings",
    "ServerSettings",
    "StatePaths",
    "VolumeSettings",
    "environments_source",
    "load",
]
