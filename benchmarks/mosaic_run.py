"""A composite of a hundred images at full resolution: ours against a plain rasterio script; and memory of hard images.

Run it with the Lab's interpreter: ``python benchmarks/mosaic_run.py [--runs 3] [--size 2048] [--images 100]``. The images
(one band of uint16, DEFLATE, blocks of 512, holes of no data) lie on one grid; they are made once, in ``.cache/bench``. Both
sides compute the mean over time into a packed cloud-optimised GeoTIFF, in turn, each in a process of its own; the figures
are medians of CPU seconds, as wall time is noise on a shared machine. The peer reads every window of 512 of all images,
takes NumPy's nanmean and writes the COG; it finds no images, warps nothing, and keeps no provenance.

Besides, the peak memory of one task is measured for a median of all images, for lines of 100,000 pixels, for an image of
40,000 x 6,000 pixels, and for 100 bands: it must stay below 600 MB for each. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fullres import CACHE, MOST_MEMORY_MB, measure

TARGET = 2.0
"""Of CPU: what it costs to find, place and account for the images of each window."""

OURS = """
import sys
from cupola.lab import collections
from cupola.lab.chains.runs.composite import write_piece
from cupola.lab.chains.compute.planning import plan

source, folder, how = sys.argv[1:]
chain = getattr(collections.open(source)["b1"], how)()
write_piece(chain, plan(chain), (0, 0), folder, name="composite", dtype="int16", scale=0.5)
"""

PEER = """
import pathlib, sys, warnings
import numpy as np, rasterio, rasterio.shutil
from rasterio.windows import Window

warnings.simplefilter("ignore", RuntimeWarning)
source, plain, target = sys.argv[1:]
with rasterio.Env(GDAL_CACHEMAX=128 * 1024 * 1024):
    images = [rasterio.open(path) for path in sorted(pathlib.Path(source).glob("*.tif"))]
    first = images[0]
    profile = dict(driver="GTiff", width=first.width, height=first.height, count=1, dtype="int16", crs=first.crs,
                   transform=first.transform, nodata=-32768, tiled=True, blockxsize=512, blockysize=512)
    with rasterio.open(plain, "w", **profile) as output:
        for top in range(0, first.height, 512):
            for left in range(0, first.width, 512):
                window = Window(left, top, min(512, first.width - left), min(512, first.height - top))
                stack = np.stack([image.read(1, window=window) for image in images]).astype("float32")
                stack[stack == 0] = np.nan
                packed = np.rint(np.nanmean(stack, axis=0) / 0.5)
                packed[np.isnan(packed)] = -32768
                output.write(packed.astype("int16"), 1, window=window)
        output.scales = (0.5,)
rasterio.shutil.copy(plain, target, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", BLOCKSIZE="256", NUM_THREADS="2")
"""

WHOLE = """
import sys
import numpy as np
from cupola.lab import collections
from cupola.lab.chains.runs.fullres import write_product

source, folder, bands = sys.argv[1:]
image = collections.open(source)
chain = image[tuple(f"b{number}" for number in range(1, int(bands) + 1))].map(lambda *bands: np.stack(bands) + 1)
write_product(chain, image.items[0], folder)
"""

HARD = {
    "lines of 100,000 pixels": {"width": 100_000, "height": 300, "count": 2, "blockysize": 1},
    "40,000 x 6,000 pixels": {
        "width": 40_000,
        "height": 6_000,
        "count": 1,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
    },
    "100 bands": {
        "width": 1_000,
        "height": 1_000,
        "count": 100,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    },
}
"""Images that have cost programs their memory."""


def make_stack(images: int, size: int) -> Path:
    """Write the images, once: noise around a level of their own, with a tenth of the pixels missing."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    folder = CACHE / f"stack-{images}-{size}"
    if folder.exists():
        return folder
    draft = CACHE / f"stack-{images}-{size}.part"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    random = np.random.default_rng(11)
    profile = {
        "driver": "GTiff",
        "width": size,
        "height": size,
        "count": 1,
        "dtype": "uint16",
        "nodata": 0,
        "crs": "EPSG:32632",
        "transform": from_origin(399960, 5000040, 10, 10),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
    }
    for number in range(images):
        values = (1000 + 10 * number + random.integers(0, 64, (size, size))).astype("uint16")
        values[random.random((size // 32, size // 32)).repeat(32, 0).repeat(32, 1) < 0.1] = 0
        with rasterio.open(draft / f"{number:03}.tif", "w", **profile) as image:
            image.write(values, 1)
    draft.replace(folder)
    return folder


def make_hard(name: str, folder: Path) -> Path:
    """Write an image whose blocks are never written: it costs nothing on the disk, and reads as no data."""
    import rasterio
    from rasterio.transform import from_origin

    path = folder / f"{name.replace(' ', '-').replace(',', '')}.tif"
    place = {"crs": "EPSG:32632", "transform": from_origin(399960, 5000040, 10, 10), "nodata": 9}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint16", sparse_ok=True, **place, **HARD[name]):
        pass
    return path


def check_equal(ours: Path, peer: Path) -> None:
    """Make sure that both sides did the same work, but for the last digit's rounding."""
    import numpy as np
    import rasterio

    with rasterio.open(ours) as one, rasterio.open(peer) as other:
        assert one.shape == other.shape
        difference = np.abs(one.read(1).astype("int32") - other.read(1))
        assert difference.max() <= 1, f"{(difference > 1).sum()} pixels differ"


def main() -> None:
    """Run both sides in turn, then the hard images, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--make", action="store_true", help="only make the images")
    parser.add_argument("--hard", nargs=2, help="only make this hard image in a folder")
    parser.add_argument("--compare", nargs=2, type=Path, help="only compare two results")
    options = parser.parse_args()
    if options.make:
        make_stack(options.images, options.size)
    elif options.hard:
        make_hard(options.hard[0], Path(options.hard[1]))
    elif options.compare:
        check_equal(*options.compare)
    else:
        print(json.dumps(figures(options)))


def figures(options: argparse.Namespace) -> dict[str, object]:
    """Return all figures; this process holds no image, as a child's peak is never less than its parent's."""
    wanted = ["--images", str(options.images), "--size", str(options.size)]
    subprocess.run([sys.executable, __file__, "--make", *wanted], check=True)
    source = CACHE / f"stack-{options.images}-{options.size}"
    ours: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    memory: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        folder = Path(text)
        # Its own place for what is known of collections: nothing of an earlier run may help.
        os.environ["CUPOLA_RUNTIME"] = str(folder / "runtime")
        for number in range(options.runs):
            place = folder / f"ours-{number}"
            ours.append(measure(OURS, str(source), str(place), "mean"))
            peer.append(measure(PEER, str(source), str(folder / "plain.tif"), str(folder / "peer.tif")))
            print(f"run {number + 1}: ours {ours[-1]}, peer {peer[-1]}", file=sys.stderr)
            pair = [str(place / "composite.tif"), str(folder / "peer.tif")]
            subprocess.run([sys.executable, __file__, "--compare", *pair], check=True)
        memory["mean of all"] = round(max(run["memory"] for run in ours))
        ranked = measure(OURS, str(source), str(folder / "median"), "median")
        memory["median of all"] = round(ranked["memory"])
        for name in HARD:
            subprocess.run([sys.executable, __file__, "--hard", name, str(folder)], check=True)
            path = folder / f"{name.replace(' ', '-').replace(',', '')}.tif"
            run = measure(WHOLE, str(path), str(folder / path.stem), str(HARD[name]["count"]))
            memory[name] = round(run["memory"])
            print(f"{name}: {run}", file=sys.stderr)
            shutil.rmtree(folder / path.stem)
    one, other = (statistics.median(run["cpu"] for run in side) for side in (ours, peer))
    return {
        "name": "mosaic_run",
        "ours": round(one, 2),
        "peer": round(other, 2),
        "ratio": round(one / other, 3),
        "unit": "s CPU",
        "target": TARGET,
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "images": options.images,
        "size": options.size,
        "memory_mb": {**memory, "target": MOST_MEMORY_MB},
    }


if __name__ == "__main__":
    main()
