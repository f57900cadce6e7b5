"""Locked environments, built for real from a wheel of a few bytes."""

from __future__ import annotations

import subprocess
import threading

import pytest

from cupola.cli import PANELS
from cupola.exceptions import NotFoundError, StartError
from cupola.platform.storage.environments import EnvironmentStore
from cupola.platform.storage.environments.wheel import package_files
from support.wheels import lock_line, make_wheel


@pytest.fixture
def source(tmp_path):
    datalab = tmp_path / "source" / "lab"
    (datalab / "notebooks" / ".ipynb_checkpoints").mkdir(parents=True)
    (datalab / "notebooks" / "tour.ipynb").write_text("{}")
    (datalab / "notebooks" / ".ipynb_checkpoints" / "tour.ipynb").write_text("{}")
    wheel = make_wheel(tmp_path / "wheels", "madeup", "1.0", "x = 1\n")
    (datalab / "requirements.lock").write_text(lock_line(wheel))
    return datalab.parent


@pytest.fixture
def store(tmp_path, source):
    return EnvironmentStore(tmp_path / "environments", source)


def test_an_environment_is_built_once(store):
    told = []
    built = store.build("lab", told.append)
    assert "installing the locked packages" in told
    assert built.version.digest == store.wanted("lab")
    assert built.version.ready
    assert built.version.size_bytes > 0
    assert built.python.parent.parent.name == built.version.digest.removeprefix("sha256:")[:12]
    code = "import madeup, cupola, sys; print(madeup.x, cupola.__file__.startswith(sys.prefix))"
    assert subprocess.check_output([built.python, "-c", code], text=True).split() == ["1", "True"]
    examples = built.python.parent.parent / "share" / "cupola" / "examples"
    assert [file.name for file in examples.rglob("*")] == ["tour.ipynb"]
    again = []
    assert store.build("lab", again.append) == built
    assert again == []
    assert store.versions("lab") == [built]


def test_another_lock_is_another_version(store, source, tmp_path):
    first = store.build("lab", lambda _: None)
    wheel = make_wheel(tmp_path / "wheels", "madeup", "2.0", "x = 2\n")
    (source / "lab" / "requirements.lock").write_text(lock_line(wheel))
    second = store.build("lab", lambda _: None)
    assert [built.version.digest for built in store.versions("lab")] == [
        second.version.digest,
        first.version.digest,
    ]
    assert second.version.label == f"{first.version.label}-2"


def test_what_does_not_match_its_hash_is_refused_in_one_sentence(store, tmp_path):
    make_wheel(tmp_path / "wheels", "madeup", "1.0", "x = 'changed'\n")
    with pytest.raises(StartError) as refused:
        store.build("lab", lambda _: None)
    assert "\n" not in str(refused.value)
    assert "hash" in str(refused.value).lower()
    assert store.versions("lab") == []


def test_what_a_killed_build_left_is_built_again(store):
    built = store.build("lab", lambda _: None)
    place = built.python.parent.parent
    (place / "version.json").unlink()
    (place / "half").write_text("")
    assert store.versions("lab") == []
    told = []
    store.build("lab", told.append)
    assert "removing an unfinished build" in told
    assert not (place / "half").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"digest": 1}'])
def test_a_damaged_marker_counts_for_nothing(store, content):
    built = store.build("lab", lambda _: None)
    (built.python.parent.parent / "version.json").write_text(content)
    assert store.versions("lab") == []


def test_an_environment_whose_interpreter_is_gone_is_built_again(store):
    built = store.build("lab", lambda _: None)
    built.python.unlink()
    assert store.versions("lab") == []
    assert store.build("lab", lambda _: None).python.exists()


def test_two_at_once_build_once(store):
    told, results = [], []

    def build():
        results.append(store.build("lab", told.append))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert told.count("making the environment") == 1


def test_a_datalab_without_a_lock_is_named(store):
    with pytest.raises(NotFoundError, match="no-such"):
        store.build("no-such", lambda _: None)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, source):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be written"):
        EnvironmentStore(tmp_path / "file" / "below", source).build("lab", lambda _: None)


def test_a_session_gets_no_hub_and_no_portal():
    names = package_files()
    assert "cupola/lab/session.py" in names
    assert "cupola/py.typed" in names
    assert not [name for name in names if name.startswith(("cupola/hub/", "cupola/platform/"))]
    assert {name for name in names if name.startswith("cupola/cli/")} == {
        f"cupola/cli/{name}.py" for name in ("__init__", "__main__", "options", *PANELS)
    }
