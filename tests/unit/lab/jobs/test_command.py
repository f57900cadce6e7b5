# ruff: noqa: S604 - a shell is what some of these tests are about
from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.exceptions import InputError
from cupola.lab.jobs import command
from cupola.lab.jobs.command import Command, CommandError, CommandInput, plan_command
from cupola.lab.jobs.failure import describe

COPY = """
import pathlib, sys
source, target = map(pathlib.Path, sys.argv[1:3])
target.write_text(source.read_text().upper())
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(command="copy {input} {output}", inputs=("a.tif",), **options):
    with pytest.raises(InputError) as caught:
        plan_command(command, inputs, **options)
    return str(caught.value)


def test_each_word_is_one_argument_whatever_a_file_is_called(tmp_path):
    name = "a b; touch owned {output} $(x) 'q'.txt"
    (tmp_path / name).write_text("salt")
    (tmp_path / "copy.py").write_text(COPY)
    work, inputs = plan_command(f"{sys.executable} copy.py {{input}} {{output}}", [name], folder="out dir")
    assert work(inputs[0]) == tmp_path / "out dir" / name
    assert (tmp_path / "out dir" / name).read_text() == "SALT"
    assert not (tmp_path / "owned").exists()


def test_a_shell_is_given_quoted_names(tmp_path):
    name = "a b; touch owned '.txt"
    (tmp_path / name).write_text("pear\nfig\n")
    work, inputs = plan_command(
        "sort {input} | head -n 1 > {output}", [Path(name)], outputs="{stem}-{number}.first", shell=True
    )
    assert work(inputs[0]).read_text() == "fig\n"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{Path(name).stem}-0.first"}


def test_a_pipe_fails_where_any_of_its_programs_does():
    work, inputs = plan_command(
        "cat {input} | sort > {output}", ["missing"], outputs="{name}.sorted", shell=True
    )
    with pytest.raises(CommandError, match=r"(?s)ended with exit code 1:.*missing"):
        work(inputs[0])
    assert os.listdir() == []  # noqa: PTH208


def test_placeholders_are_the_parts_of_a_path():
    _, (one, two) = plan_command(
        ["tool", "{input}", "--to={output}"],
        ["in/a.tar.gz", "in/b.cub"],
        outputs="{parent}/{number}/{stem}.{name}",
    )
    assert [one.output, two.output] == [
        str(Path("in/0/a.tar.a.tar.gz").absolute()),
        str(Path("in/1/b.b.cub").absolute()),
    ]
    assert Command(("awk", "{print $1}", "{input}"))._filled(one.values(None)) == [
        "awk",
        "{print $1}",
        "in/a.tar.gz",
    ]


def test_a_home_is_meant_by_a_pattern_and_never_by_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    _, (one,) = plan_command("copy {input} {output}", ["~notes.txt"], folder="x")
    _, (two,) = plan_command("copy {input} {output}", ["~notes.txt"], outputs="~/{stem}.up", folder="x")
    _, (three,) = plan_command("copy {input} {output}", ["a"], folder="~/x")
    assert one.output == str(tmp_path / "x" / "~notes.txt")
    assert two.output == str(tmp_path / "ada" / "~notes.up")
    assert three.output == str(tmp_path / "ada" / "x" / "a")


def test_what_cannot_be_is_refused_before_the_submit(tmp_path):
    assert "nothing says where: add outputs='{stem}.tif' or folder='results'" in refused()
    assert "does not say {output}" in refused("copy {input}", outputs="{stem}.png")
    assert "did you mean {output}?" in refused("copy {input} {ouput}", folder="x")
    assert "cannot say {output}" in refused(outputs="{output}.tif")
    assert "'a.tif' and 'b/a.tif' would both be written" in refused(inputs=["a.tif", "b/a.tif"], folder="x")
    assert "would overwrite the input 'a.tif'" in refused(outputs="{name}")
    assert "has no name" in refused(outputs="{stem}/")
    assert "The command is empty" in refused("  ")
    assert "No closing quotation" in refused("copy '{input}")
    assert "one text, such as" in refused(["sort", "{input}"], shell=True)
    assert "Leave the quotes around {input} away" in refused(
        "sort '{input}' > {output}", folder="x", shell=True
    )
    assert "zero byte" in refused(inputs=["a\0b"], folder="x")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_tells_the_last_of_stderr_and_leaves_nothing(tmp_path, capfd):
    script = "import sys; print('out'); [print(f'line {n}', file=sys.stderr) for n in range(30)]; sys.exit(3)"
    work, inputs = plan_command([sys.executable, "-c", script, "{output}"], ["a", "b"], outputs="{name}.x")
    with pytest.raises(CommandError) as caught:
        work(inputs[0])
    failure = describe(caught.value)
    program = Path(sys.executable).name
    assert (failure.error, failure.line) == ("CommandError", f"{program}: ended with exit code 3")
    assert failure.message.splitlines() == [
        f"{program} ended with exit code 3:",
        *(f"line {n}" for n in range(18, 30)),
    ]
    assert failure.traceback == ""
    out, err = capfd.readouterr()
    assert out.startswith(f"$ {sys.executable} -c")
    assert "out\n" in out
    assert err.splitlines()[0] == "line 0"
    assert list(tmp_path.iterdir()) == []


def test_other_ends_of_a_program():
    def why(*words, **options):
        with pytest.raises(CommandError) as caught:
            Command(words, **options)(CommandInput(0, "a", str(Path("a.out").absolute())))
        return str(caught.value)

    assert "'no-such-program' was not found where the tasks run" in why("no-such-program", "{output}")
    assert "sh was ended by SIGKILL and said nothing." in why("sh", "-c", "kill -9 $$")
    assert "cannot be started: Permission denied" in why("/etc/passwd")
    assert "a program was not found" in why("no-such-program {output}", shell=True)
    assert "ended well and did not write {output}: it should have written a.out." in why("true")


def test_where_nothing_can_be_written_it_says_so(tmp_path):
    (tmp_path / "file").touch()
    work, inputs = plan_command("touch {output}", ["a"], outputs="file/{name}")
    with pytest.raises(
        CommandError, match=r"Nothing can be written to .*/file \((File exists|Not a directory)\)"
    ):
        work(inputs[0])


def test_an_output_that_is_there_is_kept_and_an_empty_one_is_not(tmp_path):
    work, inputs = plan_command("sh -c 'echo new > \"$0\"' {output}", ["a", "b"], outputs="{name}.txt")
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.txt").touch()
    assert [work(one).read_text() for one in inputs] == ["old", "new\n"]


def test_what_a_program_writes_beside_its_output_comes_along_first(tmp_path):
    script = 'mkdir "$0"; echo 1 > "$0/zarr.json"; echo 2 > "$0.aux"'
    work, inputs = plan_command(["sh", "-c", script, "{output}"], ["a"], outputs="made/{name}.zarr")
    work(inputs[0])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "made",
        "made/a.zarr",
        "made/a.zarr.aux",
        "made/a.zarr/zarr.json",
    ]


def test_what_a_killed_task_left_is_removed_and_that_of_another_is_not(tmp_path):
    here = command._where()
    child = subprocess.Popen(["true"])
    child.wait()
    gone, mine, other = (
        tmp_path / f".a[1].txt.{owner}.part"
        for owner in (f"{here}.{child.pid}", f"{here}.1", f"{here}1.{child.pid}")
    )
    for folder in (gone, mine, other):
        folder.mkdir()
    work, inputs = plan_command("touch {output}", ["a[1]"], outputs="{name}.txt")
    work(inputs[0])
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, other.name, "a[1].txt"}


def test_a_program_that_leaves_something_running_does_not_hold_the_task(tmp_path):
    (tmp_path / "gate").touch()
    script = "(while [ -e gate ]; do sleep 0.05; done) & echo said >&2; exit 4"
    with pytest.raises(CommandError, match="exit code 4:\nsaid"):
        Command(("sh", "-c", script))(CommandInput(0, "a", None))
    (tmp_path / "gate").unlink()


def test_a_command_without_output_gives_nothing_and_travels():
    work, inputs = plan_command("true {input}", [1, 2])
    again, (one, _) = pickle.loads(pickle.dumps((work, inputs)))  # noqa: S301 - made here
    assert again(one) is None
    assert (again.__name__, again.text) == ("true", "true '{input}'")


def test_only_the_standard_library_is_loaded_by_a_task():
    code = "import sys, cupola.lab.jobs.command; print([m for m in ('pydantic', 'cloudpickle', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
