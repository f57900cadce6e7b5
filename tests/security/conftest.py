from __future__ import annotations

from support.labs import together

__all__ = ["together"]
