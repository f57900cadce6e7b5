from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cupola.lab import storage
from cupola.lab.storage import is_full, leave, make_room, sentence, size
from cupola.models.storage import StorageUsage


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("JUPYTERLAB_WORKSPACES_DIR", storage.FULL_VARIABLE):
        monkeypatch.setenv(name, "")
    return tmp_path


def test_runtime_files_are_outside_of_the_home_and_gone_at_the_end(home):
    assert make_room(home) is None
    place = Path(os.environ["JUPYTER_RUNTIME_DIR"]).parent
    assert place.stat().st_mode & 0o777 == 0o700
    assert not place.is_relative_to(home)
    assert "JUPYTER_CONFIG_DIR" not in os.environ
    leave()
    assert not place.exists()
    leave()


def test_what_a_killed_session_left_is_removed_by_the_next(home, tmp_path, monkeypatch):
    places = tmp_path / "places"
    places.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places))
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from cupola.lab.storage import make_room\n"
        "make_room(Path(sys.argv[1]))\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = os.environ | {"TMPDIR": str(places)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(home)], stdin=-1, stdout=-1, env=environment
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (theirs,) = places.iterdir()
        make_room(home)
        mine = Path(os.environ["JUPYTER_RUNTIME_DIR"]).parent
        assert set(places.iterdir()) == {theirs, mine}, "a session that runs keeps its place"
        other.kill()
    storage.sweep()
    assert list(places.iterdir()) == [mine]
    leave()


def test_in_a_full_home_only_what_is_missing_is_outside(home, monkeypatch):
    monkeypatch.setattr(storage, "is_full", lambda _: True)
    (home / ".jupyter").mkdir()
    assert "delete something" in make_room(home)
    assert "JUPYTER_CONFIG_DIR" not in os.environ
    assert Path(os.environ["IPYTHONDIR"]).is_dir()
    assert os.environ[storage.FULL_VARIABLE] == "1"
    leave()


def test_a_probe_leaves_nothing(home):
    assert not is_full(home)
    assert list(home.iterdir()) == []
    assert is_full(home / "missing")


def test_sentences():
    place = {"kind": "home", "name": "ada"}
    assert sentence(StorageUsage(**place, used_bytes=2048)) == "home: 2.0 KiB used, no limit"
    full = StorageUsage(
        kind="team", name="mars", used_bytes=2**30, limit_bytes=2**30, files=7, files_limit=1000
    )
    assert sentence(full) == (
        "team mars: 1.0 GiB of 1.0 GiB used, 7 of 1,000 files; it is full: delete something before you save"
    )
    assert size(5 * 2**50) == "5120.0 TiB"
