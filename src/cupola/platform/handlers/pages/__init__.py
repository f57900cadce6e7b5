"""The pages, one file per noun. Each module has a ``router``."""

from __future__ import annotations

from cupola.platform.handlers.pages.errors import error_page

__all__ = ["error_page"]
