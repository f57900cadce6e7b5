"""Indexes of folders that are gone go as well, in their time."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from cupola.lab import collections
from cupola.lab.collections import index, leftovers

DAY = 86_400.0


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A home, and a volume that is mounted."""
    home, volume = tmp_path / "home", tmp_path / "volumes" / "archive"
    (home / "volumes").mkdir(parents=True)
    volume.mkdir(parents=True)
    (volume / "readme").write_text("kept")
    monkeypatch.setenv("HOME", str(home))
    mount = {
        "volume": "archive",
        "source": str(volume),
        "target": str(home / "volumes" / "archive"),
        "access": "read",
    }
    (home / "volumes" / "archive").symlink_to(volume)
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    return home, volume


def known(folder, write_item):
    """Make a folder that is indexed on the disk, and return the index."""
    for number in range(120):
        write_item(folder / f"i{number}.json", bbox=(number, 0, number + 1, 1))
    collections.open(folder).refresh()
    path = index.place(str(folder))
    if not path.exists():
        kept = index.recall(str(folder))
        index.keep(str(folder), kept.pieces, [], others={}, folders={"": 1})
    assert path.exists()
    return path


def look_again(path, days):
    """Sweep as if the index had not been used for some days."""
    os.utime(path, (time.time() - days * DAY,) * 2)
    path.with_suffix(".lock").touch()
    (path.parent / "swept").unlink(missing_ok=True)
    leftovers.sweep(path.parent)
    return path.exists()


@pytest.mark.parametrize("where", ["home", "volume", "link"])
def test_index_of_a_folder_that_was_deleted(places, write_item, where):
    home, volume = places
    folder = {
        "home": home / "scenes",
        "volume": volume / "scenes",
        "link": home / "volumes" / "archive" / "scenes",
    }[where]
    path = known(folder, write_item)
    # A folder that is there keeps its index, however long nobody asks.
    assert look_again(path, 2000)
    shutil.rmtree(folder)
    assert look_again(path, 6)
    assert not look_again(path, 8)
    assert not list(path.parent.glob(f"{path.stem}*"))


def test_index_of_a_volume_that_is_not_mounted_stays(places, write_item, monkeypatch):
    home, volume = places
    paths = [known(volume / "scenes", write_item), known(home / "volumes" / "archive" / "scenes", write_item)]
    # Unmounted: its folder is empty. Then the session does not have it at all, nor its link.
    shutil.move(volume, volume.with_name("elsewhere"))
    volume.mkdir()
    for _ in range(2):
        for path in paths:
            assert look_again(path, 100)
        monkeypatch.setenv("CUPOLA_VOLUMES", "[]")
        (home / "volumes" / "archive").unlink(missing_ok=True)
    for path in paths:
        assert not look_again(path, 200)


def test_link_in_the_home_that_leads_nowhere_stays(places, tmp_path, write_item):
    home, _ = places
    disk = tmp_path / "disk"
    disk.mkdir()
    (home / "disk").symlink_to(disk)
    path = known(home / "disk" / "scenes", write_item)
    shutil.rmtree(disk)
    assert look_again(path, 100)


def test_what_is_used_is_not_swept(places, write_item):
    home, _ = places
    folder = home / "scenes"
    path = known(folder, write_item)
    os.utime(path, (time.time() - 30 * DAY,) * 2)
    # Another process looks at it, and then it goes.
    index.forget()
    assert len(collections.open(folder)) == 120
    assert time.time() - path.stat().st_mtime < DAY
    shutil.rmtree(folder)
    (path.parent / "swept").unlink(missing_ok=True)
    leftovers.sweep(path.parent)
    assert path.exists()


def test_addresses_and_broken_files(runtime):
    folder = runtime / "index"
    index.keep("https://host/images/", [], [[]], others={})
    path = index.place("https://host/images/")
    assert look_again(path, 100)
    assert not look_again(path, 200)
    broken = folder / "0123.parquet"
    broken.write_bytes(b"no parquet")
    assert look_again(broken, 100)
    assert not look_again(broken, 200)


def test_swept_once_a_day(places, write_item):
    home, _ = places
    path = known(home / "scenes", write_item)
    shutil.rmtree(home / "scenes")
    leftovers.sweep(path.parent)
    os.utime(path, (1, 1))
    leftovers.sweep(path.parent)
    assert path.exists()
    os.utime(path.parent / "swept", (1, 1))
    leftovers.sweep(path.parent)
    assert not path.exists()
