from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import subprocess
import sys

import pytest

from cupola.lab.guardian.folder import KernelFolder, hold_session, kernel_folders, living, sessions_database
from cupola.lab.guardian.kernels.sessions import is_usable


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    monkeypatch.setenv("CUPOLA_SESSION", "s1")
    return tmp_path


HOLDS = """
import sys, time
from cupola.lab.guardian import folder
folder.WAIT_SECONDS = float(sys.argv[1])
print(folder.hold_session(), flush=True)
sys.stdin.read()
"""


def holder(seconds):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "x" * 200, "a\0b"])
def test_what_is_no_id_has_no_folder(name):
    with pytest.raises(ValueError, match="cannot be the id"):
        KernelFolder.of(name)


def test_only_folders_of_kernels_are_found(runtime):
    for name in ("k1", ".removed", "k2"):
        (runtime / "kernels" / name).mkdir(parents=True)
    (runtime / "kernels" / "file").touch()
    assert [folder.kernel_id for folder in kernel_folders()] == ["k1", "k2"]


def test_two_who_look_do_not_take_each_other_for_the_guardian():
    folder = KernelFolder.of("k1")
    folder.path.mkdir(parents=True)
    folder.lock.touch()
    other = os.open(folder.lock, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_SH)
    assert not folder.alive
    fcntl.flock(other, fcntl.LOCK_EX)
    assert folder.alive
    os.close(other)
    assert not folder.alive


@pytest.mark.parametrize("record", ["", "{", "[]", '{"guardian": "x"}', '{"guardian": 999999999}'])
def test_a_damaged_record_belongs_to_nobody(record):
    folder = KernelFolder.of("k1")
    folder.path.mkdir(parents=True)
    folder.record_file.write_text(record)
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert folder.alive
    assert folder.guardian is None
    assert list(living("s1")) == []
    os.close(lock)


def test_kernels_of_other_sessions_are_not_ours():
    folder = KernelFolder.of("k1")
    folder.path.mkdir(parents=True)
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    guardian = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()", str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    guardian.stdout.readline()
    folder.record_file.write_text(json.dumps({"guardian": guardian.pid, "session": "s1"}))
    assert [one.kernel_id for one in living("s1")] == ["k1"]
    assert list(living("s2")) == []
    guardian.communicate(b"\n")
    assert list(living("s1")) == []
    os.close(lock)


def test_one_server_holds_a_session_and_the_next_one_after_its_end():
    first, second = holder(0), holder(0.2)
    said = sorted((first.stdout.readline(), second.stdout.readline()))
    assert said == ["False\n", "True\n"]
    third = holder(60)
    for one in (first, second):
        one.communicate()
    assert third.stdout.readline() == "True\n"
    third.communicate()


def test_a_home_that_cannot_be_written_is_held_by_whoever_comes(runtime):
    (runtime / "sessions").write_text("not a folder")
    assert hold_session()


def test_a_list_of_sessions_that_cannot_be_read_is_moved_aside(capsys):
    place = sessions_database()
    assert is_usable(place)
    place.write_bytes(b"nothing that sqlite knows" * 300)
    assert is_usable(place)
    assert place.with_suffix(".damaged").exists()
    assert "damaged" in capsys.readouterr().err
    with sqlite3.connect(place) as file:
        file.execute("CREATE TABLE session (session_id, path, name, type, kernel_id)")
    file.close()
    assert is_usable(place)


def test_a_place_where_nothing_can_be_written_is_told(runtime, capsys):
    (runtime / "sessions").write_text("not a folder")
    assert not is_usable(sessions_database())
    assert "not kept" in capsys.readouterr().err
