"""NDVI over a Sentinel-2-size image to a packed COG: ours against the best plain rasterio script.

Run it with the Lab's interpreter: ``python benchmarks/fullres.py [--runs 3] [--size 10980]``. The image
(10980 x 10980 pixels, 4 bands of uint16, DEFLATE with predictor 2, blocks of 512, pixel-interleaved, with the noise
of real scenes) is made once, in ``.cache/bench``. Both sides run in turn, each in a process of its own; the figures
are medians. The last line is one JSON object.

The peer (`PEER` below) is the fastest single-process script found when the approach was chosen: block-aligned
windows of 1024, GDAL decoding with two threads, a plain tiled GeoTIFF, then GDAL's COG driver with two threads. It
needs numpy and rasterio only, so it runs in the same environment: both sides have the same GDAL. It keeps no
provenance and no checksum of its input; ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench"
TARGET = 1.05
MOST_MEMORY_MB = 600

PEER = """
import sys
import numpy as np, rasterio, rasterio.shutil
from rasterio.windows import Window

source, plain, target = sys.argv[1:]
with rasterio.Env(GDAL_CACHEMAX=256 * 1024 * 1024):
    with rasterio.open(source, num_threads=2) as src:
        profile = dict(driver="GTiff", width=src.width, height=src.height, count=1, dtype="int16", crs=src.crs,
                       transform=src.transform, nodata=-32768, tiled=True, blockxsize=512, blockysize=512)
        with rasterio.open(plain, "w", **profile) as dst:
            for top in range(0, src.height, 1024):
                for left in range(0, src.width, 1024):
                    window = Window(left, top, min(1024, src.width - left), min(1024, src.height - top))
                    red, nir = src.read((1, 4), window=window).astype("float32")
                    missing = (red == 0) | (nir == 0)
                    with np.errstate(all="ignore"):
                        ndvi = (nir - red) / (nir + red)
                    packed = np.rint(ndvi * 10000)
                    packed[missing | ~np.isfinite(packed)] = -32768
                    dst.write(packed.astype("int16"), 1, window=window)
            dst.scales = (0.0001,)
    rasterio.shutil.copy(plain, target, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE="256",
                         OVERVIEW_RESAMPLING="AVERAGE", NUM_THREADS="2")
"""

OURS = """
import sys
from cupola.lab import collections
from cupola.lab.chains.runs.fullres import write_product

source, folder = sys.argv[1:]
image = collections.open(source)
ndvi = image["b1", "b4"].map(lambda red, nir: (nir - red) / (nir + red))
write_product(ndvi, image.items[0], folder, dtype="int16", scale=0.0001)
"""


def make_image(size: int) -> Path:
    """Write the input, once: smooth fields, edges and noise, so that it packs like a real scene."""
    import numpy as np
    import rasterio
    import rasterio.shutil
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    path = CACHE / f"scene-{size}.tif"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    plain, draft = CACHE / "plain.part.tif", CACHE / "scene.part.tif"
    random = np.random.default_rng(20200219)
    profile = {
        "driver": "GTiff",
        "width": size,
        "height": size,
        "count": 4,
        "dtype": "uint16",
        "nodata": 0,
        "crs": "EPSG:32632",
        "transform": from_origin(399960, 5000040, 10, 10),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "interleave": "pixel",
    }
    with rasterio.open(plain, "w", **profile) as target:
        for top in range(0, size, 1024):
            print(f"making the image: row {top} of {size}", file=sys.stderr)
            for left in range(0, size, 1024):
                rows, columns = min(1024, size - top), min(1024, size - left)
                y, x = np.mgrid[top : top + rows, left : left + columns].astype("float32")
                field = np.sin(x / 311) * np.cos(y / 217) + 0.5 * np.sin((x + 2 * y) / 53)
                edge = ((x // 97 + y // 61) % 5) * 90
                for band in range(4):
                    base = (
                        (700, 900, 1000, 2600)[band]
                        + (150, 200, 260, 700)[band] * field
                        + edge * (band + 1) / 3
                    )
                    values = base + random.normal(0, 60, (rows, columns))
                    window = Window(left, top, columns, rows)
                    target.write(np.clip(values, 1, 12000).astype("uint16"), band + 1, window=window)
    with rasterio.Env(GDAL_CACHEMAX=256 * 1024 * 1024):
        rasterio.shutil.copy(
            plain,
            draft,
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR="2",
            BLOCKSIZE="512",
            OVERVIEW_RESAMPLING="AVERAGE",
            NUM_THREADS="2",
        )
    plain.unlink()
    draft.replace(path)
    return path


def measure(code: str, *arguments: str) -> dict[str, float]:
    """Run one side in a process of its own; return wall and CPU seconds, and peak memory in MB."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"One side failed with exit code {process.returncode}.")
    return {
        "wall": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024 / 1e6,
    }


def check_equal(ours: Path, peer: Path) -> None:
    """Make sure that both sides did the same work: equal pixels but for the last digit's rounding."""
    import numpy as np
    import rasterio

    with rasterio.open(ours) as one, rasterio.open(peer) as other:
        assert one.shape == other.shape
        assert one.overviews(1) == other.overviews(1)
        for row in range(0, one.height, 2048):
            window = ((row, min(row + 2048, one.height)), (0, one.width))
            difference = one.read(1, window=window).astype("int32") - other.read(1, window=window)
            assert np.abs(difference).max() <= 1, f"rows from {row} differ"


def main() -> None:
    """Run both sides in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--compare", nargs=2, type=Path, help="only compare two results")
    parser.add_argument("--make", action="store_true", help="only make the image")
    options = parser.parse_args()
    if options.compare:
        check_equal(*options.compare)
        return
    if options.make:
        make_image(options.size)
        return
    # In a process of its own: a child's peak memory is never less than what its parent held when starting it.
    subprocess.run([sys.executable, __file__, "--make", "--size", str(options.size)], check=True)
    source = CACHE / f"scene-{options.size}.tif"
    ours: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        folder = Path(text)
        for number in range(options.runs):
            place = folder / f"ours-{number}"
            ours.append(measure(OURS, str(source), str(place)))
            peer.append(measure(PEER, str(source), str(folder / "plain.tif"), str(folder / "peer.tif")))
            print(f"run {number + 1}: ours {ours[-1]}, peer {peer[-1]}", file=sys.stderr)
            pair = [str(place / f"{source.stem}.tif"), str(folder / "peer.tif")]
            subprocess.run([sys.executable, __file__, "--compare", *pair], check=True)
            for path in (*place.iterdir(), folder / "plain.tif", folder / "peer.tif"):
                path.unlink()

    def median(side: list[dict[str, float]], key: str) -> float:
        return round(statistics.median(run[key] for run in side), 2)

    result = {
        "name": "fullres",
        "ours": median(ours, "wall"),
        "peer": median(peer, "wall"),
        "ratio": round(median(ours, "wall") / median(peer, "wall"), 3),
        "unit": "s wall",
        "target": TARGET,
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "cpu_seconds": {"ours": median(ours, "cpu"), "peer": median(peer, "cpu")},
        "cpu_ratio": round(median(ours, "cpu") / median(peer, "cpu"), 3),
        "memory_mb": {
            "ours": median(ours, "memory"),
            "peer": median(peer, "memory"),
            "target": MOST_MEMORY_MB,
        },
        "size": options.size,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
