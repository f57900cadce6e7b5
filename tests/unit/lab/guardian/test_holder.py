"""What a terminal said, said again to a new screen."""

from __future__ import annotations

import subprocess
import time

import psutil
import pytest

from cupola.lab.guardian.terminals import held, holder
from cupola.lab.guardian.terminals import manager as terminals
from cupola.lab.guardian.terminals.holder import RESET, Scrollback


def said(*parts, most=64):
    kept = Scrollback(most)
    for part in parts:
        kept.add(part)
    return kept


def test_what_is_kept_begins_with_a_line_and_stays_small():
    kept = said(*(b"line %d\r\n" % number for number in range(1000)))
    replay = kept.replay().removeprefix(RESET)
    assert replay.startswith(b"line ")
    assert replay.endswith(b"line 999\r\n")
    assert 64 - len(b"line 999\r\n") <= len(replay) <= 2 * 64


def test_one_line_without_end_is_kept_small_too():
    kept = said(*(b"x" * 10 for _ in range(1000)))
    assert len(kept.kept) <= 2 * 64


def test_how_the_terminal_was_set_is_said_again_when_that_was_cut_off():
    kept = said(b"\x1b[?1049h\x1b[?1;2004h\n", *(b"row %d\n" % number for number in range(100)))
    assert b"1049" not in bytes(kept.kept)
    replay = kept.replay()
    assert replay.startswith(RESET + b"\x1b[?1049h")
    assert b"\x1b[?1h" in replay
    assert b"\x1b[?2004h" in replay
    assert kept.fills_screen()
    kept.add(b"\x1b[?1049l$ ")
    assert not kept.fills_screen()


@pytest.mark.parametrize(
    "question",
    [
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[=0c",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b]11;?\x07",
        b"\x1b]4;1;?\x1b\\",
        b"\x1b[>0q",
        b"\x1b[?2026$p",
        b"\x1b[18t",
        b"\x1bP+q544e\x1b\\",
    ],
)
def test_what_a_program_asked_the_terminal_is_not_asked_again(question):
    assert said(b"a" + question + b"b", most=1000).replay() == RESET + b"ab"


@pytest.mark.parametrize(
    "drawn", [b"\x1b[31mred\x1b[0m", b"\x1b[2J\x1b[10;20H", b"\x1b]0;title\x07", "é→".encode()]
)
def test_what_is_drawn_is_drawn_again(drawn):
    assert said(drawn, most=1000).replay() == RESET + drawn


def test_sessions_of_one_home_have_terminals_of_their_own(tmp_path):
    def place(session):
        return held.terminals_folder({"CUPOLA_RUNTIME": str(tmp_path), "CUPOLA_SESSION": session})

    assert place("lab-1") == tmp_path / "terminals" / "lab-1"
    assert place("lab-1") != place("lab-2")
    assert place("../../etc") == place("")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 61, "é"])
def test_a_name_that_makes_no_folder_is_none(name):
    assert not held.is_name(name)
    assert held.is_name("build_2")


def test_a_record_that_names_another_folder_makes_nothing_there_go_away(tmp_path):
    place = tmp_path / "terminals" / "1"
    place.mkdir(parents=True)
    (place / "lock").touch()
    other = tmp_path / "mine"
    other.mkdir()
    (other / "socket").touch()
    for record in ({"socket": str(other / "socket")}, {"socket": 7}, ["no"], None):
        holder.write(str(place / "holder.json"), record)
        assert not held.Held(place).alive
    holder.write(str(place / "holder.json"), {"socket": str(other / "socket")})
    held.Held(place).clean()
    assert not place.exists()
    assert (other / "socket").exists()


def test_nobody_answers_for_a_terminal_that_is_not_there(tmp_path):
    missing = held.Held(tmp_path / "9")
    assert not missing.alive
    assert missing.code() is None
    with pytest.raises(held.NotHeldError, match="terminal 9 does not answer"):
        missing.ask(redraw=True)


@pytest.mark.parametrize(("word", "waited_for"), [("", True), ("nohup", False)])
def test_programs_that_are_told_to_go_on_are_not_waited_for(word, waited_for):
    shell = subprocess.Popen(
        ["sh", "-c", f"{word} sleep 1000 & wait"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    found = []
    try:
        end = time.monotonic() + 60
        while not (found := [one for one in psutil.Process(shell.pid).children() if one.name() == "sleep"]):
            assert time.monotonic() < end
            time.sleep(0.02)
        shell.kill()
        shell.wait()
        assert holder._are_ending(shell.pid) == waited_for
        found[0].kill()
        psutil.wait_procs(found, 60)
        assert not holder._are_ending(shell.pid)
    finally:
        for one in found:
            if one.is_running():
                one.kill()
        shell.kill()
        shell.wait()


def test_switched_off_terminals_are_jupyterlabs_own(monkeypatch):
    assert "SurvivingTerminals" in terminals.terminal_settings()[0]
    monkeypatch.setenv("CUPOLA_GUARDIAN", "0")
    assert terminals.terminal_settings() == []
