"""What pages say of what they have saved, and the full texts that they ask for."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from typing_extensions import override

from cupola.lab.guardian.documents.contents import SurvivingContents
from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.journal.texts import text_file

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

__all__ = ["handlers", "start"]

MOST_NAMES = 10_000
_PIECE = 256 << 10


class SavedHandler(APIHandler):
    """A page has saved a notebook, and says of what it had heard the end before."""

    auth_resource = "contents"

    @web.authenticated
    @authorized
    @override
    async def post(self) -> None:
        """Note it for the executions ``{"ids"}`` of the notebook ``path``."""
        path = str(self.get_query_argument("path", "")).strip("/")
        names = (self.get_json_body() or {}).get("ids")
        if not path or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise web.HTTPError(400, 'Say which notebook, ?path=, and which executions, {"ids": [...]}.')
        contents = self.contents_manager
        if isinstance(contents, SurvivingContents):
            contents.settle(path, names[:MOST_NAMES])
        self.finish({})


class TextHandler(APIHandler):
    """The full text of an execution of which the notebook holds a part."""

    auth_resource = "contents"

    @web.authenticated
    @authorized
    @override
    async def get(self) -> None:
        """Send the text of the execution ``id`` of the kernel ``kernel``."""
        try:
            folder = KernelFolder.of(str(self.get_query_argument("kernel")))
        except ValueError as exc:
            raise web.HTTPError(404) from exc
        place = text_file(folder, str(self.get_query_argument("id")))
        try:
            file = place.open("rb")
        except OSError as exc:
            raise web.HTTPError(
                404, "This text is no longer kept: it goes some time after its kernel has ended."
            ) from exc
        # Text and nothing else, whatever it says.
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
        with file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                self.write(piece)
                await self.flush()


def handlers(base_url: str) -> list[tuple[str, Any]]:
    """Return what the server extension adds to the Jupyter server.

    Parameters
    ----------
    base_url
        Path of the Jupyter server, with a slash at its end.
    """
    root = rf"{re.escape(base_url)}cupola/api/guardian"
    return [(f"{root}/saved", SavedHandler), (f"{root}/text", TextHandler)]


def start(server: ServerApp) -> None:
    """Keep notebooks up to date that no page has open."""
    contents = server.contents_manager
    if isinstance(contents, SurvivingContents):
        task = asyncio.get_event_loop().create_task(contents.keep())
        server.web_app.settings["cupola_guardian_keep"] = task
