"""A session of kind ``web``, from its start to its end: the tool and the door in front of it live and end together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubOAuth
from pydantic import TypeAdapter
from tornado.httpserver import HTTPServer

from cupola.exceptions import StartError
from cupola.lab.app.activity import Activity
from cupola.lab.app.door import ASK_AGAIN, LARGEST_BODY, Visitors, make_door
from cupola.lab.app.tool import Tool, exit_code, fill, free_port, say, verdict
from cupola.lab.home import link_volumes
from cupola.lab.visits import Visits
from cupola.models.volume import Mount

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

__all__ = ["Place", "main", "serve"]

NEEDED = (
    "JUPYTERHUB_API_TOKEN",
    "JUPYTERHUB_API_URL",
    "JUPYTERHUB_CLIENT_ID",
    "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
    "JUPYTERHUB_SERVICE_PREFIX",
    "JUPYTERHUB_USER",
)
NO_SUCH_PROGRAM = 127
CANNOT_RUN = 126


@dataclass(frozen=True)
class Place:
    """Where a session answers."""

    prefix: str
    address: str
    port: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Place:
        """Return what the hub's variables say.

        Raises
        ------
        StartError
            If the hub did not start this: without it nobody could sign in.
        """
        missing = [name for name in NEEDED if not environ.get(name)]
        if missing:
            raise StartError(
                f"this tool stands behind the platform's sign-in, and {missing[0]} is not set; launch it from the catalogue"
            )
        url = urlsplit(environ.get("JUPYTERHUB_SERVICE_URL", ""))
        return cls(
            environ["JUPYTERHUB_SERVICE_PREFIX"].rstrip("/") + "/",
            url.hostname or "127.0.0.1",
            url.port or 8888,
        )


def prepare_home(environ: Mapping[str, str]) -> None:
    """Link the volumes into the home; what cannot be linked is said and left out."""
    home = Path(environ.get("HOME", "/"))
    mounts = TypeAdapter(list[Mount]).validate_json(environ.get("CUPOLA_VOLUMES") or "[]")
    for problem in link_volumes(mounts, home / "volumes"):
        say(problem)
    with contextlib.suppress(OSError):
        os.chdir(home)


async def serve(command: list[str], place: Place) -> int:
    """Run a tool behind its door until either is told to end, or ends.

    Parameters
    ----------
    command
        With ``{port}`` and ``{prefix}`` where the tool takes them.
    place
        Where the session answers.

    Returns
    -------
    :
        The tool's exit code; 0 where the session was told to end.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = free_port()
    tool = Tool(fill(command, port=port, prefix=place.prefix), port)
    try:
        await tool.start()
    except FileNotFoundError:
        say(
            f"there is no program {command[0]} in this image; its datalab.yaml names another command than it has"
        )
        return NO_SUCH_PROGRAM
    except OSError as exc:
        say(f"{command[0]} cannot be run: {exc.strerror or exc}")
        return CANNOT_RUN
    try:
        return await _live(tool, place, stop, whole_paths=any("{prefix}" in word for word in command))
    finally:
        await tool.stop()


async def _live(tool: Tool, place: Place, stop: asyncio.Event, *, whole_paths: bool) -> int:
    ended = asyncio.ensure_future(tool.ended())
    told = asyncio.ensure_future(stop.wait())
    background: list[asyncio.Future[Any]] = [ended, told]
    server: HTTPServer | None = None
    try:
        # The session counts as started when its port is open, so it opens when there is something to see.
        if not await _first(tool.answers(), ended, told):
            return _result(tool, ended)
        activity = Activity.from_environment()
        visitors = Visitors(HubOAuth.instance(cache_max_age=ASK_AGAIN), Visits())
        background += [asyncio.ensure_future(activity.keep_reporting())]
        background += [asyncio.ensure_future(visitors.keep_looking())]
        app = make_door(
            prefix=place.prefix,
            port=tool.port,
            whole_paths=whole_paths,
            visitors=visitors,
            activity=activity,
        )
        server = HTTPServer(app, xheaders=True, max_body_size=LARGEST_BODY, max_buffer_size=LARGEST_BODY)
        server.listen(place.port, place.address)
        say(f"{tool.name} answers; the door is open on port {place.port}")
        await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
        return _result(tool, ended)
    finally:
        if server is not None:
            server.stop()
        for one in background:
            one.cancel()
        await asyncio.gather(*background, return_exceptions=True)


async def _first(wanted: Coroutine[Any, Any, None], *ends: asyncio.Future[Any]) -> bool:
    """Wait for `wanted` or one of `ends`; return whether it was `wanted`."""
    task = asyncio.ensure_future(wanted)
    await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def _result(tool: Tool, ended: asyncio.Future[int]) -> int:
    if not ended.done():
        say(f"told to end; {tool.name} ends too")
        return 0
    say(verdict(tool.name, ended.result()))
    return exit_code(ended.result())


def main(args: list[str]) -> int:
    """Run the command after ``--``; return the exit code.

    Parameters
    ----------
    args
        ``["--", PROGRAM, ARGUMENT...]``.
    """
    command = args[1:] if args[:1] == ["--"] else args
    if not command:
        sys.stderr.write(
            "usage: python -P -m cupola.lab.app -- COMMAND...; the command may hold {port} and {prefix}\n"
        )
        return 2
    try:
        place = Place.from_environment(os.environ)
    except StartError as exc:
        say(str(exc))
        return 2
    prepare_home(os.environ)
    return asyncio.run(serve(command, place))
