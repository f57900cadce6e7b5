"""What is said where nothing can be frozen; the freezing itself is in ``tests/system/test_frozen_kernels.py``."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict

import pytest

from cupola.exceptions import UnavailableError
from cupola.hub.drivers.criu import BOOT, Criu, FrozenTree
from cupola.hub.drivers.frozen import forget_stale

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="what only root is told")


def program(folder, version, check=0, said=""):
    """Write a program that says it is a criu."""
    file = folder / "criu"
    file.write_text(
        f'#!/bin/sh\n[ "$1" = check ] && {{ echo "{said}" >&2; exit {check}; }}\necho "Version: {version}"\n'
    )
    file.chmod(0o755)
    return Criu(str(file))


def test_a_missing_program_is_named():
    assert Criu("no-such-criu").usable() == "the program no-such-criu is not installed"


@ROOT
@pytest.mark.parametrize("version", ["3.17.1", "4.1.1"])
def test_an_old_version_is_refused_although_its_own_check_passes(tmp_path, version):
    assert program(tmp_path, version).usable() == f"criu is {version}, and 4.2 or newer is needed"


@ROOT
@pytest.mark.parametrize("version", ["4.2", "4.2.1", "5.0", "10.1"])
def test_newer_versions_are_taken(tmp_path, version):
    assert program(tmp_path, version).usable() is None


@ROOT
def test_what_the_check_says_is_passed_on(tmp_path):
    found = program(tmp_path, "4.2.1", check=1, said="Error: no CAP_SYS_ADMIN").usable()
    assert found == "this system's kernel does not allow it: Error: no CAP_SYS_ADMIN"


@ROOT
def test_a_program_that_is_none_is_refused(tmp_path):
    (tmp_path / "criu").write_text("no program\n")
    (tmp_path / "criu").chmod(0o755)
    assert "criu" in (Criu(str(tmp_path / "criu")).usable() or "")


@ROOT
def test_a_folder_that_others_may_enter_is_refused(tmp_path):
    """Whoever can write there could have root run anything."""
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(UnavailableError, match="only the platform's account may enter"):
        program(tmp_path, "4.2.1").freeze(os.getpid(), tmp_path / "open" / "k")
    (tmp_path / "open" / "k").mkdir()
    with pytest.raises(UnavailableError, match="only the platform's account may enter"):
        program(tmp_path, "4.2.1").thaw(tmp_path / "open" / "k")


@ROOT
def test_a_process_that_leads_no_session_is_refused(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        with pytest.raises(UnavailableError, match="does not lead a session"):
            program(tmp_path, "4.2.1").freeze(sleeping.pid, tmp_path / "frozen" / "k")
        sleeping.kill()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"root": "x"}', '{"root": 1}'])
def test_a_damaged_note_is_refused_and_removed(tmp_path, content):
    place = tmp_path / "frozen" / "k"
    place.mkdir(mode=0o700, parents=True)
    place.parent.chmod(0o700)
    (place / "tree.json").write_text(content)
    with pytest.raises(UnavailableError, match="nothing was kept of it, or only a part"):
        Criu("no-such-criu").thaw(place)
    assert not place.exists()


def test_what_ran_before_the_machine_was_started_anew_is_given_up(tmp_path):
    """Its clocks would jump back by as much as the machine had run: what waits for a time would wait for days."""
    place = tmp_path / "frozen" / "k"
    place.mkdir(mode=0o700, parents=True)
    place.parent.chmod(0o700)
    tree = FrozenTree(2**22 - 7, 1.0, (2**22 - 7,), connections=True, boot="another")
    (place / "tree.json").write_text(json.dumps(asdict(tree)))
    with pytest.raises(UnavailableError, match="the machine was started anew"):
        Criu("no-such-criu").thaw(place)
    assert not place.exists()


def test_what_was_frozen_before_the_machine_started_anew_is_removed(tmp_path):
    tree = FrozenTree(2**22 - 7, 1.0, (2**22 - 7,), connections=True, boot=BOOT.read_text().strip())
    notes = {"now": asdict(tree), "old": {**asdict(tree), "boot": "another"}, "damaged": {}}
    for name, note in notes.items():
        place = tmp_path / "session" / name
        place.mkdir(parents=True)
        (place / "tree.json").write_text(json.dumps(note))
    forget_stale(tmp_path)
    forget_stale(tmp_path / "nowhere")
    assert [one.name for one in (tmp_path / "session").iterdir()] == ["now"]
