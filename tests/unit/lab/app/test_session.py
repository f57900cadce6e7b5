from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from cupola.lab.app.tool import fill, verdict
from support.app_session import PATIENCE, PREFIX, SCOPE, TOOL, AppSession, DoorHub, sign_in


@pytest.fixture
def hub():
    one = DoorHub()
    yield one
    one.stop()


def run(hub, folder, command=None, **more):
    return AppSession(hub, folder, command, **more)


def left(folder):
    """Return whether what the tool started still runs."""
    pid = int((folder / "child.pid").read_text())
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}


@pytest.mark.parametrize("stubborn", [[], ["--stubborn"]])
def test_told_to_end_both_end_with_all_they_started(hub, tmp_path, stubborn):
    session = run(hub, tmp_path, [sys.executable, str(TOOL), "{port}", *stubborn]).ready()
    try:
        assert left(tmp_path)
        assert session.stop() == 0
        assert not left(tmp_path)
        assert f"told to end; {Path(sys.executable).name} ends too" in session.said()
    finally:
        session.close()


def test_a_tool_that_ends_by_itself_ends_the_session_with_its_code(hub, tmp_path):
    session = run(hub, tmp_path).ready()
    try:
        client = sign_in(session, hub, "maria", SCOPE)
        client.post(PREFIX + "exit", content=b"7")
        assert session.process.wait(PATIENCE) == 7
        assert not left(tmp_path)
        assert "the tool is up" in session.said()
        assert "ended by itself with exit code 7; what it said is above" in session.said()
    finally:
        session.close()


def test_a_killed_tool_is_told_apart(hub, tmp_path):
    session = run(hub, tmp_path).ready()
    try:
        client = sign_in(session, hub, "maria", SCOPE)
        client.post(PREFIX + "killed")
        assert session.process.wait(PATIENCE) == 128 + signal.SIGKILL
        assert "was killed, most likely because the session had no memory left" in session.said()
    finally:
        session.close()


def test_a_tool_that_never_comes_up_shows_why(hub, tmp_path):
    code = "import sys; print('no licence file', file=sys.stderr); sys.exit(3)"
    session = run(hub, tmp_path, [sys.executable, "-c", code])
    try:
        assert session.process.wait(PATIENCE) == 3
        assert "no licence file" in session.said()
    finally:
        session.close()


def test_a_session_can_be_ended_while_its_tool_still_starts(hub, tmp_path):
    code = "import time; print('starting', flush=True); time.sleep(1000)"
    session = run(hub, tmp_path, [sys.executable, "-c", code])
    try:
        session.until(lambda: "starting" in session.said())
        assert session.stop() == 0
    finally:
        session.close()


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (["no-such-program"], 127, "there is no program no-such-program in this image"),
        (["/etc/passwd"], 126, "/etc/passwd cannot be run: Permission denied"),
    ],
)
def test_a_wrong_command_is_said(hub, tmp_path, command, code, sentence):
    session = run(hub, tmp_path, command)
    try:
        assert session.process.wait(PATIENCE) == code
        assert sentence in session.said()
    finally:
        session.close()


@pytest.mark.parametrize("name", ["JUPYTERHUB_API_TOKEN", "JUPYTERHUB_OAUTH_ACCESS_SCOPES"])
def test_without_a_hub_nothing_is_started(hub, tmp_path, name):
    session = run(hub, tmp_path, **{name: ""})
    try:
        assert session.process.wait(PATIENCE) == 2
        assert f"{name} is not set; launch it from the catalogue" in session.said()
        assert not (tmp_path / "child.pid").exists()
    finally:
        session.close()


def test_volumes_are_linked_in_the_home(hub, tmp_path):
    source = tmp_path / "mars"
    source.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    volumes = (
        f'[{{"volume": "mars", "source": "{source}", "target": "{home}/volumes/mars", "access": "read"}}]'
    )
    session = run(hub, tmp_path, HOME=str(home), CUPOLA_VOLUMES=volumes).ready()
    try:
        assert (home / "volumes" / "mars").readlink() == source
        assert (home / "child.pid").exists()  # it starts in the home
    finally:
        session.close()


def test_only_our_braces_are_filled_in():
    command = ["tool", "--port={port}", "{prefix}x", "{other}", "a{}b"]
    assert fill(command, port=5, prefix="/p/") == ["tool", "--port=5", "/p/x", "{other}", "a{}b"]


def test_a_tool_that_is_closed_is_no_failure():
    assert verdict("topcat", 0) == "topcat was closed"
    assert "SIGSEGV" in verdict("topcat", -signal.SIGSEGV)
