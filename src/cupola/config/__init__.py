"""``cupola.yaml``: one file, read once, into one :class:`Config`.

Every field has a title, a description and an example; ``cupola init`` and the reference in the docs are made from
them. An unknown key is refused, with file, line and suggestion.
"""

from __future__ import annotations

from cupola.config.docker import DockerSettings, NetworkKind
from cupola.config.engines import EngineSettings, HTCondorSettings, LocalEngineSettings, SlurmSettings
from cupola.config.idle import IdleSettings, SessionSettings
from cupola.config.loader import load
from cupola.config.notifications import MailEncryption, MailSettings, NotificationSettings, WebhookSettings
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
from cupola.config.signin import MethodKind, MethodSettings, SignInSettings
from cupola.config.usage import (
    NamedProfileSettings,
    PriceSettings,
    ProfileSettings,
    QuotaKind,
    QuotaSettings,
    TeamSettings,
)
from cupola.config.volumes import (
    BucketSettings,
    CustomVolumeSettings,
    ExportSettings,
    MountSettings,
    VolumeSettings,
)

__all__ = [
    "BucketSettings",
    "Compute",
    "Config",
    "CustomVolumeSettings",
    "DatabaseSettings",
    "DockerSettings",
    "EngineSettings",
    "ExportSettings",
    "FolderSettings",
    "HTCondorSettings",
    "IdleSettings",
    "LocalEngineSettings",
    "LogLevel",
    "LogSettings",
    "MailEncryption",
    "MailSettings",
    "MethodKind",
    "MethodSettings",
    "MountSettings",
    "NamedProfileSettings",
    "NetworkKind",
    "NotificationSettings",
    "PriceSettings",
    "ProfileSettings",
    "QuotaKind",
    "QuotaSettings",
    "ServerSettings",
    "SessionSettings",
    "SignInSettings",
    "SlurmSettings",
    "StatePaths",
    "TeamSettings",
    "VolumeSettings",
    "WebhookSettings",
    "environments_source",
    "load",
]
