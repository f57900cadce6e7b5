from __future__ import annotations

from support.fixtures import engine, new_platform, platform
from support.images import images

__all__ = ["engine", "images", "new_platform", "platform"]
