"""Search among 100,000 items: Cupola's index against a pyarrow dataset filter on the same file.

Run it with the Lab's interpreter: ``python benchmarks/search.py [--items 100000] [--runs 20]``. One search asks for a box,
a span of time and two properties at once; the boxes differ from search to search. Ours is ``collection.filter(...)`` of an
opened collection, with the first 20 items made; the peer is what one writes without Cupola: ``pyarrow.dataset`` with the
same conditions as an expression over the stac-geoparquet file that our index is, with the same columns read. (The usual
peers, pgstac and rustac's search, need a PostgreSQL server or a download at run time.) Both run in one process, in turn.
Beside it: how long it takes to open the known collection, and the first look at it, in processes of their own.

Measured is wall time. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET_MS = 50.0
FIRST = 20

OPEN = """
import json, resource, sys, time
from cupola.lab import collections
begun = time.perf_counter()
opened = collections.open(sys.argv[1])
seconds = time.perf_counter() - begun
print(json.dumps([len(opened), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def make_items(folder: Path, count: int) -> None:
    """Write STAC items in folders of a thousand."""
    chosen = random.Random(20200219)  # noqa: S311 - a benchmark's data, no secret
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        west, south = chosen.uniform(-180, 179), chosen.uniform(-90, 89)
        day = f"20{chosen.randint(15, 25)}-{chosen.randint(1, 12):02}-{chosen.randint(1, 28):02}"
        item: dict[str, Any] = {
            "type": "Feature", "stac_version": "1.0.0", "id": f"item-{number:06}", "collection": "scenes",
            "bbox": [west, south, west + 1, south + 1], "links": [],
            "geometry": {"type": "Polygon", "coordinates": [[
                [west, south], [west + 1, south], [west + 1, south + 1], [west, south + 1], [west, south],
            ]]},
            "properties": {
                "datetime": f"{day}T{chosen.randint(0, 23):02}:00:00Z", "eo:cloud_cover": chosen.uniform(0, 100),
                "platform": chosen.choice(["sentinel-2a", "sentinel-2b"]), "proj:code": "EPSG:32632", "gsd": 10,
            },
            "assets": {
                band: {"href": f"./{band}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
                for band in ("B02", "B03", "B04", "B08")
            },
        }  # fmt: skip
        (place / f"item-{number:06}.json").write_text(json.dumps(item))


def opened(folder: Path, runtime: Path) -> tuple[int, float, float]:
    """Open the collection in a new process; return items, seconds and MB."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUPOLA_RUNTIME": str(runtime)}
    answer = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder)], env=environment, check=True, capture_output=True, text=True
    )
    count, seconds, megabytes = json.loads(answer.stdout)
    return count, seconds, megabytes


def measure(folder: Path, file: Path, runs: int) -> dict[str, list[float]]:
    """Search in turn; return milliseconds by side."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    from cupola.lab import collections

    known = collections.open(folder)
    dataset = ds.dataset(file)
    chosen = random.Random(1)  # noqa: S311
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for run in range(-2, runs):
        west, south = chosen.uniform(-180, 160), chosen.uniform(-90, 70)
        box, year = (west, south, west + 20, south + 20), chosen.randint(2015, 2025)
        begun = time.perf_counter()
        mine = known.filter(
            bbox=box, datetime=f"{year}", query="eo:cloud_cover < 20 and platform = 'sentinel-2a'"
        )
        shown = [item.id for item in mine.items[:FIRST]]
        ours = (time.perf_counter() - begun) * 1000
        begun = time.perf_counter()
        start, end = (
            pa.scalar(f"{y}-01-01T00:00:00").cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
            for y in (year, year + 1)
        )
        where = (
            (ds.field("bbox", "xmin") <= box[2]) & (ds.field("bbox", "xmax") >= box[0])
            & (ds.field("bbox", "ymin") <= box[3]) & (ds.field("bbox", "ymax") >= box[1])
            & (ds.field("datetime") >= start) & (ds.field("datetime") < end)
            & (ds.field("eo:cloud_cover") < 20) & (ds.field("platform") == "sentinel-2a")
        )  # fmt: skip
        table = dataset.to_table(columns=["id", "datetime", "collection", "cupola:file"], filter=where)
        theirs = (time.perf_counter() - begun) * 1000
        assert {item.id for item in mine} == set(table["id"].to_pylist()), "both must find the same"
        assert len(shown) == min(FIRST, table.num_rows)
        if run >= 0:
            found["ours"].append(ours)
            found["peer"].append(theirs)
    return found


def main() -> None:
    """Make the items, look through them, open them again, search, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder, runtime = Path(text) / "items", Path(text) / "runtime"
        make_items(folder, options.items)
        count, first, first_mb = opened(folder, runtime)
        print(f"first look: {count} items, {first:.1f} s, {first_mb:.0f} MB", file=sys.stderr)
        again = [opened(folder, runtime) for _ in range(3)]
        known, known_mb = (statistics.median(one[place] for one in again) for place in (1, 2))
        print(f"known: {known:.2f} s, {known_mb:.0f} MB", file=sys.stderr)
        os.environ["CUPOLA_RUNTIME"] = str(runtime)
        (file,) = (runtime / "index").glob("[!.]*.parquet")
        found = measure(folder, file, options.runs)
    ours, peer = (round(statistics.median(found[side]), 1) for side in ("ours", "peer"))
    result = {
        "name": "search",
        "ours": ours,
        "peer": peer,
        "ratio": round(ours / peer, 3),
        "unit": "ms per search",
        "target": f"{TARGET_MS:g} ms",
        "runs": options.runs,
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "items": options.items,
        "slowest": round(max(found["ours"]), 1),
        "open_known_s": round(known, 2),
        "open_known_mb": round(known_mb),
        "first_look_s": round(first, 1),
        "first_look_mb": round(first_mb),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
