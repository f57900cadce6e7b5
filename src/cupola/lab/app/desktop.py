"""``python -P -m cupola.lab.app.desktop``: a tool with windows, on a screen in the browser.

It starts an X server that speaks VNC to a socket nobody else can open, a window manager, a list of windows and the tool,
and serves the page that shows the screen. The screen has no password of its own: the hub's sign-in stands in front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer

from cupola.exceptions import StartError
from cupola.lab.app.screen import make_screen
from cupola.lab.app.tool import exit_code, say, verdict

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Coroutine, Iterable
    from typing import Any

__all__ = ["Desktop", "main", "screen_command"]

SETTINGS = Path("/etc/cupola/desktop")
"""Where the image keeps the settings of the window manager and the list of windows."""
FIRST_SIZE = "1440x900"
"""Until the first browser says how large its window is."""
X_SERVER_SECONDS = 30.0
WINDOW_SECONDS = 90.0
STEP = 0.2
LOST = 70
"""Exit code where the X server ended by itself."""


def screen_command(socket: Path, display_fd: int, title: str) -> list[str]:
    """Return how the X server is started: no port at all, neither for X nor for VNC."""
    return [
        "Xvnc",
        *("-displayfd", str(display_fd)),
        *("-rfbunixpath", str(socket), "-rfbunixmode", "0600", "-rfbport", "-1"),
        *("-SecurityTypes", "None", "-AlwaysShared", "-AcceptSetDesktopSize"),
        # What is merely selected does not overwrite the clipboard of the browser's machine.
        *("-SendPrimary=0", "-SetPrimary=0", "-MaxCutText", str(4 * 2**20)),
        *("-geometry", FIRST_SIZE, "-depth", "24", "-dpi", "96", "-desktop", title),
        *("-nolisten", "tcp", "-ac", "-noreset", "-Log", "*:stderr:0"),
    ]


def make_x_folder() -> None:
    """Make the folder where X clients look; the X server complains in the log where it has to make it itself."""
    folder = Path("/tmp/.X11-unix")  # noqa: S108 - that is the place
    with contextlib.suppress(OSError):
        folder.mkdir()
        folder.chmod(0o1777)


class Desktop:
    """All processes of a screen, in the order in which they need each other.

    Parameters
    ----------
    title
        What the screen is called.
    folder
        A private folder for sockets.
    """

    def __init__(self, title: str, folder: Path) -> None:
        self.title, self.folder = title, folder
        self.socket = folder / "rfb"
        self.environment = dict(os.environ)
        self.x_server: Process | None = None
        self._others: list[Process] = []

    async def start_screen(self) -> None:
        """Start the X server and wait until programs can open windows.

        Raises
        ------
        StartError
            If it ends or does not come up.
        """
        make_x_folder()
        reading, writing = os.pipe()
        try:
            command = screen_command(self.socket, writing, self.title)
            self.x_server = await asyncio.create_subprocess_exec(*command, pass_fds=(writing,))
        except OSError as exc:
            os.close(reading)
            raise StartError(f"this image has no X server: Xvnc {exc.strerror or exc}") from exc
        finally:
            os.close(writing)
        loop = asyncio.get_running_loop()
        with open(reading, "rb", closefd=True) as told:  # noqa: ASYNC230, PTH123 - a pipe
            try:
                number = await asyncio.wait_for(loop.run_in_executor(None, told.readline), X_SERVER_SECONDS)
            except TimeoutError as exc:
                self.x_server.kill()
                raise StartError("the X server did not come up; what it said is above") from exc
        if not number.strip():
            raise StartError("the X server ended at once; what it said is above")
        run = self.folder / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        self.environment |= {"DISPLAY": f":{number.decode().strip()}", "XDG_RUNTIME_DIR": str(run)}

    async def start_manager(self) -> None:
        """Start what manages and lists windows; what the image does not have is left out."""
        bus = f"unix:path={self.folder}/bus"
        if await self._start("dbus-daemon", "--session", "--nofork", "--nosyslog", f"--address={bus}"):
            self.environment["DBUS_SESSION_BUS_ADDRESS"] = bus
        await self._start("xsetroot", "-solid", "#12202f")
        await self._start("openbox", "--config-file", str(SETTINGS / "openbox.xml"))
        await self._start("tint2", "-c", str(SETTINGS / "tint2rc"))
        await self._start("pcmanfm", "--desktop")

    async def _start(self, *command: str) -> bool:
        if shutil.which(command[0]) is None:
            return False
        # Their chatter is none of the tool's: people look into the log for that.
        self._others.append(await self.run(list(command), quiet=True))
        return True

    async def run(self, command: list[str], *, quiet: bool = False) -> Process:
        """Start a program on the screen; with `quiet` nothing it says is kept.

        Raises
        ------
        StartError
            If the image does not have it.
        """
        try:
            out = asyncio.subprocess.DEVNULL if quiet else None
            return await asyncio.create_subprocess_exec(
                *command, env=self.environment, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
            )
        except OSError as exc:
            raise StartError(f"{command[0]} cannot be run: {exc.strerror or exc}") from exc

    async def window(self, name: str) -> None:
        """Wait for a visible window whose title matches the regular expression `name`."""
        while True:
            finder = await asyncio.create_subprocess_exec(
                *("xdotool", "search", "--onlyvisible", "--name", name),
                env=self.environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await finder.wait() == 0:
                return
            await asyncio.sleep(STEP)

    async def stop(self) -> None:
        """End all of it, the X server last."""
        for process in [*reversed(self._others), self.x_server]:
            if process is None or process.returncode is not None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def show(desktop: Desktop, command: list[str], port: int, window: str | None) -> int:
    """Show a tool until it ends, or until this is told to end; return the exit code.

    Raises
    ------
    StartError
        If the screen or the tool cannot be started.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await desktop.start_screen()
    await desktop.start_manager()
    tool = await desktop.run(command) if command else None
    told = asyncio.ensure_future(stop.wait())
    lost = asyncio.ensure_future(desktop.x_server.wait()) if desktop.x_server else told
    closed = asyncio.ensure_future(tool.wait()) if tool else told
    ends = {told, lost, closed}
    server: HTTPServer | None = None
    try:
        if window is not None:
            await _first(desktop.window(window), ends, WINDOW_SECONDS)
        if not any(one.done() for one in ends):
            server = HTTPServer(make_screen(desktop.title, desktop.socket))
            # The loopback device of the container: whoever is there is the session's own user already.
            server.listen(port, "127.0.0.1")
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if server is not None:
            server.stop()
        code = await _end(tool, command, told=told.done(), lost=lost.done() and not told.done())
        for one in ends:
            one.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    return code


async def _first(
    wanted: Coroutine[Any, Any, None], ends: Iterable[asyncio.Future[Any]], seconds: float
) -> None:
    task = asyncio.ensure_future(wanted)
    await asyncio.wait([task, *ends], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _end(tool: Process | None, command: list[str], *, told: bool, lost: bool) -> int:
    """End the tool if it still runs; return the code, and say why where nobody asked for the end."""
    if lost:
        say("the X server ended by itself, and the screen with it; what it said is above")
    if tool is None:
        return LOST if lost else 0
    if tool.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            tool.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(tool.wait(), 3)
        with contextlib.suppress(ProcessLookupError):
            tool.kill()
        await tool.wait()
        return LOST if lost else 0
    if told:
        return 0
    if tool.returncode != 0:
        say(verdict(Path(command[0]).name, tool.returncode))
    return exit_code(tool.returncode)


def main(args: list[str]) -> int:
    """Run until the tool is closed or this is told to end; return the exit code.

    Parameters
    ----------
    args
        ``--port N --title TEXT [--window REGEX] [-- COMMAND...]``: with a regular expression, the page opens when a
        window with such a title is there.
    """
    parser = argparse.ArgumentParser(
        prog="cupola.lab.app.desktop", description="A tool with windows, in the browser."
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--window")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(args)
    if chosen.window is not None:
        try:
            re.compile(chosen.window)
        except re.error as exc:
            parser.error(f"--window is no regular expression: {exc}")
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command

    async def live() -> int:
        with tempfile.TemporaryDirectory(prefix="desktop-", ignore_cleanup_errors=True) as folder:
            desktop = Desktop(chosen.title, Path(folder))
            try:
                return await show(desktop, command, chosen.port, chosen.window)
            except StartError as exc:
                say(str(exc))
                return 1
            finally:
                await desktop.stop()

    return asyncio.run(live())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
