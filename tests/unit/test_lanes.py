"""Tests in several processes: the engine's lane, the turn of a test that is alone, and one file of figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

ENGINE = """
import os, pathlib, time, pytest

@pytest.fixture(scope="session")
def engine():
    return "one for all"

@pytest.fixture
def through(engine):
    return engine

@pytest.mark.parametrize("number", range(4))
@pytest.mark.row(18)
def test_engine(through, number, matrix):
    pathlib.Path("lane-" + os.environ["PYTEST_XDIST_WORKER"]).touch()
    matrix(f"of {__name__} {number}", number, limit=9)
"""
OTHER = """
import fcntl, os, pathlib, time, pytest

def here(alone, seconds):
    with open("here", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("in", alone, file=file, flush=True)
    time.sleep(seconds)
    with open("here", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("out", alone, file=file, flush=True)

@pytest.mark.parametrize("number", range(5))
def test_beside(number):
    here(False, 0.05)

@pytest.mark.row(19)
@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number, matrix):
    here(True, 0.1)
    matrix(f"of {__name__} {number}", number, limit=9)
"""


@pytest.fixture(scope="module")
def run(repository, tmp_path_factory):
    """Run the tests of four files in two processes; return their folder."""
    folder = tmp_path_factory.mktemp("lanes")
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = --no-loadscope-reorder\nmarkers =\n  row(number): x\n  alone: x\n"
    )
    for name, text in (("a", ENGINE), ("b", OTHER), ("c", ENGINE), ("d", OTHER)):
        (folder / f"test_{name}.py").write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUPOLA_", "PYTEST_"))}
    plugins = [
        word for name in ("support.lanes", "support.matrix", "no:cacheprovider") for word in ("-p", name)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", *plugins],
        cwd=folder,
        env={
            **kept,
            "PYTHONPATH": str(repository / "tests"),
            "CUPOLA_MATRIX": str(folder / "matrix.json"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 passed" in done.stdout
    return folder


def test_all_tests_of_the_engine_go_through_one_process(run):
    assert len(list(run.glob("lane-*"))) == 1


def test_nothing_goes_on_beside_a_test_that_is_alone(run):
    inside = []
    for line in (run / "here").read_text().splitlines():
        step, alone = line.split()
        inside.append(alone) if step == "in" else inside.remove(alone)
        assert len(inside) == 1 or "True" not in inside


def test_the_figures_of_all_processes_are_in_one_file(run):
    rows = json.loads((run / "matrix.json").read_text())["rows"]
    assert sorted({(row["row"], row["what"]) for row in rows}) == sorted(
        (row, f"of test_{name} {number}")
        for row, files, numbers in ((18, "ac", range(4)), (19, "bd", range(3)))
        for name in files
        for number in numbers
    )
