"""Making the archive: the same bytes each time, all or nothing, and nobody else's folder."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import pytest

from cupola.exceptions import ConflictError, UnavailableError
from cupola.lab.samples import VERSION, make
from cupola.lab.samples.archive import MARKER


def command(folder, *words):
    return [sys.executable, "-u", "-m", "cupola.lab.samples", str(folder), "--small", *words]


def start(folder, *words):
    return subprocess.Popen(
        command(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def pretend(folder, **said):
    """Make a folder that looks like an archive of another kind, to see what becomes of it."""
    folder.mkdir()
    (folder / MARKER).write_text(json.dumps({"archive": "cupola-sample-archive", **said}))
    (folder / "mine.txt").write_text("keep")


def test_another_process_makes_the_same_bytes(archive, tmp_path):
    done = subprocess.run(
        command(tmp_path / "again"), capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert content(tmp_path / "again") == content(archive)
    lines = done.stdout.splitlines()
    assert lines[0].split("%")[1] == " the land"
    assert lines[-2:] == ["100% the examples", f"The sample archive is in {tmp_path / 'again'}"]


def test_progress_rises_to_the_end(made):
    _, told = made
    steps, shares = zip(*told, strict=True)
    assert list(shares) == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(steps)) == len(steps)


def test_a_complete_archive_is_left_alone(archive):
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*")}
    told = []
    make(archive, small=True, progress=lambda *said: told.append(said))
    assert told == []
    assert {path: path.stat().st_mtime_ns for path in archive.rglob("*")} == before


@pytest.mark.parametrize("force", [False, True])
def test_no_other_folder_is_touched(tmp_path, force):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("words")
    with pytest.raises(ConflictError, match=r"thesis is there already and is no sample archive"):
        make(tmp_path / "thesis", small=True, force=force)
    assert content(tmp_path) == {"thesis/chapter.tex": b"words"}


@pytest.mark.parametrize("make_entry", ["write", "link"])
def test_a_file_or_a_dead_link_is_refused(tmp_path, make_entry):
    path = tmp_path / "thing"
    if make_entry == "write":
        path.write_text("x")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConflictError, match="choose another folder"):
        make(path, small=True, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


@pytest.mark.parametrize("said", [{"version": VERSION, "small": False}, {"version": 0, "small": True}])
def test_another_archive_is_replaced_only_when_forced(tmp_path, said):
    pretend(tmp_path / "old", **said)
    with pytest.raises(ConflictError, match=f"version {said['version']}.*--force"):
        make(tmp_path / "old", small=True)
    assert (tmp_path / "old" / "mine.txt").read_text() == "keep"


def test_force_replaces_an_archive_as_a_whole(archive, tmp_path):
    pretend(tmp_path / "old", version=0, small=True)
    make(tmp_path / "old", small=True, force=True)
    assert content(tmp_path / "old") == content(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


class Silent(list):
    """Something to call that is false as long as it is empty."""

    def __call__(self, _what, _share):
        raise KeyboardInterrupt


def test_a_progress_that_is_false_is_told_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "archive", small=True, progress=Silent())


def test_ctrl_c_leaves_nothing(tmp_path):
    def interrupt(_what, share):
        if share > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "archive", small=True, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_sigterm_leaves_nothing(tmp_path):
    with start(tmp_path / "archive") as maker:
        maker.stdout.readline()
        maker.send_signal(signal.SIGTERM)
        maker.stdout.read()
    assert maker.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_after_a_kill_the_next_one_takes_over(archive, tmp_path):
    # An empty folder that somebody made beforehand is filled.
    (tmp_path / "archive").mkdir()
    with start(tmp_path / "archive") as maker:
        for _ in range(4):
            maker.stdout.readline()
        maker.kill()
    assert content(tmp_path / "archive") == {}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".archive.part", "archive"]
    make(tmp_path / "archive", small=True)
    assert content(tmp_path / "archive") == content(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == ["archive"]


def test_two_at_once_make_one(archive, tmp_path):
    with start(tmp_path / "archive") as first:
        assert "the land" in first.stdout.readline()
        with start(tmp_path / "archive") as second:
            told = second.stdout.read()
        first.stdout.read()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "waiting for another process that makes archive" in told
    assert "the land" not in told
    assert content(tmp_path / "archive") == content(archive)
    assert [entry.name for entry in tmp_path.iterdir()] == ["archive"]


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path):
    done = subprocess.run(
        command(tmp_path / "archive"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("choose a folder you may write to.")
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnavailableError, match="cannot be written"):
        make(tmp_path / "file" / "archive", small=True)
