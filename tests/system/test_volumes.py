"""Volumes of the real platform: a bucket of a real object store, as sessions and people see it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from cupola.exceptions import ConflictError, CupolaError, InputError, NotFoundError
from cupola.models.volume import Bucket, NewVolume, Visibility, VolumeChange
from cupola.platform.storage.mounts.table import mounts_below
from support.hst import FITS, make_bucket
from support.object_store import ObjectStore
from support.visits import kernel_in, launch, portal_answers, signed_in, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no /dev/fuse"),
]

OPEN = f"from astropy.io import fits; n = len(fits.open('volumes/hst/{FITS}'))"


@pytest.fixture
def store(tmp_path, shared_data):
    make_bucket(tmp_path / "store" / "hst-public", shared_data)
    store = ObjectStore(tmp_path / "store")
    store.start()
    yield store
    store.stop()


@pytest_asyncio.fixture
async def ours(new_platform, store, tmp_path):
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    settings = f"""
volumes:
  - name: hst
    title: Hubble, public
    bucket: {{endpoint: "{store.endpoint}", bucket: hst-public}}
    mission: Hubble Space Telescope
    example: examples/first-look.ipynb
  - {{name: kernels, title: SPICE kernels, path: "{kernels}", always: true, variable: SPICE_DATA}}
"""
    one = new_platform(settings=settings)
    one.start()
    return one


def mounts_of(platform):
    return [point for point in mounts_below(platform.paths.mounts) if point.kind.startswith("fuse")]


@pytest.mark.asyncio
async def test_a_bucket_comes_goes_and_comes_back_while_sessions_run(ours, store):
    async with signed_in(ours) as (visitor, client):

        async def found():
            volume = await client.volume("hst")
            return volume.unavailable is None and volume.collections

        (collection,) = await until(found, "the collection in the bucket is found")
        assert (collection.id, collection.items, collection.bands) == ("hst-acs", 1, ["flt"])

        session = await launch(client, volumes=["hst"])
        assert session.volumes == ["home", "hst", "kernels"]
        assert not session.notices
        assert [use.session for use in await client.volume_uses("hst")] == [session.id]
        async with kernel_in(visitor, session) as kernel:
            await kernel.run(OPEN)
            assert await kernel.value("n") > 1
            assert await kernel.value("__import__('os').environ['SPICE_DATA']") == str(
                ours.config_file.parent.parent / "kernels"
            )

        store.stop()
        away = await launch(client, volumes=["hst"], title="While it is away")
        assert away.notices == (await client.session(away.id)).notices
        assert "The volume hst is out of reach just now" in away.notices[0]

        store.start()

        async def told():
            notices = (await client.session(away.id)).notices
            return any("is there again" in text for text in notices)

        await until(told, "the session says that the volume is back")
        async with kernel_in(visitor, away) as kernel:
            await kernel.run(OPEN)
            assert await kernel.value("n") > 1


@pytest.mark.asyncio
async def test_mounts_outlive_the_portal_are_mended_and_end_with_the_platform(ours):
    async with signed_in(ours) as (visitor, client):
        session = await launch(client, volumes=["hst"])
        [rclone] = ours.programs(name="rclone")
        portals = ours.programs(word="cupola.platform")
        assert portals
        for one in portals:
            one.kill()
        psutil.wait_procs(portals, timeout=30)

        async def back():
            return await portal_answers(client)

        await until(back, "the portal is back")
        assert rclone.is_running()
        async with kernel_in(visitor, session) as kernel:
            await kernel.run(OPEN)
            assert len(mounts_of(ours)) == 1
            rclone.kill()
            psutil.wait_procs([rclone], timeout=30)
            data = ours.paths.mounts / "hst" / "data"
            await until(lambda: _listed(data), "the mount is mended")
            await kernel.run(OPEN)
        assert len(mounts_of(ours)) == 1
    ours.stop()
    assert not mounts_below(ours.paths.mounts)
    assert not ours.programs(name="rclone")


def _listed(folder):
    try:
        return bool(list(folder.iterdir()))
    except OSError:
        return False


@pytest.mark.asyncio
async def test_people_add_buckets_of_their_own(new_platform, store):
    platform = new_platform(settings="custom_volumes: {allow: [127.0.0.1]}\n")
    platform.start()
    bucket = Bucket(endpoint=store.endpoint, bucket="hst-public")
    async with signed_in(platform) as (visitor, client):
        with pytest.raises(InputError, match="needs a notebook"):
            await client.add_volume(
                NewVolume(name="mine", title="Mine", bucket=bucket, visibility=Visibility.EVERYBODY)
            )
        with pytest.raises(InputError, match="There is no notebook examples/none"):
            await client.add_volume(
                NewVolume(
                    name="mine",
                    title="Mine",
                    bucket=bucket,
                    visibility=Visibility.EVERYBODY,
                    example="examples/none.ipynb",
                )
            )
        nothing = Bucket(endpoint=store.endpoint, bucket="nothing")
        with pytest.raises(InputError, match="has no bucket nothing"):
            await client.add_volume(NewVolume(name="mine", title="Mine", bucket=nothing))
        volume = await client.add_volume(NewVolume(name="mine", title="Mine", bucket=bucket))
        assert volume.unavailable is None
        session = await launch(client, volumes=["mine"])
        async with kernel_in(visitor, session) as kernel:
            await kernel.run(OPEN.replace("hst/", "mine/", 1))
            assert await kernel.value("n") > 1
        with pytest.raises(ConflictError, match="use the volume mine"):
            await client.remove_volume("mine")
        change = VolumeChange(visibility=Visibility.EVERYBODY, example="examples/first-look.ipynb")
        # Whom the platform belongs to is an administrator: nobody else needs to approve.
        assert not (await client.change_volume("mine", change)).pending
        await client.stop_session(session.id)

        async def removed():
            try:
                await client.remove_volume("mine")
            except CupolaError:
                return False
            return True

        await until(removed, "the session has ended and the volume is removed")
        with pytest.raises(NotFoundError):
            await client.volume("mine")
        assert not mounts_of(platform)


@pytest.mark.skipif(os.geteuid() != 0, reason="shared mounts need root")
@pytest.mark.asyncio
async def test_a_container_sees_what_comes_after_its_start(new_platform, images, store, tmp_path):
    images.have("lab")
    late = tmp_path / "late"
    volumes = f"""
volumes:
  - name: hst
    title: Hubble, public
    bucket: {{endpoint: "{store.endpoint}", bucket: hst-public}}
    always: true
    variable: HST_DATA
  - {{name: late, title: A disk that comes late, path: "{late}"}}
"""
    platform = new_platform(settings=images.settings + volumes)
    store.stop()
    platform.start()
    async with signed_in(platform) as (visitor, client):
        session = await launch(client, volumes=["late"])
        assert {"hst", "late"} <= set(session.volumes)
        assert len(session.notices) == 2
        store.start()
        late.mkdir()
        (late / "here.txt").write_text("here")

        async def told():
            notices = (await client.session(session.id)).notices
            return all("is there again" in text for text in notices)

        await until(told, "the session says that both are back")
        async with kernel_in(visitor, session) as kernel:
            await kernel.run(OPEN)
            assert await kernel.value("n") > 1
            assert await kernel.value("open('volumes/late/here.txt').read()") == "here"
            assert await kernel.value("__import__('os').environ['HST_DATA']") == "/volumes/hst/data"
            read_only = "__import__('os').statvfs('volumes/{}').f_flag & __import__('os').ST_RDONLY"
            assert await kernel.value(read_only.format("late")) == 1
            assert await kernel.value(read_only.format("hst")) == 1
    platform.stop()
    assert not mounts_below(platform.paths.mounts)
