"""Map tiles over a Sentinel-2-size image: Cupola's tile addresses against titiler.core with its defaults, and the floor.

Run it with the Lab's interpreter: ``python benchmarks/tiles.py [--runs 5] [--tiles 48]``. Two operations, NDVI and
the mean over 5 x 5 pixels, in tiles of 256 pixels at the image's own zoom level (13). Both servers answer over HTTP
to 4 clients at a time, in turn, with the same tiles in each run and no tile twice, so that no cache helps. Measured
is CPU time (user and system) of the server and all its workers per tile: wall time is noise on a shared machine.

Ours is a Jupyter server with the extension, its workers included. The peer is titiler.core under uvicorn with one
worker and default settings, in an environment of its own in ``.cache/bench/titiler``. The last line is one JSON
object; its figures are those of the operation in which ours is worse, both are beside it.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import psutil
from fullres import CACHE, ROOT, make_image

TARGET = 0.35
FLOOR_TARGET = 0.7
CLIENTS = 4
ZOOM = 13
WARM_UP = 12
OPERATIONS = ("ndvi", "focal")
SIDES = ("ours", "peer", "floor")

CHAINS = """
import sys
from cupola.lab import collections
from cupola.lab.chains import store

def focal(band):
    from scipy.ndimage import uniform_filter
    return uniform_filter(band, 5)

image = collections.open(sys.argv[1])
ndvi = image["b1", "b4"].map(lambda red, nir: (nir - red) / (nir + red))
print(store.save(ndvi), store.save(image["b1"].map(focal, halo=2)))
"""

PEER = """
import numpy as np
from fastapi import FastAPI
from rio_tiler.models import ImageData
from scipy.ndimage import uniform_filter
from titiler.core.algorithm import BaseAlgorithm, Algorithms, algorithms
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.core.factory import TilerFactory

class Focal(BaseAlgorithm):
    def __call__(self, img):
        data = uniform_filter(img.array.data.astype("float32"), (0, 5, 5))[:, 2:-2, 2:-2]
        mask = img.array.mask[:, 2:-2, 2:-2]
        return ImageData(np.ma.MaskedArray(data, mask=mask), assets=img.assets, crs=img.crs, bounds=img.bounds)

app = FastAPI()
app.include_router(TilerFactory(process_dependency=algorithms.register({"focal": Focal}).dependency).router)
add_exception_handlers(app, DEFAULT_STATUS_CODES)
"""

FLOOR = """
import io
import threading
import numpy as np
from PIL import Image
from rio_tiler.colormap import cmap
from rio_tiler.io import Reader
from scipy.ndimage import uniform_filter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

kept = threading.local()
table = cmap.get("rdylgn")
palette = bytes(value for entry in range(255) for value in table[entry][:3]) + bytes(3)
opacity = bytes(table[entry][3] for entry in range(255)) + bytes(1)

def reader(url):
    readers = kept.__dict__.setdefault("readers", {})
    if url not in readers:
        readers[url] = Reader(url)
    return readers[url]

def make(operation, url, z, x, y, ending):
    if operation == "ndvi":
        image = reader(url).tile(x, y, z, tilesize=256, indexes=(1, 4))
        red, nir = image.array.data.astype("float32")
        with np.errstate(all="ignore"):
            values, mask, low, high = (nir - red) / (nir + red), image.mask == 0, -1, 1
    else:
        image = reader(url).tile(x, y, z, tilesize=256, indexes=1, buffer=2)
        values = uniform_filter(image.array.data[0].astype("float32"), 5)[2:-2, 2:-2]
        mask, low, high = image.mask[2:-2, 2:-2] == 0, 0, 3000
    output = io.BytesIO()
    if ending == "npy":
        np.save(output, np.where(mask, np.nan, values)[np.newaxis])
        return output.getvalue()
    index = np.clip((values - low) * (254 / (high - low)), 0, 254).astype("uint8")
    index[mask] = 255
    picture = Image.fromarray(index, "P")
    picture.putpalette(palette)
    picture.save(output, "PNG", compress_level=1, transparency=opacity)
    return output.getvalue()

async def tile(request):
    place = request.path_params
    body = await run_in_threadpool(
        make, place["operation"], request.query_params["url"], place["z"], place["x"], place["y"], place["ending"]
    )
    return Response(body, media_type="image/png")

async def ready(request):
    return Response("ready")

app = Starlette(routes=[
    Route("/openapi.json", ready),
    Route("/{operation}/{z:int}/{x:int}/{y:int}.{ending}", tile),
])
"""


@dataclass
class Server:
    """A server that is measured."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    headers: dict[str, str] = field(default_factory=dict)

    def cpu(self) -> float:
        """Return the seconds that it and everything it started have computed so far."""
        root = psutil.Process(self.process.pid)
        total = 0.0
        for process in [root, *root.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def get(self, path: str) -> bytes:
        """Fetch one address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise SystemExit(f"{self.name} answered {answer.status} to {path}: {body[:500]!r}")
        return body

    def wait(self, path: str) -> None:
        """Wait until it answers."""
        for _ in range(600):
            try:
                self.get(path)
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{self.name} did not start") from None
                time.sleep(0.2)
            else:
                return
        raise SystemExit(f"{self.name} did not start in two minutes")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ours(folder: Path) -> Server:
    """Start a Jupyter server with Cupola's extension."""
    port, token = free_port(), secrets.token_hex()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "CUPOLA_RUNTIME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        "JUPYTER_TOKEN": token,
    }
    command = [
        sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
        "--ServerApp.jpserver_extensions", "cupola.lab.extension=True", "--ServerApp.log_level=ERROR",
    ]  # fmt: skip
    with (folder / "ours.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    server = Server("Cupola", port, process, {"Authorization": f"token {token}"})
    server.wait("/api/status")
    return server


def start_peer(folder: Path, name: str, program: str) -> Server:
    """Install the peers' packages if they are not there, and start `program` under uvicorn."""
    place = CACHE / "titiler"
    python = place / "bin" / "python"
    if not (place / "with-pillow").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(place)], check=True)
        packages = ["titiler.core==2.4.*", "uvicorn", "scipy", "pillow"]
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), *packages], check=True)
        (place / "with-pillow").touch()
    (folder / f"{name}.py").write_text(program)
    port = free_port()
    command = [str(python), "-m", "uvicorn", f"{name}:app", "--port", str(port), "--log-level", "error"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    server = Server(name, port, process)
    server.wait("/openapi.json")
    return server


class Addresses:
    """The addresses of a tile at both servers."""

    def __init__(self, image: Path, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUPOLA_RUNTIME": str(folder)}
        saved = subprocess.run(
            [sys.executable, "-c", CHAINS, str(image)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.chains = dict(zip(OPERATIONS, saved.stdout.split(), strict=True))
        self.image = image

    def ours(self, operation: str, x: int, y: int, ending: str = "png") -> str:
        """Return the address at Cupola."""
        low, high = (-1, 1) if operation == "ndvi" else (0, 3000)
        query = {"cmap": "rdylgn", "vmin": low, "vmax": high, "v": "1"}
        chain = self.chains[operation]
        return f"/cupola/tiles/{chain}/WebMercatorQuad/{ZOOM}/{x}/{y}.{ending}?{urlencode(query)}"

    def peer(self, operation: str, x: int, y: int, ending: str = "png") -> str:
        """Return the address at titiler."""
        query = {"url": str(self.image), "colormap_name": "rdylgn"}
        if operation == "ndvi":
            query |= {"expression": "(b4-b1)/(b4+b1)", "rescale": "-1,1"}
        else:
            query |= {"bidx": "1", "algorithm": "focal", "buffer": "2", "rescale": "0,3000"}
        if ending == "npy":
            del query["colormap_name"], query["rescale"]
        return f"/tiles/WebMercatorQuad/{ZOOM}/{x}/{y}.{ending}?{urlencode(query)}"

    def floor(self, operation: str, x: int, y: int, ending: str = "png") -> str:
        """Return the address at the floor."""
        return f"/{operation}/{ZOOM}/{x}/{y}.{ending}?{urlencode({'url': str(self.image)})}"


def inner_tiles(image: Path) -> list[tuple[int, int]]:
    """Return the tiles that lie inside of the image, in a random but repeatable order."""
    import morecantile
    import rasterio
    from rasterio.warp import transform_bounds

    with rasterio.open(image) as source:
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    grid = morecantile.tms.get("WebMercatorQuad")
    margin = 0.1
    box = (west + margin, south + margin, east - margin, north - margin)
    tiles = [(tile.x, tile.y) for tile in grid.tiles(*box, zooms=[ZOOM])]
    random.Random(20200219).shuffle(tiles)  # noqa: S311 - a benchmark's order, no secret
    return tiles


def fetch(server: Server, paths: list[str]) -> float:
    """Fetch all addresses with a few clients at a time; return CPU milliseconds per tile."""
    before = server.cpu()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(server.get, paths))
    return (server.cpu() - before) * 1000 / len(paths)


def check_equal(ours: Server, peers: list[Server], addresses: Addresses, tile: tuple[int, int]) -> None:
    """Make sure that all compute the same.

    The nearest pixel may differ here and there, which moves a mean of 25 noisy pixels by a few counts of some 800.
    """
    import numpy as np

    for operation in OPERATIONS:
        one = np.load(io.BytesIO(ours.get(addresses.ours(operation, *tile, ending="npy"))))[0]
        for peer, address in zip(peers, (addresses.peer, addresses.floor), strict=True):
            other = np.load(io.BytesIO(peer.get(address(operation, *tile, ending="npy"))))[0]
            assert one.shape == other.shape == (256, 256), (one.shape, other.shape)
            difference = np.nanmedian(np.abs(one - other))
            print(f"{operation}: median difference to {peer.name} {difference:.2g}", file=sys.stderr)
            assert difference < (0.01 if operation == "ndvi" else 10), operation


def measure(
    servers: list[Server], addresses: Addresses, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Run all in turn; return CPU milliseconds per tile by operation and side."""
    tiles = inner_tiles(addresses.image)
    check_equal(servers[0], servers[1:], addresses, tiles.pop())
    ways = (addresses.ours, addresses.peer, addresses.floor)
    needed = options.runs * options.tiles + WARM_UP
    if len(tiles) < needed:
        raise SystemExit(
            f"The image has {len(tiles)} tiles, {needed} are needed: give fewer --runs or --tiles."
        )
    found: dict[str, list[float]] = {f"{operation} {side}": [] for operation in OPERATIONS for side in SIDES}
    first, rest = tiles[:WARM_UP], tiles[WARM_UP:]
    for run in range(-1, options.runs):
        chosen = first if run < 0 else rest[run * options.tiles : (run + 1) * options.tiles]
        for operation in OPERATIONS:
            for server, address, side in zip(servers, ways, SIDES, strict=True):
                cost = fetch(server, [address(operation, x, y) for x, y in chosen])
                if run >= 0:
                    found[f"{operation} {side}"].append(cost)
                    print(
                        f"run {run + 1}: {operation} {server.name} {cost:.1f} ms CPU per tile",
                        file=sys.stderr,
                    )
    return found


def main() -> None:
    """Start both servers, measure in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=48, help="per run, operation and side")
    parser.add_argument("--size", type=int, default=10980)
    options = parser.parse_args()
    image = make_image(options.size)
    servers: list[Server] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        try:
            addresses = Addresses(image, folder)
            servers.append(start_ours(folder))
            servers.append(start_peer(folder, "peer_titiler", PEER))
            servers.append(start_peer(folder, "peer_floor", FLOOR))
            found = measure(servers, addresses, options)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait(30)
    medians = {name: round(statistics.median(costs), 1) for name, costs in found.items()}
    ratios = {
        operation: round(medians[f"{operation} ours"] / medians[f"{operation} peer"], 3)
        for operation in OPERATIONS
    }
    worse = max(OPERATIONS, key=lambda operation: ratios[operation])
    result = {
        "name": "tiles",
        "ours": medians[f"{worse} ours"],
        "peer": medians[f"{worse} peer"],
        "ratio": ratios[worse],
        "unit": f"ms CPU per tile ({worse})",
        "target": TARGET,
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "operations": {
            operation: {
                "ours": medians[f"{operation} ours"],
                "peer": medians[f"{operation} peer"],
                "ratio": ratios[operation],
                "floor": medians[f"{operation} floor"],
            }
            for operation in OPERATIONS
        },
        "also": [
            {
                "title": f"tiles, {operation} and the floor",
                "ours": medians[f"{operation} ours"],
                "peer": medians[f"{operation} floor"],
                "ratio": round(medians[f"{operation} ours"] / medians[f"{operation} floor"], 3),
                "target": FLOOR_TARGET if operation == "ndvi" else "",
                "unit": f"ms CPU per tile ({operation}; starlette, rio-tiler, NumPy)",
            }
            for operation in OPERATIONS
        ],
        "tiles": options.tiles,
        "size": options.size,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
