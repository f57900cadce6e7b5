"""``python -P -m cupola.lab.app.check``: what the ``verify`` of a datalab of kind ``web`` runs inside its image.

It starts the datalab's own command behind its door, as a session does, with a small hub that knows two people, and looks at
what a browser would see: the sign-in, the page, the screen's websocket and the window of the tool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import websocket_connect
from typing_extensions import override

from cupola.lab.app.tool import free_port, say

__all__ = ["main"]

PREFIX = "/user/verify/check/"
OWNER, STRANGER = "owner", "stranger"
SCOPES = {OWNER: ["access:servers!user=verify"], STRANGER: ["access:servers!user=stranger"]}
SECONDS = 240.0
FORBIDDEN = 403
FOUND = 302
OK = 200


class CheckError(Exception):
    """The image does not do what it should; the text says what."""


class Hub(BaseHTTPRequestHandler):
    """Says who a token belongs to."""

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer ``/hub/api/user``."""
        name = self.headers.get("Authorization", "").removeprefix("token ")
        known = {"kind": "user", "name": name, "admin": False, "groups": [], "scopes": SCOPES.get(name, [])}
        content = json.dumps(known).encode()
        self.send_response(OK if name in SCOPES else FORBIDDEN)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Session:
    """The datalab's command behind its door."""

    def __init__(self, command: list[str], hub_port: int) -> None:
        self.port = free_port()
        environment = {
            **os.environ,
            "JUPYTERHUB_API_TOKEN": "token-of-the-session",
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub_port}/hub/api",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_USER": OWNER,
            "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-verify-check",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(SCOPES[OWNER]),
            "JUPYTERHUB_OAUTH_CALLBACK_URL": PREFIX + "oauth_callback",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}{PREFIX}",
        }
        program = [sys.executable, "-P", "-m", "cupola.lab.app", "--", *command]
        self.process = subprocess.Popen(program, env=environment)
        self.url = f"http://127.0.0.1:{self.port}{PREFIX}"

    async def get(self, path: str = "", token: str | None = None) -> HTTPResponse:
        """Ask for a page as somebody."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = HTTPRequest(self.url + path, headers=headers, follow_redirects=False, request_timeout=60)
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    async def ready(self) -> None:
        """Wait until the door is open."""
        end = time.monotonic() + SECONDS
        while True:
            if self.process.poll() is not None:
                raise CheckError(
                    f"the session ended with exit code {self.process.returncode} before it was ready"
                )
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if time.monotonic() > end:
                    raise CheckError(f"the session was not ready after {SECONDS:.0f} s") from None
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return

    def stop(self) -> None:
        """End it as the platform does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise CheckError("the session does not end when it is told to") from None
        if code != 0:
            raise CheckError(f"told to end, the session ends with exit code {code}")


def need(met: object, sentence: str) -> None:
    """Raise with `sentence` where something is not met."""
    if not met:
        raise CheckError(sentence)


async def check_door(session: Session, words: str) -> None:
    """Check who gets in, and that the page is the tool's."""
    answer = await session.get()
    need(answer.code == FOUND, f"a stranger gets status {answer.code} instead of the sign-in")
    answer = await session.get(token=STRANGER)
    need(answer.code == FORBIDDEN, f"somebody else gets status {answer.code} instead of 403")
    answer = await session.get(token=OWNER)
    text = answer.body.decode(errors="replace")
    need(answer.code in {OK, FOUND}, f"the owner gets status {answer.code}: {text[:200]}")
    need(words in text or answer.code == FOUND, f"the page does not have the words {words!r}: {text[:200]}")
    say("the sign-in stands in front, and the page is there")


async def check_screen(session: Session) -> None:
    """Check that the websocket of the screen is a VNC server's, and only for who may see it."""
    script = await session.get("novnc/core/rfb.js", token=OWNER)
    need(script.code == OK, f"noVNC's script gets status {script.code}")
    url = session.url.replace("http:", "ws:") + "rfb"
    try:
        await websocket_connect(url)
    except HTTPClientError as exc:
        need(exc.code == FORBIDDEN, f"a stranger's websocket gets status {exc.code}")
    else:
        raise CheckError("a stranger can open the websocket of the screen")
    wire = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {OWNER}"}))
    try:
        hello = await asyncio.wait_for(wire.read_message(), 30)
    except TimeoutError:
        raise CheckError("the screen says nothing on its websocket") from None
    wire.close()
    need(
        isinstance(hello, bytes) and hello.startswith(b"RFB 003."),
        f"the screen says {hello!r} instead of RFB",
    )
    say("the screen answers on its websocket")


def screen() -> dict[str, str]:
    """Return the environment of programs on the one screen there is."""
    found = [f":{socket.name[1:]}" for socket in Path("/tmp/.X11-unix").glob("X*")]  # noqa: S108 - where X has it
    need(len(found) == 1, f"there are {len(found)} X servers instead of one")
    return {**os.environ, "DISPLAY": found[0]}


async def check_window(name: str) -> None:
    """Wait for a visible window whose title matches the regular expression `name`."""
    end = time.monotonic() + SECONDS
    while True:
        found = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
            [
                "/usr/bin/xdotool",
                "search",
                "--onlyvisible",
                "--name",
                name,
                "getwindowname",
                "getwindowgeometry",
            ],
            env=screen(),
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            say(" ".join(found.stdout.split()))
            return
        need(time.monotonic() < end, f"no window {name!r} came up in {SECONDS:.0f} s")
        await asyncio.sleep(0.5)


async def check(session: Session, chosen: argparse.Namespace, started: list[subprocess.Popen[bytes]]) -> None:
    """Check all that was asked for; what runs besides is added to `started`."""
    start = time.monotonic()
    await session.ready()
    say(f"ready after {time.monotonic() - start:.1f} s")
    await check_door(session, chosen.words)
    if chosen.screen:
        await check_screen(session)
    started += [subprocess.Popen(program.split(), env=screen()) for program in chosen.start]  # noqa: ASYNC220 - left alone
    for name in chosen.window:
        await check_window(name)
    need(session.process.poll() is None, "the session ended during the check")


def main(args: list[str]) -> int:
    """Check; return 0 where all is well, else 1.

    Parameters
    ----------
    args
        ``[--words TEXT] [--screen] [--start PROGRAM]... [--window REGEX]...``; the command is taken from ``CUPOLA_COMMAND``, a JSON list.
    """
    parser = argparse.ArgumentParser(prog="cupola.lab.app.check")
    parser.add_argument("--words", default="")
    parser.add_argument("--screen", action="store_true")
    parser.add_argument(
        "--start", action="append", default=[], metavar="PROGRAM", help="on the screen, besides"
    )
    parser.add_argument("--window", action="append", default=[], metavar="REGEX")
    chosen = parser.parse_args(args)
    command: list[str] = json.loads(os.environ["CUPOLA_COMMAND"])
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    session = Session(command, hub.server_address[1])
    started: list[subprocess.Popen[bytes]] = []
    try:
        asyncio.run(check(session, chosen, started))
        session.stop()
    except CheckError as exc:
        say(f"the check failed: {exc}")
        return 1
    finally:
        for program in started:
            program.kill()
            program.wait()
        if session.process.poll() is None:
            session.process.terminate()
            session.process.wait()
        hub.shutdown()
    say("the check passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
