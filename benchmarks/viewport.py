"""How long a map of 1280 x 800 pixels takes to be complete when somebody moves it: Cupola against titiler.core.

Run it with the Lab's interpreter: ``python benchmarks/viewport.py [--runs 3] [--steps 16]``. The image has the size of
a Sentinel-2 scene; shown is NDVI. In each run somebody pans by half a viewport and zooms in and out, the same way on
both servers and another way in each run. As a browser does, the client asks for all tiles of a step, six at a time; a step is
complete when the last one is there. Tiles that an earlier step had are not asked for again: a browser keeps them. Wall
time is what counts here, so read it on an idle machine; the load is beside it.

Ours is measured twice: with the kernel idle, and with the kernel computing without end in this session's Jupyter server,
as it does while somebody's cell runs. The last line is one JSON object with the 95th percentile of the steps; ``also`` holds the
medians, the busy kernel, one image for the whole viewport instead of tiles, and CPU time per step.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import platform
import random
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

from fullres import make_image
from tiles import PEER, Addresses, Server, start_ours, start_peer

WIDTH, HEIGHT, TILE = 1280, 800, 256
BROWSER = 6
TARGET_MS = 500
LEVELS = (11, 12, 13, 14)
BUSY = "while True:\n    sum(range(100000))\n"
STYLE: dict[str, object] = {"cmap": "rdylgn", "vmin": -1, "vmax": 1}
EDGE = 20037508.342789244


class Journey:
    """The steps of somebody who looks around in an image; the same for the same number."""

    def __init__(self, image: Path, number: int, steps: int) -> None:
        import rasterio
        from rasterio.warp import transform_bounds

        with rasterio.open(image) as source:
            west, south, east, north = transform_bounds(source.crs, "EPSG:3857", *source.bounds)
        chance = random.Random(number)  # noqa: S311 - a benchmark's way, no secret
        zoom = 12
        x = chance.uniform(west + 0.3 * (east - west), east - 0.3 * (east - west))
        y = chance.uniform(south + 0.3 * (north - south), north - 0.3 * (north - south))
        self.views: list[tuple[int, float, float]] = []
        for step in range(steps):
            if step % 4 == 3:
                zoom = chance.choice([level for level in LEVELS if abs(level - zoom) == 1])
            else:
                way = chance.uniform(0, 2 * math.pi)
                pixel = 2 * EDGE / (TILE * 2**zoom)
                x += math.cos(way) * WIDTH / 2 * pixel
                y += math.sin(way) * HEIGHT / 2 * pixel
            x, y = min(max(x, west), east), min(max(y, south), north)
            self.views.append((zoom, x, y))

    @staticmethod
    def box(view: tuple[int, float, float]) -> tuple[float, float, float, float]:
        """Return left, bottom, right, top of a view in metres."""
        zoom, x, y = view
        pixel = 2 * EDGE / (TILE * 2**zoom)
        return x - WIDTH / 2 * pixel, y - HEIGHT / 2 * pixel, x + WIDTH / 2 * pixel, y + HEIGHT / 2 * pixel

    @classmethod
    def tiles(cls, view: tuple[int, float, float]) -> list[tuple[int, int, int]]:
        """Return the tiles of a view, those in the middle first, as Leaflet asks for them."""
        zoom = view[0]
        left, bottom, right, top = cls.box(view)
        size = 2 * EDGE / 2**zoom
        columns = range(math.floor((left + EDGE) / size), math.floor((right + EDGE) / size) + 1)
        rows = range(math.floor((EDGE - top) / size), math.floor((EDGE - bottom) / size) + 1)
        middle = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
        found = [(zoom, column, row) for column in columns for row in rows]
        return sorted(found, key=lambda tile: math.hypot(tile[1] - middle[0], tile[2] - middle[1]))


class Browser:
    """A client with six connections that stay open."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pool = ThreadPoolExecutor(BROWSER)
        self.free = [
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=120) for _ in range(BROWSER)
        ]

    def get(self, path: str) -> None:
        """Fetch one address; 404 is what titiler says of tiles beside the image."""
        connection = self.free.pop()
        try:
            connection.request("GET", path, headers=self.server.headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            self.free.append(connection)
        if answer.status not in {200, 404}:
            raise SystemExit(f"{self.server.name} answered {answer.status} to {path}: {body[:300]!r}")

    def step(self, paths: list[str]) -> float:
        """Fetch all addresses; return the milliseconds until the last one was there."""
        began = time.perf_counter()
        list(self.pool.map(self.get, paths))
        return (time.perf_counter() - began) * 1000

    def close(self) -> None:
        """Hang up."""
        self.pool.shutdown()
        for connection in self.free:
            connection.close()


def address(side: str, addresses: Addresses, tile: tuple[int, int, int], revision: str) -> str:
    """Return the address of a tile."""
    z, x, y = tile
    if side == "peer":
        query = {
            "url": str(addresses.image), "expression": "(b4-b1)/(b4+b1)", "rescale": "-1,1", "colormap_name": "rdylgn",
        }  # fmt: skip
        return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?{urlencode(query)}"
    style = {**STYLE, "v": revision}
    return f"/cupola/tiles/{addresses.chains['ndvi']}/WebMercatorQuad/{z}/{x}/{y}.png?{urlencode(style)}"


def view_address(addresses: Addresses, view: tuple[int, float, float], revision: str) -> str:
    """Return the address of one image for a whole view."""
    box = ",".join(str(round(side, 3)) for side in Journey.box(view))
    query = {**STYLE, "box": box, "width": WIDTH, "height": HEIGHT, "v": revision}
    return f"/cupola/view/{addresses.chains['ndvi']}/WebMercatorQuad.png?{urlencode(query)}"


def travel(server: Server, side: str, addresses: Addresses, journey: Journey) -> tuple[list[float], float]:
    """Make a journey; return the milliseconds of each step and the CPU milliseconds of a step on the average."""
    browser, kept, revision = Browser(server), set[tuple[int, int, int]](), uuid.uuid4().hex[:8]
    times: list[float] = []
    before = server.cpu()
    try:
        for view in journey.views:
            if side == "view":
                times.append(browser.step([view_address(addresses, view, revision)]))
                continue
            tiles = [tile for tile in journey.tiles(view) if tile not in kept]
            kept.update(tiles)
            times.append(browser.step([address(side, addresses, tile, revision) for tile in tiles]))
    finally:
        browser.close()
    return times, (server.cpu() - before) * 1000 / len(journey.views)


class BusyKernel:
    """A kernel of the session's Jupyter server that computes without end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.id = ""

    def start(self, runtime: Path) -> None:
        """Start it, and its loop."""
        from jupyter_client.blocking.client import BlockingKernelClient

        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        connection.request("POST", "/api/kernels", body=b"{}", headers=self.server.headers)
        self.id = json.loads(connection.getresponse().read())["id"]
        connection.close()
        client = BlockingKernelClient(connection_file=str(runtime / "jupyter" / f"kernel-{self.id}.json"))
        for _ in range(300):
            if Path(client.connection_file).exists():
                break
            time.sleep(0.1)
        client.load_connection_file()
        client.start_channels()
        # Not wait_for_ready: on a loaded machine it takes a kernel that is slow to start for dead.
        client.kernel_info()
        client.get_shell_msg(timeout=120)
        client.execute(BUSY)
        time.sleep(1)
        client.stop_channels()

    def cpu(self) -> float:
        """Return the CPU seconds of the kernel."""
        import psutil

        found = 0.0
        for child in psutil.Process(self.server.process.pid).children(recursive=True):
            if "ipykernel" in " ".join(child.cmdline()):
                times = child.cpu_times()
                found += times.user + times.system
        return found

    def stop(self) -> None:
        """End it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        connection.request("DELETE", f"/api/kernels/{self.id}", headers=self.server.headers)
        connection.getresponse().read()
        connection.close()


def percentile(values: list[float], share: float) -> float:
    """Return a percentile in whole milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def measure(
    servers: list[Server], addresses: Addresses, options: argparse.Namespace, folder: Path
) -> dict[str, list[float]]:
    """Return the milliseconds of all steps by what was measured."""
    ours, peer = servers
    ways = {"idle": (ours, "ours"), "view": (ours, "view"), "peer": (peer, "peer")}
    found: dict[str, list[float]] = {name: [] for name in (*ways, "busy")}
    for side, server in (("ours", ours), ("view", ours), ("peer", peer)):
        travel(server, side, addresses, Journey(addresses.image, 999, 3))
    kernel = BusyKernel(ours)
    for run in range(options.runs):
        journey = Journey(addresses.image, run, options.steps)
        for name, (server, side) in ways.items():
            times, cpu = travel(server, side, addresses, journey)
            found[name] += times
            print(
                f"run {run + 1}: {name} median {percentile(times, 0.5):.0f} ms, p95 {percentile(times, 0.95):.0f} ms, "
                f"{cpu:.0f} ms CPU per step",
                file=sys.stderr,
            )
        kernel.start(folder)
        try:
            before = kernel.cpu()
            times, _ = travel(ours, "ours", addresses, journey)
            assert kernel.cpu() > before, "the kernel was to be busy"
        finally:
            kernel.stop()
        found["busy"] += times
        print(
            f"run {run + 1}: busy median {percentile(times, 0.5):.0f} ms, p95 {percentile(times, 0.95):.0f} ms",
            file=sys.stderr,
        )
    return found


def main() -> None:
    """Start both servers, look around, and print the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    options = parser.parse_args()
    image = make_image(10980)
    servers: list[Server] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        try:
            addresses = Addresses(image, folder)
            servers.append(start_ours(folder))
            servers.append(start_peer(folder, "peer_titiler", PEER))
            found = measure(servers, addresses, options, folder)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait(30)
    unit = "ms until 1280 x 800 is complete"

    def row(title: str, name: str, share: float, other: str) -> dict[str, object]:
        one, two = percentile(found[name], share), percentile(found[other], share)
        return {"title": title, "ours": one, "peer": two, "ratio": round(one / two, 3), "target": ""}

    result = {
        **row("viewport", "idle", 0.95, "peer"),
        "name": "viewport",
        "unit": f"{unit} (95th percentile)",
        "target": f"{TARGET_MS} ms",
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "steps": options.steps,
        "also": [
            row("viewport, median", "idle", 0.5, "peer") | {"unit": f"{unit} (median)"},
            row("viewport, busy kernel", "busy", 0.95, "idle")
            | {"unit": f"{unit} (95th percentile; kernel idle)"},
            row("viewport, busy kernel, median", "busy", 0.5, "idle")
            | {"unit": f"{unit} (median; kernel idle)"},
            row("viewport, one image", "view", 0.5, "idle") | {"unit": f"{unit} (median; tiles)"},
        ],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
