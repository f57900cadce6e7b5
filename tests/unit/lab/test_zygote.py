"""The fork server, with a small module instead of a Jupyter server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cupola.hub.processes import KnownProcess
from cupola.hub.zygotes import Zygote, plain_environment

SERVE = "import sys; from cupola.lab import zygote; zygote.PRELOAD = (); zygote.main(sys.argv[1:])"
CHILD = """
import json, os, signal, sys, time
def main(args):
    print(json.dumps({"args": args, "env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0),
        "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler}), flush=True)
    if args[0] == "sleep":
        time.sleep(100)
    sys.exit(int(args[0]))
"""


@pytest.fixture
def zygote(tmp_path):
    # Deeper than the 108 characters that the system takes for a socket.
    folder = tmp_path / ("deep" * 20) / ("deep" * 20)
    folder.mkdir(parents=True)
    (tmp_path / "made_up_child.py").write_text(CHILD)
    made = Zygote(folder / "it.sock")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(made.socket)],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "SECRET": "x"},
    )
    until(made.socket.exists)
    yield made
    process.terminate()
    assert process.wait(timeout=60) in {0, -signal.SIGKILL}


def until(question, seconds=60):
    end = time.monotonic() + seconds
    while not (said := question()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return said


def fork(zygote, folder, *args):
    request = {
        "module": "made_up_child",
        "args": list(args),
        "env": {"ONLY": "this"},
        "cwd": str(folder),
        "log": str(folder / "log"),
        "exit": str(folder / "exit"),
    }
    return asyncio.run(zygote.fork(request))


def test_a_fork_gets_its_own_arguments_environment_and_session(zygote, tmp_path):
    pid = fork(zygote, tmp_path, "sleep", "b")
    seen = until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text())
    said = json.loads(seen)
    assert said == {
        "args": ["sleep", "b"],
        "env": {"ONLY": "this"},
        "cwd": str(tmp_path),
        "sid": pid,
        "int": True,
    }
    process = psutil.Process(pid)
    assert process.ppid() == zygote.process().pid
    process.send_signal(signal.SIGTERM)
    until(lambda: (tmp_path / "exit").exists() and (tmp_path / "exit").read_text())
    assert os.WTERMSIG(int((tmp_path / "exit").read_text())) == signal.SIGTERM


def test_the_exit_code_is_noted_and_no_zombie_stays(zygote, tmp_path):
    pid = fork(zygote, tmp_path, "7")
    until(lambda: (tmp_path / "exit").exists() and (tmp_path / "exit").read_text())
    assert os.waitstatus_to_exitcode(int((tmp_path / "exit").read_text())) == 7
    assert not psutil.pid_exists(pid)


def test_nonsense_does_not_end_it(zygote, tmp_path):
    async def send(line):
        from cupola.hub.zygotes import _short_path

        with _short_path(zygote.socket) as path:
            reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    for line in (b"", b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"module": "x"}\n', b"\xff\n", b"null\n"):
        assert asyncio.run(send(line)) == b""
    assert fork(zygote, tmp_path, "0") > 0


def test_a_module_that_is_missing_is_said_in_the_log(zygote, tmp_path):
    request = {
        "module": "no_such_module",
        "env": {},
        "cwd": str(tmp_path),
        "log": str(tmp_path / "log"),
        "exit": str(tmp_path / "exit"),
    }
    asyncio.run(zygote.fork(request))
    until(lambda: (tmp_path / "exit").exists() and (tmp_path / "exit").read_text())
    assert "no_such_module" in (tmp_path / "log").read_text()


def test_forks_outlive_it(zygote, tmp_path):
    pid = fork(zygote, tmp_path, "sleep")
    psutil.Process(zygote.process().pid).terminate()
    until(lambda: zygote.process() is None)
    assert psutil.Process(pid).is_running()
    psutil.Process(pid).kill()
    assert not asyncio.run(zygote.answers())


def test_a_second_one_on_the_same_socket_ends_by_itself(zygote):
    second = subprocess.run([sys.executable, "-c", SERVE, str(zygote.socket)], timeout=30, check=False)
    assert second.returncode == 0
    assert asyncio.run(zygote.answers())


def test_the_one_after_a_killed_one_takes_its_socket(zygote, tmp_path):
    dead = zygote.process()
    psutil.Process(dead.pid).kill()
    until(lambda: zygote.process() is None)
    assert zygote.socket.exists()
    with pytest.raises(OSError):  # noqa: PT011 - the system words it
        fork(zygote, tmp_path, "0")
    again = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(zygote.socket)], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    try:
        until(lambda: asyncio.run(zygote.answers()))
        assert zygote.process() == KnownProcess.of(again.pid)
        assert fork(zygote, tmp_path, "0") > 0
    finally:
        again.terminate()
        again.wait()


def test_its_environment_holds_nothing_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("CUPOLA_INTERNAL_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PATH", f"{Path(sys.prefix) / 'bin'}:/usr/bin")
    assert "CUPOLA_INTERNAL_TOKEN" not in plain_environment(tmp_path)
    assert "PYTHONPATH" not in plain_environment(tmp_path)
    assert plain_environment(tmp_path)["PATH"] == "/usr/bin"
