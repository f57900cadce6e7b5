"""What every kind of quota keeps, on a real file system of its kind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from cupola.exceptions import ConflictError, StartError
from cupola.platform.storage.quotas import BtrfsQuota, Limit, LoopQuota, NoQuota, Owner, XfsQuota
from support.disks import as_user, command, disk, needs, unmount_below, write_as

MIB = 2**20
ADA, BEN = 21_001, 21_002
LIMIT = Limit(24 * MIB, 400)


def names(folder):
    return sorted(item.name for item in folder.iterdir())


@pytest.fixture
def tmp_path():
    """Other users get to this one: pytest keeps its own folders from them."""
    folder = Path(tempfile.mkdtemp(prefix="cupola-quota-"))
    folder.chmod(0o755)
    yield folder
    unmount_below(folder)
    shutil.rmtree(folder)


@pytest.fixture
def btrfs(tmp_path):
    needs("btrfs", "mkfs.btrfs", "python3")
    with disk(tmp_path, "btrfs", 300) as place:
        yield BtrfsQuota([place / "homes", place / "teams"], clock=lambda: time.monotonic() * 1e6)


@pytest.fixture
def xfs(tmp_path):
    needs("xfs_quota", "mkfs.xfs")
    with disk(tmp_path, "xfs", 400, "loop,prjquota") as place:
        yield XfsQuota([place / "homes", place / "teams"])


@pytest.fixture
def loop(tmp_path):
    needs("mkfs.ext4", "resize2fs", "debugfs", "losetup")
    return LoopQuota([tmp_path / "homes", tmp_path / "teams"])


@pytest.fixture(params=["btrfs", "xfs", "loop"])
def quota(request):
    made = request.getfixturevalue(request.param)
    made.check()
    return made


@pytest.fixture
def home(quota):
    return quota.roots[0] / "ada"


def test_a_home_holds_no_more_than_its_limit_and_its_neighbour_goes_on(quota, home):
    quota.prepare(home, Owner(ADA), LIMIT)
    neighbour = quota.roots[0] / "ben"
    quota.prepare(neighbour, Owner(BEN), LIMIT)
    there = home.stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o7777) == (ADA, ADA, 0o700)
    full = write_as(ADA, home / "large", 60)
    assert full.returncode != 0
    assert "quota exceeded" in full.stderr or "No space left" in full.stderr
    held = quota.usage(home)
    assert held.limit <= LIMIT.size
    assert held.used <= LIMIT.size + MIB
    assert held.used >= 0.75 * LIMIT.size
    assert write_as(BEN, neighbour / "small", 5).returncode == 0
    quota.set_limit(home, Limit(LIMIT.size))
    # Its owner can delete, and write again.
    assert as_user(ADA, f"rm {home}/large").returncode == 0
    assert write_as(ADA, home / "small", 5).returncode == 0
    assert quota.usage(home).used <= 12 * MIB


def test_many_small_files_meet_a_limit_too(quota, home):
    quota.prepare(home, Owner(ADA), LIMIT)
    # So small that btrfs keeps them in its metadata, and ext4 and XFS are out of inodes first.
    filling = f"import os; os.chdir('{home}')\nfor i in range(60000): open(f'f{{i}}', 'w').write('x' * 1000)"
    done = as_user(ADA, f'python3 -c "{filling}"')
    assert "Disk quota exceeded" in done.stderr or "No space left" in done.stderr
    held = quota.usage(home)
    assert as_user(ADA, f"cd {home}; rm f1* && echo 1 > e1").returncode == 0
    if held.files_limit:
        assert held.files_limit - 5 <= held.files <= held.files_limit
        assert held.used < LIMIT.size / 2


def may_grow_mounted_file_systems():
    with open("/proc/self/status", encoding="utf-8") as file:  # noqa: PTH123 - no file
        effective = next(line for line in file if line.startswith("CapEff"))
    return bool(int(effective.split()[1], 16) >> 24 & 1)


def test_a_limit_is_raised_and_lowered_while_a_program_works_there(quota, home):
    if isinstance(quota, LoopQuota) and not may_grow_mounted_file_systems():
        pytest.skip(
            "ext4 grows while it is mounted with the capability SYS_RESOURCE only, which is missing here"
        )
    quota.prepare(home, Owner(ADA), LIMIT)
    assert write_as(ADA, home / "first", 60).returncode != 0
    as_user(ADA, f"rm {home}/first")
    with subprocess.Popen(["sleep", "60"], cwd=home) as program:
        try:
            quota.set_limit(home, Limit(80 * MIB))
            assert quota.usage(home).limit > 70 * MIB
            assert write_as(ADA, home / "second", 40).returncode == 0
            if isinstance(quota, LoopQuota):
                return  # a mounted file system grows only
            quota.set_limit(home, Limit(10 * MIB))
            quota.set_limit(home, Limit(11 * MIB))
            quota.set_limit(home, Limit(10 * MIB))
            assert quota.usage(home).limit == 10 * MIB
            assert write_as(ADA, home / "third", 1).returncode != 0
            assert (home / "second").stat().st_size == 40 * MIB
        finally:
            program.kill()


def test_what_lay_in_a_plain_folder_moves_under_the_quota(quota, home):
    home.mkdir()
    (home / "notebook.ipynb").write_text("{}")
    (home / "link").symlink_to("/etc")
    (home / "folder").mkdir(mode=0o750)
    shutil.chown(home / "notebook.ipynb", ADA, ADA)
    with subprocess.Popen(["sleep", "60"], cwd=home) as program:
        with pytest.raises(ConflictError, match=f"process {program.pid}"):
            quota.prepare(home, Owner(ADA), LIMIT)
        program.kill()
    assert (home / "notebook.ipynb").read_text() == "{}"
    quota.prepare(home, Owner(ADA), LIMIT)
    assert names(home) == ["folder", "link", "notebook.ipynb"]
    assert (home / "link").readlink().as_posix() == "/etc"
    assert (home / "folder").stat().st_mode & 0o7777 == 0o750
    assert (home / "notebook.ipynb").stat().st_uid == ADA
    assert write_as(ADA, home / "large", 60).returncode != 0
    left = [item.name for item in home.parent.iterdir() if item.name not in {"ada", ".images"}]
    assert left == []


KILLED = """
    import os, sys, threading, time
    from pathlib import Path
    from cupola.platform.storage.quotas import *
    from cupola.platform.storage.quotas import BtrfsQuota, LoopQuota, XfsQuota, Limit, Owner
    roots = [Path(part) for part in sys.argv[2:]]
    quota = {kind.__name__: kind for kind in (BtrfsQuota, LoopQuota, XfsQuota)}[sys.argv[1]](roots)
    print("go", flush=True)
    quota.prepare(roots[0] / "ada", Owner(21001), Limit(24 * 2**20, 400))
    print("done", flush=True)
"""


def test_a_kill_while_a_home_moves_loses_nothing(quota, home):
    home.mkdir()
    content = os.urandom(4096)
    for number in range(60):
        (home / f"f{number}").write_bytes(content + bytes([number]))
    arguments = [type(quota).__name__, *(str(root) for root in quota.roots)]
    for pause in (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), *arguments],
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as program:
            program.stdout.readline()
            time.sleep(pause)
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        # Between two tries a start of the platform looks at what is left.
        quota.check()
    quota.prepare(home, Owner(ADA), LIMIT)
    for number in range(60):
        assert (home / f"f{number}").read_bytes() == content + bytes([number])
    assert len(names(home)) == 60
    assert [item.name for item in home.parent.iterdir() if item.name not in {"ada", ".images"}] == []


def test_a_home_is_archived_and_the_next_of_that_name_is_empty(quota, home):
    quota.prepare(home, Owner(ADA), LIMIT)
    (home / "mine").write_text("x")
    target = quota.roots[0] / ".archived" / "ada-1"
    with subprocess.Popen(["sleep", "60"], cwd=home) as program:
        with pytest.raises(ConflictError, match="stop the sessions"):
            quota.move(home, target)
        program.kill()
    quota.move(home, target)
    quota.prepare(home, Owner(BEN), LIMIT)
    assert names(home) == []
    assert (target / "mine").read_text() == "x"
    assert home.stat().st_uid == BEN


def test_a_removed_home_is_gone(quota, home):
    quota.prepare(home, Owner(ADA), LIMIT)
    write_as(ADA, home / "large", 60)  # to delete what is full needs room too
    quota.remove(home)
    assert not home.exists()
    quota.remove(home)
    quota.prepare(home, Owner(ADA), LIMIT)
    assert names(home) == []


def test_a_teams_folder_gives_its_group_to_new_files(quota):
    team = quota.roots[1] / "mars"
    quota.prepare(team, Owner(BEN, 0o2770), LIMIT)
    command(
        "setpriv",
        "--reuid",
        str(ADA),
        "--regid",
        str(ADA),
        "--groups",
        str(BEN),
        "touch",
        str(team / "shared"),
    )
    assert (team / "shared").stat().st_gid == BEN
    assert team.stat().st_mode & 0o7777 == 0o2770


def test_subvolumes_that_a_user_makes_count_towards_the_home(btrfs):
    btrfs.check()
    home = btrfs.roots[0] / "ada"
    btrfs.prepare(home, Owner(ADA), LIMIT)
    home.parents[1].chmod(0o755)
    assert as_user(ADA, f"btrfs subvolume create {home}/hidden").returncode == 0
    assert write_as(ADA, home / "hidden" / "large", 40).returncode == 0
    assert btrfs.usage(home).used < 2 * MIB, "nothing would have to be mended: drop the watch"
    assert btrfs.watch() == [f"The subvolume {home}/hidden counts towards the quota of ada now."]
    assert btrfs.watch() == []
    assert btrfs.usage(home).used > 40 * MIB
    assert write_as(ADA, home / "hidden" / "more", 2).returncode != 0
    btrfs.remove(home)
    assert not home.exists()


def test_images_are_mounted_again_after_a_restart_of_the_machine(loop):
    loop.check()
    home = loop.roots[0] / "ada"
    loop.prepare(home, Owner(ADA), LIMIT)
    (home / "mine").write_text("x")
    command("umount", str(home))
    assert home.stat().st_uid == 0
    assert home.stat().st_mode & 0o7777 == 0o700
    LoopQuota(loop.roots).check()
    assert (home / "mine").read_text() == "x"
    assert loop.watch() == []


def test_an_image_grows_when_nothing_uses_it(loop):
    loop.check()
    home = loop.roots[0] / "ada"
    loop.prepare(home, Owner(ADA), LIMIT)
    (home / "mine").write_text("x")
    loop.set_limit(home, Limit(80 * MIB))
    assert loop.usage(home).limit > 70 * MIB
    assert (home / "mine").read_text() == "x"
    assert write_as(ADA, home / "large", 40).returncode == 0


def test_an_image_is_made_smaller_when_nothing_uses_it(loop):
    loop.check()
    home = loop.roots[0] / "ada"
    loop.prepare(home, Owner(ADA), Limit(80 * MIB))
    (home / "mine").write_text("x")
    with subprocess.Popen(["sleep", "60"], cwd=home) as program:
        with pytest.raises(ConflictError, match="only while no session"):
            loop.set_limit(home, LIMIT)
        program.kill()
    loop.set_limit(home, LIMIT)
    assert loop.usage(home).limit <= LIMIT.size
    assert (home / "mine").read_text() == "x"


def test_the_wrong_file_system_is_told_at_the_start(tmp_path):
    needs("xfs_quota", "btrfs")
    for kind in (BtrfsQuota, XfsQuota):
        with pytest.raises(StartError, match=r"put `folders\.homes` on"):
            kind([tmp_path / "homes"]).check()


def test_without_a_quota_a_home_is_counted_without_following_links(tmp_path):
    clock = [0.0]
    quota = NoQuota([tmp_path / "homes"], clock=lambda: clock[0])
    quota.check()
    home = tmp_path / "homes" / "ada"
    quota.prepare(home, Owner(None), LIMIT)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "large").write_bytes(b"x" * MIB)
    (home / "link").symlink_to("../../outside")
    (home / "mine").write_bytes(b"x" * 8192)
    held = quota.usage(home)
    assert (held.used, held.limit, held.files, held.complete) == (8192, None, 2, True)
    (home / "more").write_bytes(b"x" * 8192)
    assert quota.usage(home).used == 8192  # counted a moment ago
    clock[0] = 61.0
    assert quota.usage(home).used == 16384
