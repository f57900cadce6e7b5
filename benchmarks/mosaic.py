"""Map tiles of a mosaic of 20 files at world zoom, against a tile that shows one of the files.

Run it with the Lab's interpreter: ``python benchmarks/mosaic.py [--runs 5]``. The files lie 100 km apart in 5 columns and
4 rows, each of 110 km with 4 bands, pixel-interleaved, in blocks of 512, DEFLATE, with a pyramid. NDVI is drawn in tiles of
256 pixels: at the zoom levels at which tiles show many of the files (4 to 7), and as peer at the level of the files' own
pixels inside of one file. Measured is CPU time (user and system) of the server and its workers per tile, once the overview
of the collection has been made; no address is asked for twice, so no cache of tiles helps. The last line is one JSON
object; ``also`` holds the same tiles of a collection of one file as peer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

from fullres import CACHE, ROOT
from tiles import Server, fetch, start_ours

TARGET = 3.0
COLUMNS, ROWS = 5, 4
PITCH = 100_000
SIZE = 2744
PIXEL = 40
FAR, NEAR = (4, 5, 6, 7), 12

CHAIN = """
import sys
from cupola.lab import collections
from cupola.lab.chains import store

image = collections.open(sys.argv[1])
print(store.save(image["b1", "b4"].map(lambda red, nir: (nir - red) / (nir + red))))
"""


def make_mosaic() -> Path:
    """Make the files where they are not there yet; return their folder."""
    folder = CACHE / f"mosaic-{SIZE}"
    if (folder / "ready").exists():
        return folder
    import numpy as np
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    random = np.random.default_rng(20200219)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    shape = 1500 + 900 * np.sin(columns / 190) * np.cos(rows / 230)
    first = folder / "scene-00.tif"
    with rasterio.open(
        first, "w", driver="GTiff", width=SIZE, height=SIZE, count=4, dtype="uint16", nodata=0, tiled=True,
        crs="EPSG:32632", transform=from_origin(300_000, 5_400_000, PIXEL, PIXEL), blockxsize=512,
        blockysize=512, compress="deflate", predictor=2, interleave="pixel",
    ) as file:  # fmt: skip
        for band in range(1, 5):
            values = shape * (1 + band / 4) + random.normal(0, 120, (SIZE, SIZE))
            file.write(np.clip(values, 1, 10_000).astype(np.uint16), band)
    with rasterio.open(first, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    for number in range(1, COLUMNS * ROWS):
        path = folder / f"scene-{number:02}.tif"
        shutil.copyfile(first, path)
        left, top = 300_000 + PITCH * (number % COLUMNS), 5_400_000 - PITCH * (number // COLUMNS)
        with rasterio.open(path, "r+") as file:
            file.transform = from_origin(left, top, PIXEL, PIXEL)
    (folder / "ready").touch()
    return folder


def save_chain(place: Path, runtime: Path) -> str:
    """Keep the NDVI of the files at `place`, for the server; return the chain's hash."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUPOLA_RUNTIME": str(runtime)}
    saved = subprocess.run(
        [sys.executable, "-c", CHAIN, str(place)],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return saved.stdout.strip()


def tiles_of(place: Path, zooms: tuple[int, ...], most: int) -> list[tuple[int, int, int]]:
    """Return the tiles that show something of the files at `place`."""
    import morecantile
    import rasterio
    from rasterio.warp import transform_bounds

    paths = [place] if place.is_file() else sorted(place.glob("*.tif"))
    boxes = []
    for path in paths:
        with rasterio.open(path) as source:
            boxes.append(transform_bounds(source.crs, "EPSG:4326", *source.bounds))
    west, south = min(box[0] for box in boxes), min(box[1] for box in boxes)
    east, north = max(box[2] for box in boxes), max(box[3] for box in boxes)
    if place.is_file():
        # Inside of the file, as most of what somebody looks at is.
        west, south, east, north = west + 0.15, south + 0.1, east - 0.15, north - 0.1
    grid = morecantile.tms.get("WebMercatorQuad")
    found = [(tile.z, tile.x, tile.y) for tile in grid.tiles(west, south, east, north, zooms=list(zooms))]
    return found[:: max(len(found) // most, 1)][:most]


def address(chain: str, tile: tuple[int, int, int], revision: int) -> str:
    """Return the address of a tile; with another revision it is another one, which no cache has."""
    z, x, y = tile
    query = {"cmap": "rdylgn", "vmin": -1, "vmax": 1, "v": revision}
    return f"/cupola/tiles/{chain}/WebMercatorQuad/{z}/{x}/{y}.png?{urlencode(query)}"


def wait_for_overview(server: Server, chain: str, tiles: list[tuple[int, int, int]]) -> float:
    """Ask for tiles until all are made of the overview; return the seconds that took."""
    began = time.monotonic()
    for round_ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        wanted = 0
        for tile in tiles:
            connection.request("GET", address(chain, tile, 1000 + round_), headers=server.headers)
            answer = connection.getresponse()
            answer.read()
            wanted += answer.headers.get("X-Cupola-Overview") == "wanted"
        connection.close()
        if not wanted:
            return time.monotonic() - began
        time.sleep(0.5)
    raise SystemExit("the overview was not made in time")


def measure(server: Server, folder: Path, runtime: Path, runs: int) -> dict[str, list[float]]:
    """Return CPU milliseconds per tile by what was shown."""
    one = folder / "scene-07.tif"
    far = tiles_of(folder, FAR, 40)
    shown = {
        "near": (save_chain(one, runtime), tiles_of(one, (NEAR,), 24)),
        "alone": (save_chain(one, runtime), far),
        "far": (save_chain(folder, runtime), far),
    }
    print(f"{len(far)} tiles at zoom levels {FAR}", file=sys.stderr)
    # The very first look, from the files; it begins the overview, which is not to be measured along with the rest.
    found: dict[str, list[float]] = {name: [] for name in shown}
    first = fetch(server, [address(shown["far"][0], tile, 0) for tile in far])
    waited = wait_for_overview(server, shown["far"][0], far)
    print(
        f"first look, with the start of the workers: {first:.1f} ms CPU per tile; overview after {waited:.1f} s",
        file=sys.stderr,
    )
    for run in range(1, runs + 2):
        for name, (chain, tiles) in shown.items():
            cost = fetch(server, [address(chain, tile, run) for tile in tiles])
            if run > 1:
                found[name].append(cost)
                print(f"run {run - 1}: {name} {cost:.1f} ms CPU per tile", file=sys.stderr)
    return found


def main() -> None:
    """Make the files, measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    folder = make_mosaic()
    with tempfile.TemporaryDirectory() as text:
        runtime = Path(text)
        server = start_ours(runtime)
        try:
            found = measure(server, folder, runtime, options.runs)
        finally:
            server.process.terminate()
            server.process.wait(30)
    cost = {name: round(statistics.median(costs), 1) for name, costs in found.items()}
    unit = "ms CPU per tile"
    result = {
        "name": "mosaic",
        "ours": cost["far"],
        "peer": cost["near"],
        "ratio": round(cost["far"] / cost["near"], 3),
        "unit": f"{unit} (20 files at world zoom; a tile of one file)",
        "target": TARGET,
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "also": [
            {
                "title": "mosaic, the same tiles of one file",
                "peer": cost["alone"],
                "ratio": round(cost["far"] / cost["alone"], 3),
                "unit": f"{unit} (20 files at world zoom; one file at world zoom)",
            },
        ],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
