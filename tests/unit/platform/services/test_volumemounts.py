from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.exceptions import UnavailableError
from cupola.models.volume import Bucket, Export
from cupola.platform.services.volumes.mounts import VolumeMounts, back_notice, gone_notice, notices_after
from cupola.platform.storage.mounts import nfs, rclone
from cupola.platform.storage.mounts.keeper import MountSpec

BUCKET = Bucket(endpoint="https://s3.example.org", bucket="hst", prefix="acs", region="eu-1")


def test_a_session_is_told_when_a_volume_goes_and_when_it_is_back():
    other = "The package numpy is reinstalled."
    gone = notices_after([other], {"hst": "No answer."})
    assert gone == [other, gone_notice("hst", "No answer.")]
    assert notices_after(gone, {"hst": "No answer."}) == gone
    assert notices_after(gone, {"hst": "Another reason."}) == [other, gone_notice("hst", "Another reason.")]
    back = notices_after(gone, {"hst": None})
    assert back == [other, back_notice("hst")]
    assert notices_after(back, {"hst": None}) == back
    assert notices_after(back, {"hst": "Again."}) == [other, gone_notice("hst", "Again.")]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "a-b", "b"]), st.sampled_from([None, "x", "y"])), max_size=12)
)
def test_there_is_never_more_than_one_notice_of_a_volume(steps):
    notices = []
    for name, why in steps:
        notices = notices_after(notices, {name: why})
        assert notices_after(notices, {name: why}) == notices
        for one in ("a", "a-b", "b"):
            assert len([text for text in notices if text.startswith(f"The volume {one} is ")]) <= 1


def test_rclone_is_told_no_secret_on_its_command_line_nor_the_portals_tokens(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    keys = tmp_path / "keys.ini"
    remote = rclone.Remote(BUCKET, keys, "http://volume:s3cr3t@127.0.0.1:1")
    command = rclone.mount_command(
        remote,
        target=tmp_path / "m",
        name="n",
        cache=tmp_path / "c",
        cache_gib=3,
        log=tmp_path / "l",
        write=False,
    )
    environment = remote.environment()
    assert "volume:hst/acs" in command
    assert "--read-only" in command
    assert command[command.index("--vfs-cache-max-size") + 1] == "3G"
    assert not [word for word in command if "s3cr3t" in word or "keys.ini" in word]
    assert "canary" not in " ".join(environment.values())
    assert environment["RCLONE_HTTP_PROXY"].endswith("@127.0.0.1:1")
    assert environment["RCLONE_CONFIG_VOLUME_ENDPOINT"] == "https://s3.example.org"
    assert not [name for name in environment if name.lower().endswith("_proxy") and "RCLONE" not in name]


def test_an_export_is_mounted_so_that_it_neither_hangs_nor_raises_rights(tmp_path):
    export = Export(server="nas.example.org", path="/export/mars", options="vers=4.2,timeo=50,rw")
    command = nfs.mount_command(export, target=tmp_path, write=False)
    assert command[:3] == ["mount", "-t", "nfs"]
    assert command[-2:] == ["nas.example.org:/export/mars", str(tmp_path)]
    options = command[4].split(",")
    assert {"soft", "nosuid", "nodev", "vers=4.2"} <= set(options)
    # The last word counts.
    assert options[-1] == "ro"
    assert options.index("timeo=50") > options.index("timeo=100")


class Keeper:
    """Stands where mounts are made, which needs root; it notes what is wanted of it, and may hang."""

    shared = True

    def __init__(self):
        self.up, self.hangs, self.calls = set(), threading.Event(), []
        self.hangs.set()

    def prepare(self):
        pass

    def mount(self, spec):
        self.calls.append(spec.name)
        self.hangs.wait()
        if spec.name == "broken":
            raise UnavailableError("There is no such thing.")
        self.up.add(spec.name)

    def unmount(self, name, *, forget):
        self.up.discard(name)
        self.calls.append((name, forget))

    def known(self):
        return set(self.up)


@pytest.mark.asyncio
async def test_a_mount_that_hangs_holds_up_nobody_and_is_tried_once():
    keeper = Keeper()
    mounts = VolumeMounts(keeper=keeper, way=None, idle=60)
    keeper.hangs.clear()
    try:
        async with asyncio.timeout(60):
            for _ in range(3):
                problems = await mounts.want([MountSpec("hst", bucket=BUCKET)], seconds=0.05)
        assert problems == {"hst": "It is still being mounted."}
        assert keeper.calls == ["hst"]
    finally:
        keeper.hangs.set()
    async with asyncio.timeout(60):
        while await mounts.want([MountSpec("hst", bucket=BUCKET)]):
            pass
    assert await mounts.want([MountSpec("broken", bucket=BUCKET)]) == {"broken": "There is no such thing."}


@pytest.mark.asyncio
async def test_what_nobody_uses_is_taken_away_and_what_is_used_stays():
    keeper = Keeper()
    mounts = VolumeMounts(keeper=keeper, way=None, idle=0)
    specs = {name: MountSpec(name, bucket=BUCKET) for name in ("a", "b", "c")}
    await mounts.tend(specs, used={"a", "b"}, busy=False)
    assert keeper.up == {"a", "b"}
    await mounts.tend(specs, used={"a"}, busy=True)
    assert keeper.up == {"a", "b"}
    await mounts.tend(specs, used={"a"}, busy=False)
    assert keeper.up == {"a"}
    # One that is no volume any more goes even while it is used.
    await mounts.tend({}, used={"a"}, busy=True)
    assert keeper.up == set()
    assert keeper.calls[-1] == ("a", True)
    assert ("b", False) in keeper.calls
