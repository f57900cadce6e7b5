from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
import websockets
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.websocket import websocket_connect
from websockets.exceptions import ConnectionClosed

from cupola.exceptions import StartError
from cupola.lab.app import desktop as desktop_module
from cupola.lab.app.desktop import LOST, Desktop, screen_command, show
from cupola.lab.app.screen import make_screen

FAKE_X = """#!{python}
# Stands in for Xvnc: says its display's number, and speaks VNC's first line on its socket.
import os, socket, sys, time
words = sys.argv[1:]
os.write(int(words[words.index("-displayfd") + 1]), b"7\\n")
os.close(int(words[words.index("-displayfd") + 1]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(words[words.index("-rfbunixpath") + 1])
listener.listen()
open("x.pid", "w").write(str(os.getpid()))
while True:
    one, _ = listener.accept()
    one.sendall(b"RFB 003.008\\n")
    while data := one.recv(100):
        one.sendall(data)
"""


@contextlib.asynccontextmanager
async def screen(tmp_path, answer):
    """Serve a screen whose X server is `answer`, a function of reader and writer."""
    socket = tmp_path / "rfb"
    novnc = tmp_path / "novnc"
    (novnc / "core").mkdir(parents=True)
    (novnc / "core" / "rfb.js").write_text("export default 1;")
    x_server = await asyncio.start_unix_server(answer, socket)
    listener, port = bind_unused_port()
    server = HTTPServer(make_screen("Mars <b>&", socket, novnc))
    server.add_sockets([listener])
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.stop()
        await server.close_all_connections()
        x_server.close()


async def echo(reader, writer):
    writer.write(b"RFB 003.008\n")
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_the_page_and_its_files(tmp_path):
    async def go():
        async with screen(tmp_path, echo) as url:
            client = AsyncHTTPClient()
            page = (await client.fetch(url)).body.decode()
            assert "<title>Mars &lt;b&gt;&amp;</title>" in page
            for name in ("screen.js", "screen.css", "novnc/core/rfb.js"):
                assert f'"{name}"' in page or name.startswith("novnc") or "./novnc" in page
                assert (await client.fetch(url + name)).code == 200
            for name in ("desktop.py", "novnc/../rfb", "novnc/%2e%2e/rfb", "no"):
                with pytest.raises(HTTPClientError, match=r"40[34]"):
                    await client.fetch(url + name)

    asyncio.run(go())


def test_bytes_go_both_ways(tmp_path):
    async def go():
        async with screen(tmp_path, echo) as url:
            wire = await websocket_connect(url.replace("http:", "ws:") + "rfb")
            assert await wire.read_message() == b"RFB 003.008\n"
            large = os.urandom(3_000_000)
            await wire.write_message(large, binary=True)
            got = b""
            while len(got) < len(large):
                got += await wire.read_message()
            assert got == large
            wire.close()
            assert await wire.read_message() is None

    asyncio.run(go())


async def ending(url):
    """Return how the websocket is closed."""
    async with websockets.connect(url.replace("http:", "ws:") + "rfb", proxy=None) as wire:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(wire.recv(), 30)
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_the_browser_is_told_when_the_screen_is_gone(tmp_path):
    async def leave(_reader, writer):
        writer.close()

    async def go():
        async with screen(tmp_path, leave) as url:
            assert await ending(url) == (1000, "the screen is gone")
            (tmp_path / "rfb").unlink()
            assert await ending(url) == (1011, "the screen is gone")

    asyncio.run(go())


def test_the_x_server_has_no_door_of_its_own(tmp_path):
    command = screen_command(tmp_path / "rfb", 5, "Mars")
    text = " ".join(command)
    assert f"-rfbunixpath {tmp_path}/rfb -rfbunixmode 0600 -rfbport -1" in text
    assert "-nolisten tcp" in text


@pytest.fixture
def x_server(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "Xvnc"
    program.write_text(FAKE_X.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return program


def live(tmp_path, command, meanwhile=None, port=None):
    """Show `command` on a screen; return the exit code."""

    async def go():
        desktop = Desktop("Mars", tmp_path)
        task = asyncio.ensure_future(show(desktop, command, port or bind_and_free(), None))
        try:
            if meanwhile is not None:
                await meanwhile(task)
            return await asyncio.wait_for(task, 60)
        finally:
            await desktop.stop()

    return asyncio.run(go())


def bind_and_free():
    listener, port = bind_unused_port()
    listener.close()
    return port


async def there(file):
    while not file.exists() or not file.read_text():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.02)


def gone(file):
    with contextlib.suppress(FileNotFoundError):
        return not Path(f"/proc/{file.read_text()}").exists()
    return True


def test_a_tool_lives_on_the_screen_and_ends_it(x_server, tmp_path):
    code = "import os, sys; open('display', 'w').write(os.environ['DISPLAY']); sys.exit(7)"
    assert live(tmp_path, [sys.executable, "-c", code]) == 7
    assert x_server.exists()
    assert (tmp_path / "display").read_text() == ":7"
    assert gone(tmp_path / "x.pid")


@pytest.mark.usefixtures("x_server")
def test_told_to_end_it_ends_with_nothing_left(tmp_path):
    async def tell(_task):
        await there(tmp_path / "tool.pid")
        os.kill(os.getpid(), signal.SIGTERM)

    code = "import os, time; open('tool.pid', 'w').write(str(os.getpid())); time.sleep(1000)"
    assert live(tmp_path, [sys.executable, "-c", code], tell) == 0
    assert gone(tmp_path / "tool.pid")
    assert gone(tmp_path / "x.pid")


@pytest.mark.usefixtures("x_server")
def test_an_x_server_that_dies_ends_the_session(tmp_path, capfd):
    async def kill(_task):
        await there(tmp_path / "tool.pid")
        await there(tmp_path / "x.pid")
        os.kill(int((tmp_path / "x.pid").read_text()), signal.SIGKILL)

    code = "import os, time; open('tool.pid', 'w').write(str(os.getpid())); time.sleep(1000)"
    assert live(tmp_path, [sys.executable, "-c", code], kill) == LOST
    assert "the X server ended by itself" in capfd.readouterr().err
    assert gone(tmp_path / "tool.pid")


def test_an_x_server_that_cannot_start_is_said(x_server, tmp_path, monkeypatch):
    x_server.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(StartError, match="the X server ended at once"):
        live(tmp_path, ["true"])
    x_server.write_text("#!/bin/sh\nexec sleep 1000\n")
    monkeypatch.setattr(desktop_module, "X_SERVER_SECONDS", 0.2)
    with pytest.raises(StartError, match="the X server did not come up"):
        live(tmp_path, ["true"])
    x_server.unlink()
    with pytest.raises(StartError, match="this image has no X server"):
        live(tmp_path, ["true"])


@pytest.mark.usefixtures("x_server")
def test_a_tool_that_is_not_there_is_said(tmp_path):
    with pytest.raises(StartError, match="no-such-tool cannot be run: No such file or directory"):
        live(tmp_path, ["no-such-tool"])
