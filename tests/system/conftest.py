from __future__ import annotations

from support.fixtures import new_platform, platform

__all__ = ["new_platform", "platform"]
