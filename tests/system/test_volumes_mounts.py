"""Buckets and folders as real mounts, also as containers see them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path

import psutil
import pytest

from cupola.config import StatePaths
from cupola.exceptions import UnavailableError
from cupola.hub.shutdown import Leftovers
from cupola.models.volume import Bucket
from cupola.platform.storage.mounts.keeper import MountKeeper, MountSpec
from cupola.platform.storage.mounts.table import mounts_below, unmount
from cupola.platform.storage.mounts.way import GuardedWay
from support.object_store import ObjectStore

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no /dev/fuse"),
    pytest.mark.skipif(os.geteuid() != 0, reason="shared mounts need root"),
]


@pytest.fixture
def store(tmp_path):
    bucket = tmp_path / "store" / "hst"
    (bucket / "acs" / "deep").mkdir(parents=True)
    (bucket / "readme.txt").write_text("far away\n")
    (bucket / "acs" / "deep" / "one.txt").write_text("one\n")
    store = ObjectStore(tmp_path / "store")
    store.start()
    yield store
    store.stop()


def made_keeper(tmp_path):
    state = tmp_path / "state"
    keeper = MountKeeper(
        folder=state / "mounts",
        records=state / "run" / "mounts",
        cache=state / "cache",
        log=state / "log",
        cache_gib=1,
    )
    keeper.prepare()
    return keeper


@pytest.fixture
def keeper(tmp_path):
    keeper = made_keeper(tmp_path)
    assert keeper.shared
    yield keeper
    for name in keeper.known():
        keeper.unmount(name)
    unmount(tmp_path / "state" / "mounts")
    assert not mounts_below(tmp_path)
    assert not rclones(tmp_path)


def rclones(folder):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder / "state") in " ".join(process.cmdline()) and "rclone" in process.name():
                found.append(process)
    return found


def names(folder):
    return [file.name for file in folder.iterdir()]


@pytest.fixture
def spec(store):
    return MountSpec("hst", bucket=Bucket(endpoint=store.endpoint, bucket="hst"))


def test_a_bucket_is_a_folder_that_nobody_can_change(keeper, spec):
    keeper.mount(spec)
    target = keeper.target("hst")
    assert (target / "acs" / "deep" / "one.txt").read_text() == "one\n"
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").write_text("x")
    keeper.unmount("hst")
    assert not target.exists()


def test_a_prefix_is_the_root(keeper, store):
    keeper.mount(MountSpec("deep", bucket=Bucket(endpoint=store.endpoint, bucket="hst", prefix="acs/deep")))
    assert names(keeper.target("deep")) == ["one.txt"]


def test_the_next_portal_takes_over_what_is_there_and_never_doubles_it(keeper, spec, tmp_path):
    keeper.mount(spec)
    [first] = rclones(tmp_path)
    next_one = made_keeper(tmp_path)
    next_one.mount(spec)
    next_one.mount(spec)
    assert [process.pid for process in rclones(tmp_path)] == [first.pid]
    assert len([point for point in mounts_below(tmp_path) if point.kind == "fuse.rclone"]) == 1


def test_one_without_a_record_is_replaced(keeper, spec, tmp_path):
    keeper.mount(spec)
    [first] = rclones(tmp_path)
    (tmp_path / "state" / "run" / "mounts" / "hst.json").unlink()
    next_one = made_keeper(tmp_path)
    next_one.mount(spec)
    assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
    assert len(rclones(tmp_path)) == 1
    assert (next_one.target("hst") / "readme.txt").read_text() == "far away\n"


def test_another_bucket_under_the_same_name_takes_its_place(keeper, spec, store, tmp_path):
    keeper.mount(spec)
    (store.folder / "other").mkdir()
    (store.folder / "other" / "x").write_text("x")
    assert (keeper.target("hst") / "readme.txt").read_text() == "far away\n"
    cache = tmp_path / "state" / "cache" / "hst"
    assert list(cache.rglob("readme.txt"))
    keeper.mount(MountSpec("hst", bucket=Bucket(endpoint=store.endpoint, bucket="other")))
    assert names(keeper.target("hst")) == ["x"]
    # Nothing of the one before is left to be seen through the new one, nor of that one in the end.
    assert not list(cache.rglob("readme.txt"))
    keeper.unmount("hst", forget=True)
    assert not cache.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_died_is_mended(keeper, spec, tmp_path, number):
    keeper.mount(spec)
    [process] = rclones(tmp_path)
    process.send_signal(number)
    psutil.wait_procs([process], timeout=20)
    assert not keeper.is_up(spec)
    keeper.mount(spec)
    assert (keeper.target("hst") / "readme.txt").read_text() == "far away\n"


def test_a_store_that_is_away_gives_errors_and_is_there_again_without_a_new_mount(keeper, spec, store):
    store.stop()
    keeper.mount(spec)
    with pytest.raises(OSError, match=r"Input/output"):
        names(keeper.target("hst"))
    store.start()
    assert sorted(names(keeper.target("hst"))) == ["acs", "readme.txt"]


def test_keys_stay_out_of_sight(keeper, tmp_path):
    folder = tmp_path / "store2" / "hst"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    store = ObjectStore(tmp_path / "store2", keys=("KEYID123", "canary-secret-456"))
    store.start()
    try:
        keys = tmp_path / "keys.ini"
        keys.write_text("[default]\naws_access_key_id=KEYID123\naws_secret_access_key=canary-secret-456\n")
        keys.chmod(0o600)
        bucket = Bucket(endpoint=store.endpoint, bucket="hst", anonymous=False)
        keeper.mount(MountSpec("closed", bucket=bucket, keys=keys))
        assert (keeper.target("closed") / "a").read_text() == "a"
        [process] = rclones(tmp_path)
        seen = [*process.cmdline(), *process.environ().values()]
        seen += [file.read_text() for file in (tmp_path / "state").rglob("*.log")]
        seen += [file.read_text() for file in (tmp_path / "state").rglob("*.json")]
        assert not [text for text in seen if "canary" in text or "KEYID" in text]
        keeper.mount(MountSpec("open", bucket=bucket))
        with pytest.raises(OSError, match="error"):
            names(keeper.target("open"))
    finally:
        store.stop()


def test_a_folder_is_mounted_so_that_nobody_can_change_it(keeper, tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a").write_text("a")
    keeper.mount(MountSpec("archive", folder=tmp_path / "archive"))
    target = keeper.target("archive")
    assert (target / "a").read_text() == "a"
    with pytest.raises(OSError, match="Read-only"):
        (target / "b").write_text("b")
    with pytest.raises(UnavailableError, match="There is no folder"):
        keeper.mount(MountSpec("gone", folder=tmp_path / "gone"))


def test_two_at_once_make_one(keeper, spec, tmp_path):
    with keeper._alone("hst"), pytest.raises(UnavailableError, match="just being mounted"):
        keeper.mount(spec)
    keeper.mount(spec)
    assert len(rclones(tmp_path)) == 1


LIST = "*os.listdir('/volumes/hst/data')"


@pytest.fixture
def container(keeper, engine, tmp_path):
    """A running container that has the place of the volume before anything is mounted there."""
    keeper.make_place("hst")
    name = f"cupola-test-{uuid.uuid4().hex[:8]}"
    docker = ["docker", "--host", engine.host]
    volume = f"{tmp_path}/state/mounts/hst:/volumes/hst:ro,rslave"
    command = [*docker, "run", "--detach", "--network", "none", "--name", name, "--volume", volume]
    code = "import time; time.sleep(600)"
    subprocess.run([*command, engine.stub(), "/opt/cupola/bin/python", "-c", code], check=True)

    def inside(said):
        code = f"import os; print({said})"
        done = subprocess.run(
            [*docker, "exec", "--user", "20001:20001", name, "/opt/cupola/bin/python", "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else done.stderr

    yield inside
    subprocess.run([*docker, "rm", "--force", name], capture_output=True, check=True)


def test_a_running_container_sees_what_is_mounted_later_and_what_was_mended(
    keeper, spec, container, tmp_path
):
    assert container(LIST) == ""
    keeper.mount(spec)
    assert container("open('/volumes/hst/data/readme.txt').read()") == "far away"
    [process] = rclones(tmp_path)
    process.kill()
    psutil.wait_procs([process], timeout=20)
    assert "Transport endpoint is not connected" in container(LIST)
    keeper.mount(spec)
    assert container("open('/volumes/hst/data/acs/deep/one.txt').read()") == "one"
    keeper.unmount("hst")
    assert "readme" not in container(LIST)


def test_a_folder_that_comes_later_cannot_be_changed_in_a_container_either(keeper, container, tmp_path):
    (tmp_path / "archive").mkdir(mode=0o777)
    (tmp_path / "archive").chmod(0o777)
    keeper.mount(MountSpec("hst", folder=tmp_path / "archive"))
    assert "Read-only file system" in container("open('/volumes/hst/data/new', 'w')")
    keeper.mount(MountSpec("hst", folder=tmp_path / "archive", write=True))
    # The container's own mount is read-only here, as the plan says for volumes to read.
    assert mounts_below(keeper.target("hst"))[0].read_only is False


def test_the_end_of_a_platform_leaves_no_mount_and_no_program(keeper, spec, tmp_path):
    keeper.mount(spec)
    way = GuardedWay(
        records=tmp_path / "state" / "run" / "mounts",
        door=tmp_path / "state" / "secrets" / "door.json",
        log=tmp_path / "state" / "log",
        allow=(),
    )
    way.open()
    left = Leftovers.find(StatePaths(state=tmp_path / "state"))
    assert left
    left.stop(lambda _: None)
    assert not mounts_below(tmp_path)
    assert not rclones(tmp_path)
    assert not left_behind(tmp_path)
    assert not Leftovers.find(StatePaths(state=tmp_path / "state"))


def left_behind(folder):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CUPOLA_MOUNT", "").startswith(str(folder)):
                found.append(process)
    return found
