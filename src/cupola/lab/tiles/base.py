"""What all addresses share that have something computed from a chain by the tile workers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.base.handlers import APIHandler
from tornado import web
from typing_extensions import override

from cupola.exceptions import CupolaError, InputError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cupola.lab.tiles.problems import TileProblem
    from cupola.lab.tiles.service import Rendered, TileService
    from cupola.lab.tiles.styles import Style

__all__ = ["RESOURCE", "SETTING", "TYPES", "ChainHandler"]

SETTING = "cupola_tiles"
"""Under which the web application keeps the `TileService`."""

RESOURCE = "cupola_tiles"
REVISION = 64
ONE_YEAR = 365 * 24 * 3600
TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "npy": "application/octet-stream",
    "json": "application/json",
    "fits": "application/fits",
    "text": "text/plain; charset=utf-8",
}
STYLE = ("cmap", "vmin", "vmax", "scale")
NOT_MODIFIED = 304


class ChainHandler(APIHandler):
    """Answers with something computed from a chain, with validators, until the browser hangs up."""

    auth_resource = RESOURCE

    @override
    def initialize(self) -> None:
        self._work: asyncio.Task[Any] | None = None
        self._etag: str | None = None

    @property
    def service(self) -> TileService:
        """The session's workers and what they made."""
        return cast("TileService", self.settings[SETTING])

    @property
    def revision(self) -> str:
        """The word by which the address says which state of the files it means; empty where it says nothing."""
        return self.get_query_argument("v", "")[:REVISION]

    def style(self) -> Style:
        """Return how to draw, from the query.

        Raises
        ------
        InputError
            It cannot be drawn like that.
        """
        # Brings NumPy: sessions without a map do without it.
        from cupola.lab.tiles.styles import Style

        return Style.parse({name: self.get_query_argument(name, "") for name in STYLE})

    def unchanged(self, *parts: object) -> bool:
        """Set the validator of an answer made of `parts`; answer 304 and return True where the browser has it.

        `parts` are all that the answer depends on beside the revision. An address without one stands for the files
        as they are: its validator is made of the answer itself, later.
        """
        if not self.revision:
            return False
        return self._matches(json.dumps([self.revision, *parts], default=str).encode())

    def _matches(self, content: bytes) -> bool:
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self.set_etag_header()
        if not self.check_etag_header():
            return False
        self._say_how_long()
        self.set_status(NOT_MODIFIED)
        self.finish()
        return True

    def _say_how_long(self) -> None:
        kept = f"max-age={ONE_YEAR}, immutable" if self.revision else "no-cache"
        self.set_header("Cache-Control", f"private, {kept}")

    async def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await `work`; it is cancelled when the browser hangs up.

        Leaflet hangs up on every tile that left the viewport, so this is what keeps old viewports from
        being computed.
        """
        self._work = asyncio.ensure_future(work)
        try:
            return await self._work
        except asyncio.CancelledError:
            # Nobody reads this answer; it only tells the log what happened.
            raise web.HTTPError(499, reason="Client Closed Request") from None

    @override
    def on_connection_close(self) -> None:
        """Stop working for a browser that is gone."""
        super().on_connection_close()
        if self._work is not None:
            self._work.cancel()

    @override
    def compute_etag(self) -> str | None:
        """Return what was decided from the address: hashing the body would come too late to save work."""
        return self._etag

    def answer(self, rendered: Rendered, kind: str, size: int = 256) -> None:
        """Send what was computed, or why there is nothing.

        A picture that could not be made is a picture of the sentence why (a map shows it despite the status).
        """
        if rendered.problem is not None:
            self._answer_without(rendered.problem, kind, size)
            return
        for name, value in rendered.told.items():
            self.set_header(f"X-Cupola-{name.capitalize()}", str(value))
        if rendered.partial:
            self._etag = None
            self.clear_header("Etag")
            self.set_header("Cache-Control", "no-store")
        else:
            if not self.revision and self._matches(rendered.body):
                return
            self._say_how_long()
        self.finish(rendered.body, set_content_type=TYPES[kind])

    def _answer_without(self, problem: TileProblem, kind: str, size: int) -> None:
        self._etag = None
        self.clear_header("Etag")
        # Header values are Latin-1 and have no line breaks.
        self.set_header("X-Cupola-Error", problem.message.encode("ascii", "replace").decode()[:500])
        if kind not in {"png", "webp"}:
            self.answer_problem(problem)
            return
        from cupola.lab.tiles.encode import error_png

        self.set_status(problem.status)
        self.set_header("Cache-Control", "no-store")
        self.finish(
            error_png(f"{problem.message} {problem.line}".strip(), size), set_content_type="image/png"
        )

    def answer_problem(self, problem: TileProblem) -> None:
        """Answer with problem+json."""
        self._etag = None
        self.set_status(problem.status)
        self.set_header("Cache-Control", "no-store")
        body = {
            "type": f"https://cupola.invalid/problems/{problem.code}",
            "title": "No tile",
            "status": problem.status,
            "detail": problem.message,
            "line": problem.line,
            "traceback": problem.traceback,
        }
        self.finish(json.dumps(body), set_content_type="application/problem+json")

    def answer_error(self, error: CupolaError, kind: str, size: int = 256) -> None:
        """Say what is wrong with the address."""
        self.answer(self.service.refused(error), kind, size)

    def number(self, name: str, least: float, most: float) -> float:
        """Return a number of the query.

        Raises
        ------
        InputError
            It is none, or not between `least` and `most`.
        """
        text = self.get_query_argument(name, "")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise InputError(f"{name}={text!r} is no number from {least:g} to {most:g}; give one.")
        return value
