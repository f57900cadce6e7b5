from __future__ import annotations

from support.fixtures import engine, new_platform, platform

__all__ = ["engine", "new_platform", "platform"]
