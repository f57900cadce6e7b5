from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cupola import cli
from cupola.cli import options
from cupola.config import load
from cupola.exceptions import NotFoundError

if TYPE_CHECKING:
    import typer


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder and return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CUPOLA_CONFIG", "CUPOLA_STATE", "CUPOLA_PORT"):  # options write them: have them put back
        monkeypatch.setenv(name, "")

    def do(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return do


def test_every_verb_has_help_with_an_example(run):
    code, out, _ = run("--help")
    assert code == 0
    for verb in cli.VERBS:
        assert verb in out
        code, text, _ = run(verb, "--help")
        assert code == 0
        assert f"Example: cupola {verb}" in text


def test_the_version(run):
    assert run("--version")[:2] == (0, f"cupola {importlib.metadata.version('cupola')}\n")


def test_an_unknown_verb_and_an_unknown_option_are_usage_errors(run):
    code, _, err = run("upp")
    assert code == 2
    assert "No such command 'upp'" in err
    assert run("check", "--prot", "1")[0] == 2


def test_a_wrong_configuration_is_told_in_a_sentence_with_exit_code_2(run, tmp_path):
    (tmp_path / "cupola.yaml").write_text("server:\n  prot: 1\n", encoding="utf-8")
    expected = 'cupola.yaml, line 2: unknown key "prot" in server; did you mean "port"?\n'
    assert run("check") == (2, "", expected)


def test_other_errors_and_an_interrupt_have_their_exit_codes(run, monkeypatch):
    def verb(error):
        def register(app: typer.Typer) -> None:
            @app.command()
            def fails() -> None:
                raise error

        module = type(sys)("cupola.cli.init")
        module.register = register
        monkeypatch.setitem(sys.modules, "cupola.cli.init", module)

    module_spec = importlib.util.find_spec("cupola.cli.init")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: module_spec)
    verb(NotFoundError("there is no such thing; name another"))
    assert run("init") == (1, "", "there is no such thing; name another\n")
    verb(KeyboardInterrupt())
    assert run("init")[0] == 130


def test_a_verb_is_imported_only_when_it_is_used():
    code = (
        "import sys, cupola.cli.__init__; print([name for name in sys.modules if name.startswith('cupola.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == ["cupola.exceptions", "cupola.cli", "cupola.cli.__init__"]  # noqa: S307


def test_options_travel_to_the_processes_that_a_verb_starts(run, tmp_path):  # noqa: ARG001
    file = tmp_path / "other.yaml"
    file.write_text("title: Other\n", encoding="utf-8")
    config = options.configuration(file, tmp_path / "state", 9001)
    assert (config.state, config.server.port) == (tmp_path / "state", 9001)
    assert load() == config


def test_init_writes_a_file_once(run, tmp_path):
    code, out, _ = run("init")
    assert (code, "cupola check" in out) == (0, True)
    assert load(tmp_path / "cupola.yaml").server.port == 8000
    (tmp_path / "cupola.yaml").write_text("title: Mine\n", encoding="utf-8")
    code, _, err = run("init")
    assert (code, "cupola.yaml exists already" in err) == (1, True)
    assert load(tmp_path / "cupola.yaml").title == "Mine"
    assert run("init", "here.yaml")[0] == 0
    code, _, err = run("init", "no/such/folder.yaml")
    assert (code, "cannot be written" in err) == (1, True)


def test_init_on_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    full = tmp_path / "full.yaml"

    class Full:
        def __enter__(self):
            full.touch()
            return self

        def __exit__(self, *_):
            return None

        def write(self, _text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: Full())
    code, _, err = run("init", full)
    assert (code, "No space left on device" in err) == (1, True)
    assert not full.exists()
