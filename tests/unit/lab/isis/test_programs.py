"""Running programs as those of ISIS and ASP are run: shell scripts that print samples stand in for them.

The samples in the folder ``output`` were written from memory, after the programs' documentation: nobody recorded them from
a run, since neither ISIS nor ASP could be installed where these tests were made. What real programs print may differ.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cupola.exceptions import ProgramError
from cupola.lab.isis import run

OUTPUT = Path(__file__).with_name("output")
PROGRAM = """#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
printf '%s\\n' "$@" > "$here/$name.arguments"
cat "$here/$name.out" 2>/dev/null
cat "$here/$name.err" >&2 2>/dev/null
. "$here/$name.code"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An ISISROOT whose programs print the samples."""
    folder = tmp_path_factory.mktemp("isis")
    (folder / "bin" / "xml").mkdir(parents=True)
    for name in ("stats", "campt", "cam2map", "getkey", "silent", "endless", "killed", "pc_align"):
        program = folder / "bin" / name
        program.write_text(PROGRAM)
        program.chmod(0o755)
        if name != "pc_align":
            (folder / "bin" / "xml" / f"{name}.xml").write_text("<application/>")
        for suffix, source in (("out", OUTPUT / f"{name}.txt"), ("err", OUTPUT / f"{name}.err")):
            (folder / "bin" / f"{name}.{suffix}").write_text(source.read_text() if source.exists() else "")
    codes = {
        "cam2map": "exit 1",
        "silent": "echo half of it; exit 3",
        "endless": "sleep 60",
        "killed": "kill -9 $$",
    }
    for program in (folder / "bin").iterdir():
        if program.suffix == "" and program.is_file():
            program.with_suffix(".code").write_text(codes.get(program.name, "exit 0"))
    return folder


@pytest.fixture
def isis(root, monkeypatch, tmp_path):
    monkeypatch.setenv("ISISROOT", str(root))
    monkeypatch.setenv("ISISDATA", str(tmp_path))
    monkeypatch.setenv("PATH", f"{root}/bin:/usr/bin:/bin")
    return root / "bin"


def arguments(isis, program):
    return (isis / f"{program}.arguments").read_text().split("\n")[:-1]


def test_an_isis_program_runs_through_kalasiris(isis, tmp_path):
    done = run("stats", from_=tmp_path / "mars.cub", band=None, pref__="my.pref")
    assert arguments(isis, "stats") == [f"from={tmp_path}/mars.cub", "-pref=my.pref"]
    assert done.command[0] == "stats"
    assert done.values["Results"]["NullPixels"] == 6


@pytest.mark.usefixtures("isis")
def test_a_program_that_answers_in_plain_words():
    done = run("getkey", from_="mars.cub", grpname="Instrument", keyword="SpacecraftName")
    assert done.text == "MARS_RECONNAISSANCE_ORBITER\n"


@pytest.mark.usefixtures("isis")
def test_a_failure_says_why_and_what_to_do():
    with pytest.raises(ProgramError, match=r"cam2map: .* run spiceinit on the cube first"):
        run("cam2map", from_="a.cub", to="b.cub")


@pytest.mark.usefixtures("isis")
@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("silent", "silent failed with exit code 3; the last it said: half of it"),
        ("killed", "killed was killed, most likely because the session had no memory left"),
        ("stat", "there is no program stat here; did you mean stats"),
        ("nothing-like-it", "there is no program nothing-like-it here$"),
    ],
)
def test_other_failures_are_told_apart(program, sentence):
    # /usr/bin/stat is a program too, so the search looks into ISIS alone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", lambda _name: None)
        with pytest.raises(ProgramError, match=sentence):
            run(program)


@pytest.mark.usefixtures("isis")
def test_a_time_limit_is_kept():
    with pytest.raises(ProgramError, match=r"endless did not finish within 0.2 s; give it more time"):
        run("endless", timeout=0.2)


@pytest.mark.usefixtures("isis")
def test_isis_takes_parameters_by_name():
    with pytest.raises(ProgramError, match="takes parameters by name only"):
        run("stats", "a.cub", "b.cub")


def test_an_asp_program_gets_options_and_files(isis):
    done = run(
        "pc_align",
        "a.tif",
        "b.tif",
        max_displacement=100,
        save_inv_transformed_reference_points=True,
        o="run/x",
    )
    assert arguments(isis, "pc_align") == [
        "--max-displacement",
        "100",
        "--save-inv-transformed-reference-points",
        "-o",
        "run/x",
        "a.tif",
        "b.tif",
    ]
    assert done.program == "pc_align"


def test_without_data_it_is_said(isis, monkeypatch):
    assert isis.is_dir()
    monkeypatch.delenv("ISISDATA")
    monkeypatch.delenv("ISIS3DATA", raising=False)
    with pytest.raises(ProgramError, match="mount the volume with ISIS data"):
        run("stats", from_="a.cub")


def test_where_isis_is_not_installed_the_datalab_is_named():
    # In a process of its own: kalasiris must not be asked for without ISIS, and the import must not need it.
    code = "from cupola.lab import isis\nimport sys\nassert 'kalasiris' not in sys.modules\nisis.run('cam2map', from_='a')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/nowhere"}, check=False
    )
    assert "start the datalab isis-asp" in done.stderr.splitlines()[-1]
