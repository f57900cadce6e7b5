from __future__ import annotations

import asyncio
import threading

import pytest

from cupola.config import StatePaths, VolumeSettings
from cupola.exceptions import NotFoundError
from cupola.models.person import Person, Profile
from cupola.platform.services.volumes import looks as module
from cupola.platform.services.volumes.volumes import VolumeService

pytestmark = pytest.mark.asyncio

MARIA = Person(name="maria", profile=Profile(cores=1, memory_mib=1024))


@pytest.fixture
def service(tmp_path):
    (tmp_path / "mars").mkdir()
    return VolumeService(
        settings=[
            VolumeSettings(name="mars", title="Mars", path=tmp_path / "mars"),
            VolumeSettings(name="gone", title="Gone", path=tmp_path / "gone"),
        ],
        paths=StatePaths(state=tmp_path),
        samples=True,
        patience=0.2,
    )


async def test_what_is_out_of_reach_says_so(service):
    found = {volume.name: volume for volume in await service.volumes(MARIA)}
    assert list(found) == ["home", "sample-archive", "mars", "gone"]
    assert found["mars"].unavailable is None
    assert "There is no folder" in found["gone"].unavailable
    assert "cupola up" in found["sample-archive"].unavailable


async def names(service, *args, **options):
    return [volume.name for volume in (await service.chosen(MARIA, *args, **options)).volumes]


async def test_what_a_session_gets(service):
    assert await names(service, None) == ["home", "mars"]
    assert await names(service, []) == ["home"]
    assert await names(service, ["mars", "home", "mars"]) == ["home", "mars"]
    assert await names(service, ["nothing", "mars"], skip_missing=True) == ["home", "mars"]
    with pytest.raises(NotFoundError, match="nothing"):
        await service.chosen(MARIA, ["nothing"])


async def test_a_volume_out_of_reach_does_not_stand_in_the_way(service):
    chosen = await service.chosen(MARIA, ["gone", "mars"])
    assert [volume.name for volume in chosen.volumes] == ["home", "gone", "mars"]
    assert len(chosen.notices) == 1
    assert "gone is out of reach just now" in chosen.notices[0]


async def test_a_disk_that_hangs_holds_up_nobody(service, monkeypatch):
    hanging, real, looks = threading.Event(), module._why_not, []

    def look(place):
        if place.volume.name == "mars":
            looks.append(1)
            hanging.wait()
        return real(place)

    monkeypatch.setattr(module, "_why_not", look)
    try:
        async with asyncio.timeout(60):
            for _ in range(5):
                found = {volume.name: volume for volume in await service.volumes(MARIA)}
        assert "does not answer" in found["mars"].unavailable
        assert len(looks) == 1
    finally:
        hanging.set()
    async with asyncio.timeout(60):
        while (await service.volume(MARIA, "mars")).unavailable:  # noqa: ASYNC110 - a disk has no event
            await asyncio.sleep(0.01)
