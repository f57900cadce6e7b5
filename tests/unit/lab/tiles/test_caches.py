from __future__ import annotations

import os
from pathlib import Path

import pytest

from cupola.lab.tiles.cache import OVERHEAD, Cache
from cupola.lab.tiles.disk import Disk
from cupola.lab.tiles.service import Rendered
from cupola.lab.tiles.ways import Costs


def test_memory_is_bounded_by_bytes_and_what_was_used_last_stays() -> None:
    cache = Cache(20_000)
    for number in range(30):
        cache.put(number, Rendered(bytes(1000)))
        assert cache.get(0) is not None
    assert cache.used <= 20_000
    assert cache.get(29) is not None
    assert cache.get(1) is None
    # What is empty is not for nothing, and what is too large pushes nothing out.
    cache.put("large", Rendered(bytes(10_000)))
    assert cache.get("large") is None
    before = cache.used
    cache.put(29, Rendered(b""))
    assert cache.used == before - 1000
    assert cache.used % (1000 + OVERHEAD) == OVERHEAD


@pytest.mark.asyncio
@pytest.mark.usefixtures("runtime")
class TestDisk:
    async def test_pictures_are_there_again_in_the_next_session(self) -> None:
        await Disk().put("key", b"\x89PNG\n\0", {"scale": 10.0})
        assert await Disk().get("key") == (b"\x89PNG\n\0", {"scale": 10.0})
        assert await Disk().get("another") is None
        (path,) = Disk.folder().iterdir()
        assert path.stat().st_mode & 0o077 == 0

    async def test_what_was_cut_off_or_swapped_is_none(self) -> None:
        await Disk().put("key", b"picture", {})
        (path,) = Disk.folder().iterdir()
        whole = path.read_bytes()
        for broken in (whole[:-1], b"", b"{}\npicture", whole.replace(b'"key"', b'"cow"')):
            path.write_bytes(broken)
            assert await Disk().get("key") is None

    async def test_it_is_bounded(self) -> None:
        disk = Disk(100_000)
        for number in range(40):
            await disk.put(str(number), bytes(10_000), {})
            # One after another, whatever the clock of the file system.
            for path in Disk.folder().iterdir():
                os.utime(path, (path.stat().st_mtime - 1,) * 2)
        total = sum(path.stat().st_size for path in Disk.folder().iterdir())
        assert total <= 120_000
        assert await disk.get("39") is not None
        assert await disk.get("0") is None

    async def test_a_full_disk_or_none_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_arguments: object, **_options: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("cupola.lab.tiles.disk.tempfile.mkstemp", full)
        await Disk().put("key", b"picture", {})
        assert await Disk().get("key") is None
        monkeypatch.setenv("CUPOLA_TILE_DISK_MIB", "0")
        assert not Disk().keeps("1")

    async def test_a_draft_that_was_left_behind_goes(self) -> None:
        Disk.folder().mkdir(parents=True)
        draft = Path(Disk.folder() / ".left")
        draft.write_bytes(b"half")
        os.utime(draft, (0, 0))
        await Disk().put("key", b"picture", {})
        assert not draft.exists()

    async def test_only_addresses_that_name_the_state_of_the_files_are_kept(self) -> None:
        assert Disk().keeps("1")
        assert not Disk().keeps("~17")


def test_slow_functions_are_shown_by_one_image_where_that_is_cheaper() -> None:
    costs = Costs()
    assert costs.way("chain", 1280, 800, 2)["way"] == "tiles"
    assert costs.slow("chain")
    costs.add("chain", "tile", 256 * 256, 0.01)
    assert costs.way("chain", 1280, 800, 2)["way"] == "tiles"
    assert not costs.slow("chain")
    costs.add("slow", "tile", 256 * 256, 0.5)
    told = costs.way("slow", 1280, 800, 2)
    assert told["way"] == "view"
    assert told["ms"] == told["view_ms"] < told["tiles_ms"]
    # It turned out that one image costs as much: its tiles at least come from two processes.
    for _ in range(3):
        costs.add("slow", "view", 1280 * 800, 16.0)
    assert costs.way("slow", 1280, 800, 2)["way"] == "tiles"
    for number in range(300):
        costs.add(str(number), "tile", 1, 1.0)
    assert not costs.known("chain")
