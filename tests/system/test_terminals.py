"""Terminals outlive the Jupyter server: the same shell, the same screen, and what runs in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupola.lab.guardian.terminals import held, holder
from support.kept import KeptSession
from support.terminals import PATIENCE_S, Screen, Server, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FULL_SCREEN = """
import signal, sys, time
def draw(*_):
    sys.stdout.write("\\x1b[H\\x1b[2Jdrawn " + str(draw.times) + " times")
    sys.stdout.flush()
    draw.times += 1
draw.times = 0
signal.signal(signal.SIGWINCH, draw)
sys.stdout.write("\\x1b[?1049h")
draw()
while True:
    time.sleep(1)
"""


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path).start()
    yield made
    made.clean()


@pytest.fixture
def terminal(server):
    """A terminal, and somebody who looks at it."""
    name = server.ask("POST", "api/terminals")["name"]
    screen = server.screen(name)
    screen.size(30, 100)
    yield screen
    screen.close()


def shell_of(screen):
    screen.type("echo shell=$((1))-$$\r")
    return int(screen.until(r"shell=1-(\d+)\r").group(1))


def test_a_killed_server_that_comes_back_has_the_same_shells_screens_and_programs(server, terminal):
    shell = shell_of(terminal)
    away, back, said = (server.home / name for name in ("away", "back", "said"))
    wait = "while [ ! -e ~/{} ]; do sleep 0.1; done"
    for line in (
        "count() { for i in $(seq $1 $2); do echo line=$((i+0)); done; }\r",
        f"count 1 50; {wait.format('away')}; count 51 150; touch ~/said; {wait.format('back')}; count 151 200\r",
    ):
        terminal.type(line)
    terminal.until("line=50\r")
    server.end()
    assert Path(f"/proc/{shell}").exists()
    away.touch()
    until(said.exists)
    server.start()
    assert server.names() == ["1"]
    again = server.screen("1")
    again.until("line=150\r")
    back.touch()
    again.until("line=200\r")
    # What was said before, while there was no server, and what follows: each once and in order.
    assert [int(found) for found in re.findall(r"line=(\d+)\r", again.text)] == list(range(1, 201))
    again.type("stty size; echo still=$((0))-$$\r")
    again.until("30 100\r")
    assert int(again.until(r"still=0-(\d+)\r").group(1)) == shell
    again.close()


def test_a_server_that_is_told_to_end_leaves_the_terminals(server, terminal):
    shell = shell_of(terminal)
    server.end(signal.SIGTERM)
    assert [one.alive for one in server.held] == [True]
    server.start()
    assert server.names() == ["1"]
    assert server.held[0].record()["shell"] == shell


def test_jobs_history_colours_and_interrupts_are_as_in_any_terminal(server, terminal):
    terminal.type("sleep 1000 &\r")
    terminal.type("jobs; echo TERM=$TERM; tty\r")
    terminal.until(r"Running\s+sleep 1000")
    terminal.until("TERM=xterm-256color")
    terminal.until("/dev/pts/")
    terminal.type("cat\r")
    until(lambda: held.foreground(server.held[0].record()["shell"]))
    terminal.type("\x03")
    terminal.until(r"\^C")
    until(lambda: not held.foreground(server.held[0].record()["shell"]))
    terminal.type("kill %1; echo $((40+2))\r")
    terminal.until("42\r")
    terminal.type("\x1b[A\x1b[A\r")
    until(lambda: terminal.listen() or terminal.text.count("42\r") == 2 or terminal.text.count("cat\r") > 1)


def test_a_terminal_that_is_closed_ends_with_all_that_belongs_to_it(server, terminal):
    terminal.type("trap '' HUP TERM; echo deaf=$((1))\r")
    terminal.until("deaf=1")
    found = server.held[0]
    record = found.record()
    server.ask("DELETE", "api/terminals/1")
    terminal.until_over()
    until(lambda: not Path(f"/proc/{record['shell']}").exists())
    until(lambda: not found.path.exists())
    assert not Path(record["socket"]).parent.exists()
    assert server.names() == []


def test_a_shell_that_exits_ends_its_terminal_and_what_it_left_does_not_hold_it(server, terminal):
    terminal.type("sleep 300 & echo left=$!\r")
    left = int(terminal.until(r"left=(\d+)\r").group(1))
    try:
        terminal.type("disown; exit 7\r")
        terminal.until_over()
        until(lambda: server.names() == [])
        until(lambda: "terminal 1 ended with 7" in server.log)
        until(lambda: server.held == [])
    finally:
        os.kill(left, signal.SIGKILL)


def test_two_servers_show_the_same_terminals_and_take_no_name_twice(server, terminal, tmp_path):
    shell = shell_of(terminal)
    (tmp_path / "second").mkdir()
    second = Server(tmp_path / "second", HOME=str(server.home), CUPOLA_RUNTIME=str(server.home / ".cupola"))
    try:
        second.start()
        assert second.names() == ["1"]
        beside = second.screen("1")
        beside.type("echo both=$((1+1))-$$\r")
        assert int(terminal.until(r"both=2-(\d+)\r").group(1)) == shell
        beside.until(f"both=2-{shell}")
        assert second.ask("POST", "api/terminals")["name"] == "2"
        assert server.ask("POST", "api/terminals")["name"] == "3"
        assert server.names() == ["1", "2", "3"]
        assert second.names() == ["1", "2", "3"]
        beside.close()
    finally:
        second.end()


def test_a_holder_that_is_killed_takes_its_terminal_along_and_nothing_stays(server, terminal):
    record = server.held[0].record()
    os.kill(record["holder"], signal.SIGKILL)
    terminal.until_over()
    until(lambda: not Path(f"/proc/{record['shell']}").exists())
    until(lambda: server.names() == [] and server.held == [])
    assert not Path(record["socket"]).parent.exists()


@pytest.mark.usefixtures("terminal")
def test_what_a_holder_left_behind_while_there_was_no_server_is_not_believed(server):
    found = server.held[0]
    record = found.record()
    server.end()
    os.kill(record["holder"], signal.SIGKILL)
    until(lambda: not found.alive)
    # Its number was given to another process meanwhile.
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        holder.write(str(found.path / "holder.json"), {**record, "holder": other.pid, "shell": other.pid})
        server.start()
        assert server.names() == []
        assert not found.path.exists()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_where_no_terminal_can_be_held_there_is_one_that_ends_with_the_server(tmp_path):
    server = Server(tmp_path)
    (server.home / ".cupola").mkdir()
    # As a full disk or a file system without locks would: nothing can be made there.
    (server.home / ".cupola" / "terminals").write_text("")
    server.start()
    try:
        assert server.ask("POST", "api/terminals")["name"] == "1"
        screen = server.screen("1")
        screen.type("echo fine=$((1+1))\r")
        screen.until("fine=2")
        assert "this terminal ends with the Jupyter server" in server.log
        screen.close()
    finally:
        server.clean()


def test_a_program_that_fills_the_screen_is_drawn_anew_for_who_comes(server, terminal):
    (server.home / "full.py").write_text(FULL_SCREEN)
    terminal.type(f"{sys.executable} {server.home}/full.py\r")
    terminal.until("drawn 0 times")
    server.end()
    server.start()
    again = server.screen("1")
    drawn = int(again.until(r"drawn ([1-9]\d*) times").group(1))
    again.close()
    beside = server.screen("1")
    until(
        lambda: beside.listen() and any(f"drawn {drawn + more} times" in beside.text for more in range(1, 6))
    )
    beside.close()


def test_names_that_make_no_folder_and_no_address_are_refused(server):
    for name in ("../../x", "a b", "", "x" * 61):
        with pytest.raises(Exception, match="400"):
            server.ask("POST", "api/terminals", json={"name": name})
    assert server.ask("POST", "api/terminals", json={"name": "build"})["name"] == "build"
    assert server.names() == ["build"]


# -- the end of the session ----------------------------------------------------------------------------------

EDITS = """
import signal, sys, time
from pathlib import Path
def store(*_):
    time.sleep(0.5)
    Path(sys.argv[1]).write_text("all of it")
    sys.exit()
signal.signal(signal.SIGHUP, store)
print("edit" + "ing", flush=True)
while True:
    time.sleep(1)
"""
"""An editor that stores what was not saved when its window is closed; its shell has ended long before."""


def test_what_shells_and_editors_have_is_stored_when_the_session_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.delenv("HISTFILE", raising=False)
    (tmp_path / "edits.py").write_text(EDITS)
    session = KeptSession(tmp_path)
    try:
        session.start()
        screens = []
        for name in ("1", "2"):
            assert session.post("api/terminals", {"name": name}).status_code == 200
            address = (
                session.url.replace("http", "ws", 1) + f"terminals/websocket/{name}?token={session.token}"
            )
            screens.append(Screen(address))
        typed, edited = screens
        typed.type("nohup sleep 1000 > /dev/null 2>&1 & echo remember=$((1))\r")
        typed.until("remember=1\r")
        edited.type(f"{sys.executable} {tmp_path}/edits.py {tmp_path}/stored\r")
        edited.until("editing\r")
        assert session.stop() == 0
        assert "remember=$((1))" in (tmp_path / ".bash_history").read_text()
        assert (tmp_path / "stored").read_text() == "all of it"
        # What was told to go on is left to whoever ends the session.
        assert [one.cmdline() for one in session.left()] == [["sleep", "1000"]]
        assert not list(held.held_terminals(held.terminals_folder(session.environment)))
        for screen in screens:
            # A page that is told that its terminal has ended does not open it again in the next session.
            said = list(screen.rest())
            assert ["disconnect", 1] not in said
    finally:
        session.clean()


# -- the holder by itself ------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A terminal that no server knows."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    monkeypatch.setenv("CUPOLA_SESSION", "lab-8")
    made = held.start("1", ["bash", "--norc"], {**os.environ, "PS1": "$ "}, str(tmp_path))
    yield made
    held.end_all(made.path.parent)
    until(lambda: not made.alive)
    made.clean()
    assert not made.path.exists()


def memory_kib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_a_shell_that_nobody_looks_at_goes_on_however_much_it_says(alone, tmp_path):
    with alone.connect(b"S") as typed:
        typed.sendall(b"yes abcdefghijklmnopqrstuvwxyz | head -c 60000000; touch said\r")
    until((tmp_path / "said").exists, 120)
    record = alone.record()
    assert memory_kib(record["holder"]) < 16 << 10
    with alone.connect(b"S") as later:
        later.settimeout(10)
        replay = b""
        while not replay.endswith(b"$ "):
            replay += later.recv(1 << 16)
    assert replay.startswith(holder.RESET)
    assert holder.SCROLLBACK < len(replay) < 3 * holder.SCROLLBACK


def test_who_takes_nothing_is_waited_for_and_then_cut_off(alone, tmp_path):
    with alone.connect(b"S") as slow:
        slow.sendall(b"yes abcdefghijklmnopqrstuvwxyz | head -c 20000000; touch said\r")
        # The shell waits, its holder does not grow.
        time.sleep(2)
        assert not (tmp_path / "said").exists()
        assert memory_kib(alone.record()["holder"]) < 16 << 10
        until((tmp_path / "said").exists, 120)
        # All that was on its way, and no more: it may come again.
        slow.settimeout(10)
        while slow.recv(1 << 20):
            pass
    assert alone.alive


def test_who_takes_all_gets_all(alone):
    with alone.connect(b"S") as quick:
        quick.settimeout(60)
        quick.sendall(b"stty -echo; seq 1000000 2000000; echo EN''D\r")
        said = b""
        while b"END\r\n" not in said[-4000:]:
            said += quick.recv(1 << 20)
    numbers = said[said.index(b"1000000\r\n") : said.index(b"END")].split()
    assert numbers == [str(number).encode() for number in range(1_000_000, 2_000_001)]


def test_bytes_that_are_no_text_pass_as_they_are(alone, tmp_path):
    (tmp_path / "all").write_bytes(bytes(range(256)))
    with alone.connect(b"S") as wire:
        wire.settimeout(10)
        wire.sendall(b"stty raw -echo; cat all; echo EN''D\r")
        said = b""
        while b"END" not in said:
            said += wire.recv(1 << 16)
    assert bytes(range(256)) in said


def test_a_large_paste_waits_for_a_program_that_does_not_read(alone, tmp_path):
    with alone.connect(b"S") as wire:
        wire.sendall(b"stty raw -echo; sleep 1; head -c 2000000 > pasted; touch done\r")
        wire.settimeout(60)
        time.sleep(0.3)
        wire.sendall(b"x" * 2_000_000)
        until((tmp_path / "done").exists)
    assert (tmp_path / "pasted").read_bytes() == b"x" * 2_000_000


def test_a_holder_is_asked_wrong_things_and_goes_on(alone):
    assert "problem" in alone.ask(size="x")
    assert "problem" in alone.ask(signal=9999)
    with alone.connect(b"?") as wrong:
        assert wrong.recv(10) == b""
    with alone.connect(b"Cnonsense\n") as wrong:
        assert b"problem" in wrong.recv(1000)
    assert alone.ask(size=[10, 20])["size"] == [10, 20]


def test_all_terminals_of_a_session_end_together_and_those_of_another_do_not(alone, monkeypatch):
    monkeypatch.setenv("CUPOLA_SESSION", "lab-9")
    other = held.start("1", ["bash", "--norc"], os.environ)
    try:
        assert alone.alive
        assert held.end_all() == [other]
        until(lambda: not other.alive)
        assert alone.alive
    finally:
        other.clean()


def test_a_shell_that_does_not_want_to_end_is_killed_when_its_time_is_over(alone):
    with alone.connect(b"S") as typed:
        typed.settimeout(PATIENCE_S)
        typed.sendall(b"trap '' HUP; echo deaf=$((1))\r")
        said = b""
        while b"deaf=1\r" not in said:
            said += typed.recv(1 << 16)
    code = alone.path / "exit"
    # Its folder is there as long as nobody cleans up.
    alone.end(0.2)
    until(lambda: not alone.alive)
    assert code.exists()
    assert alone.code() == -signal.SIGKILL


def test_a_session_is_killed_by_its_mark_with_its_terminals(alone):
    record = alone.record()
    for pid in (record["holder"], record["shell"]):
        # One that just becomes another program shows nothing for a moment.
        until(
            lambda pid=pid: b"CUPOLA_SESSION=lab-8" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        )
