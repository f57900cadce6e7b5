from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.platform.storage.files.beneath import Beneath


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("of the platform")
    return file


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "homes" / "eve"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def files(home):
    return Beneath(home.parent, "eve/.cupola/jobs/job-1")


def test_what_is_written_is_read_again(files, home):
    files.make("results", "log")
    files.write("results/0.pkl", b"abc")
    files.write("results/0.pkl", b"abcd")
    assert files.read("results/0.pkl") == b"abcd"
    assert files.read("results/0.pkl", start=1, longest=2) == b"bc"
    assert files.names("results") == ["0.pkl"]
    assert files.status("results/0.pkl").st_size == 4
    files.move(["0.pkl"], "results", "failures/1")
    assert (files.names("results"), files.names("failures/1")) == ([], ["0.pkl"])
    assert files.free_bytes() > 0
    files.remove()
    assert list((home / ".cupola" / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    "step", [".cupola", ".cupola/jobs", ".cupola/jobs/job-1", ".cupola/jobs/job-1/results"]
)
def test_a_link_in_place_of_a_folder_is_not_followed(files, home, tmp_path, step):
    outside = tmp_path / "outside"
    (outside / "jobs" / "job-1" / "results").mkdir(parents=True)
    (outside / "results").mkdir()
    place = home / step
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside)
    before = sorted(str(path) for path in outside.rglob("*"))
    with pytest.raises(OSError, match=r"symbolic|directory"):
        files.make("results")
    with pytest.raises(OSError, match=r"symbolic|directory"):
        files.write("results/0.pkl", b"x")
    files.remove()
    assert sorted(str(path) for path in outside.rglob("*")) == before


def test_a_link_in_place_of_a_file_is_neither_read_nor_written(files, home, secret):
    files.make("results")
    link = home / ".cupola/jobs/job-1/results/0.pkl"
    link.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic"):
        files.read("results/0.pkl")
    files.write("results/0.pkl", b"mine")
    assert secret.read_text() == "of the platform"
    assert link.read_bytes() == b"mine"
    link.with_name("0.pkl.part").symlink_to(secret)
    files.write("results/0.pkl", b"again")
    assert secret.read_text() == "of the platform"


def test_what_is_no_plain_file_is_refused_at_once(files, home):
    files.make("log")
    os.mkfifo(home / ".cupola/jobs/job-1/log/1.out")
    (home / ".cupola/jobs/job-1/log/2.out").mkdir()
    for task in (1, 2):
        with pytest.raises(OSError, match="plain file"):
            files.read(f"log/{task}.out")


def test_removing_does_not_leave_the_home(files, home, tmp_path):
    files.make("results")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (home / ".cupola/jobs/job-1/results/out").symlink_to(outside)
    files.remove()
    assert (outside / "kept").exists()
    assert not (home / ".cupola/jobs/job-1").exists()


@given(st.lists(st.sampled_from(["..", "a", ".", "", "b/..", "/"]), min_size=1, max_size=4).map("/".join))
def test_no_name_leads_out(tmp_path_factory, name):
    top = tmp_path_factory.mktemp("top")
    (top / "eve").mkdir()
    files = Beneath(top, "eve")
    out = name.startswith("/") or ".." in name.split("/")
    if out:
        with pytest.raises(ValueError, match="leads out"):
            files.names(name)
    else:
        files.make(name)
        assert isinstance(files.names(name), list)


def test_a_person_who_swaps_a_folder_for_a_link_all_the_time_wins_nothing(files, home, tmp_path):
    """The race itself: a folder becomes a link and a folder again while we read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0.pkl").write_text("of the platform")
    files.make("results")
    files.write("results/0.pkl", b"mine")
    place = home / ".cupola/jobs/job-1"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            (place / "results").rename(place / "aside")
            (place / "results").symlink_to(outside)
            (place / "results").unlink()
            (place / "aside").rename(place / "results")

    eve = threading.Thread(target=swap)
    eve.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(files.read("results/0.pkl"))
            except OSError:
                seen.add(b"refused")
    finally:
        stop.set()
        eve.join()
    assert seen <= {b"mine", b"refused"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_made_belongs_to_whoever_the_home_belongs_to(files, home):
    os.chown(home, 20001, 20001)
    files.make("results")
    files.write("results/0.pkl", b"x")
    job = home / ".cupola/jobs/job-1"
    for path in (home / ".cupola", job, job / "results", job / "results/0.pkl"):
        assert (path.stat().st_uid, path.stat().st_gid) == (20001, 20001)
