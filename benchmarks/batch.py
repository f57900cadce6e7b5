"""What the benchmarks of batch engines share: real schedulers for the time of a run, and what a run takes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupola

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ONE_SECONDS", "SLOTS", "compare", "cut_by_cupola", "run_one_seconds", "scheduler", "told"]

CHECKOUT = Path(__file__).resolve().parent.parent
POOLS = CHECKOUT / "tests" / "pools"
UNPACKED = CHECKOUT / ".cache" / "pools"
SLOTS = 16
"""Cores that the schedulers believe to have: the tasks of the benchmarks sleep."""
ONE_SECONDS = 200
"""Tasks of a second in the benchmarks of both schedulers."""


def one_second(number: int) -> int:
    """Be a task of a second."""
    time.sleep(1)
    return number


def run_one_seconds(engine: str, *, memory: str, chunk: int | None) -> None:
    """Run `ONE_SECONDS` tasks of a second as a job, `chunk` of them in a task or as Cupola cuts them."""
    job = cupola.map(one_second, range(ONE_SECONDS), memory=memory, chunk=chunk, engine=engine)
    assert list(job.results()) == list(range(ONE_SECONDS))
    job.wait(progress=False)


@contextlib.contextmanager
def scheduler(name: str) -> Iterator[dict[str, str]]:
    """Start ``htcondor`` or ``slurm`` on this machine; yield the environment that its own commands want."""
    script = POOLS / f"{name}.sh"
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        own = {"POOL": f"{folder}/pool", "CPUS": str(SLOTS), "PORT": str(_free_ports())}
        # The packages that `make test` has unpacked are used again.
        around = {"PREFIX": str(UNPACKED / name), **os.environ, **own}
        said = subprocess.run(
            ["/bin/bash", "-c", f'said=$({script} up) && eval "$said" && env -0'],
            env=around,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
        try:
            found = dict(line.split("=", 1) for line in said.split("\0") if "=" in line)
            # Slurm's commands in there find their libraries by themselves.
            yield {**found, "PATH": f"{folder}/pool/bin:{found['PATH']}"}
        finally:
            subprocess.run([script, "down"], env=around, check=True, stdout=subprocess.DEVNULL)


def _free_ports() -> int:
    """Return a port that is free now, as the ones after it are likely to be."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compare(runs: int, **sides: Callable[[], None]) -> dict[str, float]:
    """Run the sides in turn, once without being counted; return the median seconds of each."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(runs + 1):
        for name, side in sides.items():
            begun = time.perf_counter()
            side()
            if number:
                took[name].append(time.perf_counter() - begun)
        print(
            f"run {number}:",
            {name: round(values[-1], 2) for name, values in took.items() if values},
            flush=True,
        )
    return {name: statistics.median(values) for name, values in took.items()}


def cut_by_cupola(name: str, took: dict[str, float], *, target: float) -> dict[str, Any]:
    """Return the figure of the side `cut`: a job whose tasks Cupola has cut."""
    return {
        "title": f"{name}: tasks as Cupola cuts them",
        "ours": round(took["cut"], 3),
        "peer": round(took["peer"], 3),
        "ratio": round(took["cut"] / took["peer"], 3),
        "target": target,
    }


def told(name: str, took: dict[str, float], *, target: float, runs: int, **more: Any) -> str:
    """Return the last line of a benchmark."""
    said = {
        "name": name,
        "ours": round(took["ours"], 3),
        "peer": round(took["peer"], 3),
        "ratio": round(took["ours"] / took["peer"], 3),
        "unit": "s",
        "target": target,
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        **more,
    }
    return json.dumps(said)
