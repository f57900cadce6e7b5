"""A viewport of the sky over a large mosaic: Cupola's sampling against reproject_interp.

Run it with the Lab's interpreter: ``python benchmarks/sky.py [--runs 5] [--size 5000]``. The image (5000 x 5000 pixels of
float32 in a FITS file, gnomonic projection, 0.5 arcseconds per pixel, stars on noise) is made once, in ``.cache/bench``.
Both sides compute the same viewports of 512 x 512 pixels, in turn, each in a process of its own that has the file in
memory or in the page cache: one at the image's own scale, one of the whole image. Measured is CPU time (user and system) per
viewport. Both interpolate bilinearly at the image's own scale, and both results are compared.

The peer is reproject in an environment of its own in ``.cache/bench/reproject``; it gets the pixels as an array in memory. The
last line is one JSON object; its figures are those of the viewport in which ours is worse. ``also`` has the other one, and what
a HiPS tile costs (the same number of pixels, at places of their own).
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
from pathlib import Path
from typing import Any

import numpy as np
from fullres import CACHE, ROOT

TARGET = 0.25
SIZE = 512
CENTRE = (150.1, 2.2)
PIXEL = 0.5 / 3600
WARM_UP = 3
VIEWS = {"own scale": PIXEL, "whole image": 5000 * PIXEL / SIZE}
"""Degrees per pixel of the viewports."""

PEER = """
import json, sys, time
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from reproject import reproject_interp

image, folder, times, views = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
with fits.open(image) as units:
    pixels = units[0].data.astype("float32"), WCS(units[0].header)
found = {}
for name, header in views.items():
    wanted = WCS(fits.Header(header))
    costs = []
    for turn in range(times):
        begun = time.process_time()
        result, _ = reproject_interp(pixels, wanted, shape_out=(512, 512), order="bilinear")
        costs.append((time.process_time() - begun) * 1000)
    found[name] = costs
    np.save(f"{folder}/peer-{name}.npy", result)
print(json.dumps(found))
"""

OURS = """
import json, sys, time
import numpy as np
from cupola.lab import collections
from cupola.lab.chains.compute import evaluate
from cupola.lab.sky import coverage, hips

image, folder, times, views = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
opened = collections.open(image)
chain = opened[opened.bands[0]].resample("bilinear")

found = {}
for name, box in views.items():
    costs = []
    for turn in range(times):
        begun = time.process_time()
        pixels = evaluate.viewport(chain, "Sky2015car", box, 512, 512)
        costs.append((time.process_time() - begun) * 1000)
    found[name] = costs
    np.save(f"{folder}/ours-{name}.npy", pixels.data[0])
about, cells = hips.describe_chain(chain, "")
tiles = coverage.at_order(cells, about["order"])[:times]
costs = []
for tile in tiles:
    begun = time.process_time()
    hips.compute(chain, about["order"], tile)
    costs.append((time.process_time() - begun) * 1000)
found["HiPS tile"] = costs
print(json.dumps(found))
"""


def make_image(size: int) -> Path:
    """Make the mosaic, or return the one that is there."""
    from astropy.io import fits
    from scipy.ndimage import gaussian_filter

    path = CACHE / f"sky-{size}.fits"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20261121)
    stars = np.zeros((size, size), dtype=np.float32)
    count = size * size // 2000
    places = random.integers(0, size, (2, count))
    stars[places[0], places[1]] = random.pareto(1.5, count) * 500
    values = gaussian_filter(stars, 1.5) + random.normal(100, 5, (size, size)).astype(np.float32)
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = CENTRE
    header["CRPIX1"] = header["CRPIX2"] = (size + 1) / 2
    header["CDELT1"], header["CDELT2"] = -PIXEL, PIXEL
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["RADESYS"] = "ICRS"
    aside = path.with_suffix(".part")
    fits.PrimaryHDU(values.astype(np.float32), header).writeto(aside, overwrite=True)
    aside.replace(path)
    return path


def box_of(step: float) -> list[float]:
    """Return the box of a viewport in arcseconds: west, south, east, north."""
    half = SIZE / 2 * step
    sides = (CENTRE[0] - half, CENTRE[1] - half, CENTRE[0] + half, CENTRE[1] + half)
    return [side * 3600 for side in sides]


def header_of(step: float) -> dict[str, Any]:
    """Return the same viewport as a header: right ascension and declination lie evenly, the former growing to the right."""
    return {
        "CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRVAL1": CENTRE[0], "CRVAL2": 0.0, "CDELT1": step, "CDELT2": -step, "RADESYS": "ICRS",
        "CRPIX1": (SIZE + 1) / 2, "CRPIX2": (SIZE + 1) / 2 + CENTRE[1] / step,
    }  # fmt: skip


def peer_python() -> Path:
    """Return the interpreter that has reproject; install it if it is not there."""
    place = CACHE / "reproject"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(place)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(python), "reproject"], check=True)
        (place / "ready").touch()
    return python


def run(
    python: Path | str, script: str, arguments: list[str], environment: dict[str, str]
) -> dict[str, list[float]]:
    """Run one side; return CPU milliseconds by viewport."""
    done = subprocess.run(
        [str(python), "-c", script, *arguments],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {name: costs[WARM_UP:] or costs for name, costs in result.items()}


def check_equal(folder: Path) -> None:
    """Make sure that both computed the same at the image's own scale; of the whole image, pixels are picked among ten."""
    ours, peer = (np.load(folder / f"{side}-own scale.npy") for side in ("ours", "peer"))
    difference = np.abs(ours - peer)
    worst, median = float(np.nanmax(difference)), float(np.nanmedian(difference))
    print(f"own scale: median difference {median:.2g}, largest {worst:.2g} of a noise of 5", file=sys.stderr)
    assert np.isfinite(ours).mean() > 0.99
    assert median < 0.5, median
    ours, peer = (np.load(folder / f"{side}-whole image.npy") for side in ("ours", "peer"))
    inside = np.isfinite(ours) & np.isfinite(peer)
    assert inside.mean() > 0.9, inside.mean()
    assert abs(np.median(ours[inside]) - np.median(peer[inside])) < 1.0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Run both in turn; return CPU milliseconds per viewport by side."""
    image, python = make_image(options.size), peer_python()
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ours = {**os.environ, **quiet, "PYTHONPATH": str(ROOT / "src"), "CUPOLA_RUNTIME": str(folder)}
    peer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    boxes = json.dumps({name: box_of(step) for name, step in VIEWS.items()})
    headers = json.dumps({name: header_of(step) for name, step in VIEWS.items()})
    times = str(options.repeats + WARM_UP)
    found: dict[str, list[float]] = {}
    for turn in range(options.runs):
        sides = {
            "ours": run(sys.executable, OURS, [str(image), str(folder), times, boxes], ours),
            "peer": run(python, PEER, [str(image), str(folder), times, headers], peer),
        }
        for side, costs in sides.items():
            for name, values in costs.items():
                found.setdefault(f"{name} {side}", []).append(statistics.median(values))
        print(f"run {turn + 1}: " + ", ".join(f"{name} {values[-1]:.1f} ms" for name, values in found.items()),
              file=sys.stderr)  # fmt: skip
    check_equal(folder)
    return found


def main() -> None:
    """Measure both sides in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=9, help="viewports of each kind in a run")
    parser.add_argument("--size", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        found = measure(options, Path(text))
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    figures = [
        {
            "title": f"sky: {name}",
            "ours": medians[f"{name} ours"],
            "peer": medians[f"{name} peer"],
            "ratio": round(medians[f"{name} ours"] / medians[f"{name} peer"], 3),
            "unit": f"ms CPU per viewport of 512² ({name})",
            "target": TARGET,
        }
        for name in VIEWS
    ]
    figures.sort(key=lambda figure: figure["ratio"], reverse=True)
    worst, others = figures[0], figures[1:]
    tile = {
        "title": "sky: HiPS tile",
        "ours": medians["HiPS tile ours"],
        "peer": medians["own scale peer"],
        "ratio": round(medians["HiPS tile ours"] / medians["own scale peer"], 3),
        "unit": "ms CPU per HiPS tile of 512², against a viewport of the peer",
        "target": "-",
    }
    result = {
        **{name: value for name, value in worst.items() if name != "title"},
        "name": "sky",
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "also": [*others, tile],
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
