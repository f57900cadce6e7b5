"""Run every benchmark in turn and write ``benchmarks/results.md`` from their last lines.

Usage: ``python tools/bench.py [NAME ...]``. A benchmark is a script ``benchmarks/NAME.py`` whose last line is one
JSON object ``{name, ours, peer, ratio, unit, target, runs, machine}``; files without that line are helpers. One that measures
more than one thing puts the others into a list ``also``, each with what differs. ``docker_launch`` needs root and a Docker engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
RESULTS = FOLDER / "results.md"
LAST = FOLDER / "results.json"
NAMES = (
    *("launch", "routes", "tiles", "viewport", "mosaic", "fullres", "jobs", "panel", "docker_launch"),
    *("htcondor", "slurm", "arrays", "local_engine", "kills", "sky", "search", "survive"),
)
HEAD = """# Benchmarks

Written by `make bench`; each row is one script in this folder, ours and the peer in turn in one run.
A ratio below 1 means that Cupola needs less. Medians; the machine is shared, so read the ratios.

| benchmark | ours | peer | ratio | target | unit | runs | measured | machine |
|---|---|---|---|---|---|---|---|---|
"""


def run(name: str) -> dict[str, Any]:
    """Run one benchmark, let it print, and return the object in its last line."""
    print(f"== {name}", flush=True)
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / f"{name}.py")], stdout=subprocess.PIPE, text=True, cwd=FOLDER.parent
    )
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line.strip() or last
    if process.wait():
        raise SystemExit(f"benchmark {name} ended with exit code {process.returncode}")
    result: dict[str, Any] = json.loads(last)
    return result | {"measured": datetime.now(UTC).date().isoformat()}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the page with one row per figure."""
    row = "| [{title}]({name}.py) | {ours} | {peer} | **{ratio}** | {target} | {unit} | {runs} | {measured} | {machine} |"
    figures = [
        result | {"title": result["name"]} | more
        for _, result in sorted(results.items())
        for more in ({}, *result.get("also", ()))
    ]
    rows = [row.format(**figure) for figure in figures]
    return HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Run the named benchmarks, or all, and write the page; earlier rows of others stay."""
    results: dict[str, dict[str, Any]] = json.loads(LAST.read_text()) if LAST.exists() else {}
    for name in sys.argv[1:] or NAMES:
        results[name] = run(name)
        LAST.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        RESULTS.write_text(table(results))
    print(f"written: {RESULTS.relative_to(FOLDER.parent)}")


if __name__ == "__main__":
    main()
