"""Service nodes: real node processes, a real Dask cluster, a real way between them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import pytest_asyncio

from cupola.exceptions import InputError, UnavailableError
from cupola.lab import tiles
from cupola.lab.chains import store
from cupola.lab.tiles import remote
from cupola.lab.tiles.channel import Channel, StrangerError
from cupola.lab.tiles.node import Node
from cupola.lab.tiles.pool import Pool
from cupola.lab.tiles.process import WorkerLimits
from cupola.lab.tiles.service import TileAddress, TileService
from cupola.lab.tiles.styles import Style
from support.jobs_portal import Portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

pytestmark = [pytest.mark.asyncio, pytest.mark.system, pytest.mark.usefixtures("runtime")]

LIMITS = WorkerLimits(workers=1, seconds=20, soft_seconds=0.1, grace_seconds=20)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process's state: nothing here can set an event
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def service() -> AsyncIterator[TileService]:
    made = TileService(Pool(LIMITS))
    yield made
    await made.nodes.close()
    await made.pool.close()


@pytest.fixture
def node(runtime: Path) -> Iterator[psutil.Popen]:
    """A node with two slots, as a process of its own."""
    command = [sys.executable, "-m", "cupola.lab.tiles.node", str(remote.folder()), "--slots=2"]
    # It has another home: chains come with the requests.
    environment = {**os.environ, "CUPOLA_RUNTIME": str(runtime / "elsewhere")}
    process = psutil.Popen([*command, f"--parent={os.getpid()}"], env=environment)
    yield process
    if process.is_running():
        process.terminate()
    process.wait(30)


async def tile(service: TileService, chain: Chain, x: int = 128, y: int = 127) -> bytes:
    address = TileAddress(store.save(chain), "WebMercatorQuad", 8, x, y, 64, "1")
    rendered = await service.tile(address, Style(), "npy")
    assert rendered.problem is None, rendered.problem
    return rendered.body


def where(path: str) -> Callable[[Any], Any]:
    """Return a function that notes in which process it runs, and takes its time."""

    def noted(band: Any) -> Any:
        import os as system
        import time as clock

        with open(path, "a") as file:  # noqa: PTH123 - pickled
            file.write(f"{system.getppid()}\n")
        clock.sleep(0.5)
        return band

    return noted


async def joined(service: TileService, number: int) -> None:
    async with asyncio.timeout(60):
        while service.nodes.workers < number:
            await service.nodes.connect()
            await asyncio.sleep(0.05)


async def test_a_node_computes_beside_the_session(
    service: TileService, node: psutil.Popen, scene: Collection, tmp_path: Path
) -> None:
    await joined(service, 2)
    assert service.pool.slots == 3
    seen = tmp_path / "seen"
    chain = scene["one"].map(where(str(seen)))
    # The images of one viewport, so that all have work to do at once.
    options = {"tms": "WebMercatorQuad", "width": 8, "height": 8, "exact": False}
    boxes = [[1000.0 * n, 1000.0, 1000.0 * n + 500, 1500.0] for n in range(1, 7)]
    works = [
        service.picture("view", store.save(chain), "1", {**options, "box": box}, Style(), "npy")
        for box in boxes
    ]
    found = await asyncio.gather(*works)
    assert [rendered.problem for rendered in found] == [None] * len(works)
    parents = {int(line) for line in seen.read_text().split()}
    assert parents == {os.getpid(), node.pid}
    assert tiles.nodes() == [name for about in remote.known().values() if (name := about["name"])]


async def test_what_a_dying_node_was_at_is_computed_elsewhere(
    service: TileService, node: psutil.Popen, scene: Collection, tmp_path: Path
) -> None:
    await joined(service, 2)
    seen = tmp_path / "seen"
    busy = asyncio.create_task(tile(service, scene["two"].map(where(str(tmp_path / "busy")))))
    await until((tmp_path / "busy").exists)
    work = asyncio.create_task(tile(service, scene["one"].map(where(str(seen)))))
    await until(seen.exists)
    assert int(seen.read_text()) == node.pid
    node.send_signal(signal.SIGKILL)
    assert (await work).startswith(b"\x93NUMPY")
    await busy
    assert len(seen.read_text().split()) == 2
    assert service.nodes.workers == 0


@pytest.mark.usefixtures("node")
async def test_abandoned_work_of_a_node_is_interrupted(
    service: TileService, scene: Collection, tmp_path: Path
) -> None:
    await joined(service, 2)
    begun = str(tmp_path / "begun")

    def endless(band: Any) -> Any:
        with open(begun, "w"):  # noqa: PTH123 - pickled
            pass
        while True:
            band = band + 1

    busy = asyncio.create_task(tile(service, scene["two"].map(where(str(tmp_path / "busy")))))
    await until((tmp_path / "busy").exists)
    work = asyncio.create_task(tile(service, scene["one"].map(endless)))
    await until((tmp_path / "begun").exists)
    work.cancel()
    await busy
    # Idle workers of the node come before new ones of the session, so both were at work there, and both still are there.
    await until(lambda: len(service.pool.idle_pids) == 2)
    assert service.nodes.workers == 2


async def test_nodes_that_are_released_end(
    service: TileService, node: psutil.Popen, scene: Collection
) -> None:
    await joined(service, 2)
    assert len(tiles.release()) == 1
    await service.nodes.connect()
    assert service.nodes.workers == 0
    await until(lambda: not node.is_running() or node.status() == psutil.STATUS_ZOMBIE)
    assert (await tile(service, scene["one"])).startswith(b"\x93NUMPY")


async def test_strangers_get_nowhere() -> None:
    node = Node(1, LIMITS)
    about = await node.start()
    host = "127.0.0.1"
    try:
        with pytest.raises(StrangerError):
            await Channel.connect(host, about["port"], b"x" * 32)
        reader, writer = await asyncio.open_connection(host, about["port"])
        writer.write(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" + b" " * 200)
        # It says its own greeting and its proof, and hangs up; a request is never listened to.
        assert len(await reader.read(-1)) < 200
        writer.close()
        channel = await Channel.connect(host, about["port"], node.key)
        # A message that was changed on its way.
        channel._key = b"y" * 32
        await channel.send({"do": "tile"})
        with pytest.raises(OSError, match="gone"):
            await channel.receive()
        await channel.close()
        await until(lambda: node.connected == 0)
    finally:
        await node.close()
    place = remote.folder()
    place.mkdir(parents=True)
    # What others may have written counts for nothing.
    (place / "planted.json").write_text(json.dumps(about))
    (place / "planted.json").chmod(0o644)
    (place / "broken.json").write_text("{")
    (place / "broken.json").chmod(0o600)
    assert remote.known() == {}


async def test_the_workers_of_a_dask_cluster_compute_tiles(
    service: TileService, scene: Collection, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = await asyncio.to_thread(
        distributed.LocalCluster, n_workers=1, threads_per_worker=2, dashboard_address=None
    )
    try:
        client = await asyncio.to_thread(distributed.Client, cluster)
        names = await asyncio.to_thread(tiles.use, client)
        assert len(names) == 1
        await joined(service, 2)
        seen = tmp_path / "seen"
        busy = asyncio.create_task(tile(service, scene["two"].map(where(str(tmp_path / "busy")))))
        await until((tmp_path / "busy").exists)
        await tile(service, scene["one"].map(where(str(seen))))
        await busy
        assert int(seen.read_text()) != os.getpid()
        await asyncio.to_thread(client.close)
    finally:
        await asyncio.to_thread(cluster.close)
    # The node ends with the worker that it was started beside.
    await until(lambda: service.nodes.workers == 0)
    assert (await tile(service, scene["one"])).startswith(b"\x93NUMPY")


async def test_tasks_of_a_job_compute_tiles(
    service: TileService,
    scene: Collection,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    portal = Portal(tmp_path_factory.mktemp("platform"))
    await asyncio.to_thread(portal.start)
    monkeypatch.setenv("CUPOLA_API_URL", portal.url)
    monkeypatch.setenv("CUPOLA_TOKEN", "anybody")
    monkeypatch.delenv("CUPOLA_SESSION", raising=False)
    try:
        job = await asyncio.to_thread(tiles.use, tasks=1, cpus=1, memory="1 GiB", hours=0.1)
        await joined(service, 1)
        seen = tmp_path / "seen"
        await tile(service, scene["one"].map(where(str(seen))))
        assert int(seen.read_text()) != os.getpid()
        assert len(tiles.release()) == 1
        assert await asyncio.to_thread(lambda: list(job.results())) == ["released"]
    finally:
        await asyncio.to_thread(portal.close)


async def test_use_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cupola.lab.tiles.sharing.CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match="tasks=4"):
        tiles.use()
    with pytest.raises(UnavailableError, match="address"):
        await asyncio.to_thread(tiles.use, "tcp://127.0.0.1:9")


async def test_a_node_is_started_without_the_heavy_libraries() -> None:
    code = "import sys, cupola.lab.tiles.node as n; print([m for m in ('numpy', 'rasterio') if m in sys.modules])"
    said = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
