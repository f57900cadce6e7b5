"""Files that never change under one address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

__all__ = ["SHARED", "STATIC", "LastingFiles", "file_named"]

_PLATFORM = Path(__file__).parents[1]
STATIC = _PLATFORM / "static"
SHARED = _PLATFORM.parent / "lab" / "jobs" / "static"
"""What the page of a job shows with the same files as the panel in a notebook."""


def file_named(name: str) -> Path:
    """Return the file that the address ``static/NAME`` shows."""
    own = STATIC / name
    return own if own.exists() else SHARED / name


class LastingFiles(StaticFiles):
    """Static files; a browser keeps for ever what was asked for with its fingerprint (``?v=``)."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC, check_dir=False)
        self.all_directories = [STATIC, SHARED]

    @override
    def file_response(
        self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200
    ) -> Response:
        answer = super().file_response(full_path, stat_result, scope, status_code)
        lasting = b"v=" in scope["query_string"]
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return answer
