"""``cupola sample-data``: here, or with the Lab environment's interpreter where the libraries are missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cupola.cli import main, sample_data
from cupola.exceptions import StartError


def run(*words):
    """Run the command line, and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Pretend that this environment has no raster libraries; return the folder of the Lab's environments."""
    monkeypatch.setattr(sample_data, "_LIBRARIES", (*sample_data._LIBRARIES, "no_such_library"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "environments" / "lab"


def build(folder, script):
    """Make an environment whose interpreter is a script."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def test_it_writes_the_archive_and_then_leaves_it_alone(tmp_path, capsys):
    assert run("sample-data", tmp_path / "samples", "--small") == 0
    told = capsys.readouterr().out
    assert "100% the examples" in told
    assert (tmp_path / "samples" / "catalog.json").is_file()
    assert run("sample-data", tmp_path / "samples", "--small") == 0
    assert capsys.readouterr().out.splitlines() == [f"The sample archive is in {tmp_path / 'samples'}"]


def test_a_folder_in_use_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "file.txt").write_text("x")
    assert run("sample-data", tmp_path) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("bare")
def test_without_libraries_and_environment_it_says_what_to_do(tmp_path, capsys):
    assert run("sample-data", tmp_path / "samples", "--state", tmp_path / "state") == 1
    error = capsys.readouterr().err
    assert "start `cupola up` once" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "samples").exists()


def test_without_libraries_a_labs_interpreter_makes_it(bare, tmp_path, capsys):
    """The newest environment that has what is needed is taken; the script answers as the real module does."""
    build(bare / "aaa", "exit 1")
    old = build(
        bare / "bbb", f'case "$*" in *-c*) exit 0;; esac; echo " 42% half"; echo "$@" > {tmp_path}/asked'
    )
    os.utime(bare / "bbb", (1, 1))
    assert old.parent.parent.stat().st_mtime < (bare / "aaa").stat().st_mtime
    assert run("sample-data", tmp_path / "s", "--small", "--force", "--state", tmp_path / "state") == 0
    assert " 42% half" in capsys.readouterr().out
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["-P", "-u", "-m", "cupola.lab.samples", str(tmp_path / "s"), "--small", "--force"]


def test_the_other_interpreters_reason_is_passed_on(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(StartError, match="is there already and is no sample archive"):
        sample_data._make_elsewhere(Path(sys.executable), [str(tmp_path)], lambda *_: None)
