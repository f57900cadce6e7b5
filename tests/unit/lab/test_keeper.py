from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

PATIENCE = 60
KEEPER = """
import os, signal, sys, time
from pathlib import Path
from cupola.lab import keeper

folder = Path(sys.argv[1])
for setting in sys.argv[2:]:
    name, value = setting.split("=")
    setattr(keeper, name, float(value))

def say(text):
    with (folder / "log").open("a") as log:
        log.write(text + "\\n")

def serve():
    with (folder / "servers").open("a") as servers:
        servers.write(f"{os.getpid()}\\n")
    ends = folder / "ends"
    if not (folder / "broken").exists():
        keeper.serving()
    (folder / "serves").write_text(str(os.getpid()))
    while not ends.exists():
        time.sleep(0.01)
    code = int(ends.read_text())
    ends.unlink()
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)

code = keeper.Keeper(serve, say, "unit").run()
print(code)
"""


class Kept:
    """A keeper with a server that does as it is told."""

    def __init__(self, folder, *settings):
        self.folder = folder
        runtime = {"CUPOLA_RUNTIME": str(folder), "CUPOLA_SESSION": "unit"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(folder), *settings],
            env={**os.environ, **runtime},
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def servers(self):
        place = self.folder / "servers"
        return [int(line) for line in place.read_text().split()] if place.exists() else []

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def until_server(self, number):
        """Wait until the server of that number serves, and return its pid."""
        serves = self.folder / "serves"
        end = time.monotonic() + PATIENCE
        while not (
            len(self.servers) == number and serves.exists() and serves.read_text() == str(self.servers[-1])
        ):
            assert time.monotonic() < end
            assert self.process.poll() is None, self.log
            time.sleep(0.01)
        return self.servers[-1]

    def tell_server(self, code):
        part = self.folder / "ends.part"
        part.write_text(str(code))
        part.rename(self.folder / "ends")

    def end(self):
        """Wait for the end; return what the keeper returned."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        return int(said)


@pytest.fixture
def kept(tmp_path):
    made = []

    def make(*settings):
        made.append(Kept(tmp_path, *settings))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.communicate()


def test_a_server_that_crashes_is_started_again(kept):
    one = kept()
    os.kill(one.until_server(1), signal.SIGKILL)
    one.until_server(2)
    one.tell_server(3)
    one.until_server(3)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0
    assert "was ended by SIGKILL; it is started again" in one.log
    assert "ended with code 3; it is started again" in one.log
    assert not any(psutil.pid_exists(pid) for pid in one.servers)


def test_one_that_lived_long_is_started_again_too(kept):
    one = kept("WINDOW_SECONDS=0")
    for number in range(1, 9):
        os.kill(one.until_server(number), signal.SIGKILL)
    one.until_server(9)


def test_one_that_crashes_too_often_ends_the_session(kept):
    one = kept("PAUSE_SECONDS=0")
    for number in range(1, 7):
        one.until_server(number)
        one.tell_server(-signal.SIGSEGV)
    assert one.end() == -signal.SIGSEGV
    assert "SIGSEGV, the 6th time in a minute" in one.log


def test_a_server_that_cannot_begin_ends_the_session_at_once(kept, tmp_path):
    (tmp_path / "broken").touch()
    one = kept()
    one.until_server(1)
    one.tell_server(2)
    assert one.end() == 2
    assert len(one.servers) == 1


def test_a_server_that_was_shut_down_ends_the_session(kept):
    one = kept()
    one.until_server(1)
    one.tell_server(0)
    assert one.end() == 0
    assert len(one.servers) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_tells_the_keeper_to_end_ends_the_session(kept, number):
    one = kept()
    server = one.until_server(1)
    one.process.send_signal(number)
    assert one.end() == 0
    assert not psutil.pid_exists(server)


def test_a_server_does_not_outlive_its_keeper(kept):
    one = kept()
    server = one.until_server(1)
    one.process.kill()
    one.process.wait()
    end = time.monotonic() + PATIENCE
    while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_end_is_heard_while_the_keeper_waits_to_start_again(kept):
    one = kept("PAUSE_SECONDS=1000")
    # The first one is started again after no pause at all.
    os.kill(one.until_server(1), signal.SIGKILL)
    os.kill(one.until_server(2), signal.SIGKILL)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() in {0, -signal.SIGKILL}
    assert len(one.servers) == 2
