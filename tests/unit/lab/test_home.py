from __future__ import annotations

from cupola.lab.home import copy_examples, link_volumes
from cupola.models.volume import Access, Mount


def mount(name, source, target):
    return Mount(volume=name, source=source, target=target, access=Access.READ)


def test_volumes_become_links_and_dead_links_go(tmp_path):
    archive, folder = tmp_path / "archive", tmp_path / "home" / "volumes"
    archive.mkdir()
    folder.mkdir(parents=True)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "other").symlink_to(archive)
    assert link_volumes([mount("archive", archive, folder / "archive")], folder) == []
    assert (folder / "archive").readlink() == archive
    assert not (folder / "gone").is_symlink()
    # Another session of the same person may use it.
    assert (folder / "other").is_symlink()


def test_a_link_that_leads_elsewhere_is_changed(tmp_path):
    old, new, folder = tmp_path / "old", tmp_path / "new", tmp_path / "volumes"
    for made in (old, new, folder):
        made.mkdir()
    (folder / "it").symlink_to(old)
    assert link_volumes([mount("it", new, folder / "it")], folder) == []
    assert (folder / "it").readlink() == new


def test_real_data_are_never_touched(tmp_path):
    archive, folder = tmp_path / "archive", tmp_path / "volumes"
    archive.mkdir()
    (folder / "it").mkdir(parents=True)
    (folder / "it" / "mine.txt").write_text("mine")
    (problem,) = link_volumes([mount("it", archive, folder / "it")], folder)
    assert "move it away" in problem
    assert (folder / "it" / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_error(tmp_path):
    (tmp_path / "volumes").write_text("a file where the folder should be")
    (problem,) = link_volumes([mount("it", tmp_path, tmp_path / "volumes" / "it")], tmp_path / "volumes")
    assert "it is not linked" in problem


def test_the_home_itself_is_no_link(tmp_path):
    assert link_volumes([mount("home", tmp_path, tmp_path)], tmp_path / "volumes") == []


def test_examples_are_renewed_but_what_the_user_changed_or_removed_stays(tmp_path):
    source, target, notes = (
        tmp_path / "source",
        tmp_path / "home" / "examples",
        tmp_path / "home" / ".cupola" / "notes",
    )
    (source / "data").mkdir(parents=True)
    for name in ("changed", "removed", "untouched", "data/deep"):
        (source / name).write_text("first")
    copy_examples(source, target, notes)
    assert (target / "data" / "deep").read_text() == "first"
    (target / "changed").write_text("mine")
    (target / "removed").unlink()
    for name in ("changed", "removed", "untouched", "new"):
        (source / name).write_text("second")
    copy_examples(source, target, notes)
    assert (target / "changed").read_text() == "mine"
    assert not (target / "removed").exists()
    assert (target / "untouched").read_text() == "second"
    assert (target / "new").read_text() == "second"
    assert [file.name for file in target.iterdir() if file.name.startswith(".")] == []


def test_a_file_that_was_there_before_is_the_users(tmp_path):
    source, target = tmp_path / "source", tmp_path / "examples"
    for folder in (source, target):
        folder.mkdir()
    (source / "tour").write_text("ours")
    (target / "tour").write_text("theirs")
    copy_examples(source, target, tmp_path / "notes")
    copy_examples(source, target, tmp_path / "notes")
    assert (target / "tour").read_text() == "theirs"


def test_damaged_notes_lose_nothing_of_the_user(tmp_path):
    source, target, notes = tmp_path / "source", tmp_path / "examples", tmp_path / "notes"
    source.mkdir()
    (source / "tour").write_text("first")
    copy_examples(source, target, notes)
    (target / "tour").write_text("mine")
    notes.write_text("{half")
    copy_examples(source, target, notes)
    assert (target / "tour").read_text() == "mine"


def test_no_examples_is_no_error(tmp_path):
    copy_examples(tmp_path / "none", tmp_path / "examples", tmp_path / "notes")
    assert not (tmp_path / "examples").exists()
