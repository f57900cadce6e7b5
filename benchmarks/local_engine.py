"""Ten thousand inputs that do nothing on the local engine: `cupola.map` against dask.distributed and parsl.

Run it with the platform's interpreter: ``python benchmarks/local_engine.py [--runs 3]``. The peers live in an environment of their
own, made for the run by uv. Each runs with as many worker processes as there are cores, from the call until all results are in
hand, in a program that was started before and has its workers up (a Dask cluster, a Parsl executor): what they need to start is
not counted, nor is the portal's start. Ours keeps each result in a file, the peers in memory. Both sides get the inputs as they
advise: Dask in one ``client.map`` with ``batch_size``, Parsl one app call per input. The better peer counts; medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from batch import told
from portal import CORES, portal

import cupola

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = 1.0
INPUTS = 10_000
PACKAGES = ("distributed>=2025", "parsl>=2025")
DASK = """
import sys, time
from distributed import Client, LocalCluster
def square(number):
    return number ** 2
if __name__ == "__main__":
    inputs, cores = int(sys.argv[1]), int(sys.argv[2])
    with LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        assert client.gather(client.map(square, range(10))) == [n ** 2 for n in range(10)]
        for line in sys.stdin:
            begun = time.perf_counter()
            values = client.gather(client.map(square, range(inputs), batch_size=1000, pure=False))
            print(time.perf_counter() - begun, flush=True)
            assert values == [n ** 2 for n in range(inputs)]
"""
PARSL = """
import sys, time
import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
@parsl.python_app
def square(number):
    return number ** 2
if __name__ == "__main__":
    inputs, cores = int(sys.argv[1]), int(sys.argv[2])
    pool = HighThroughputExecutor(max_workers_per_node=cores, provider=LocalProvider(), address="127.0.0.1")
    with parsl.load(Config(executors=[pool], strategy="none", usage_tracking=0)):
        assert [square(n).result() for n in range(10)] == [n ** 2 for n in range(10)]
        for line in sys.stdin:
            begun = time.perf_counter()
            values = [future.result() for future in [square(n) for n in range(inputs)]]
            print(time.perf_counter() - begun, flush=True)
            assert values == [n ** 2 for n in range(inputs)]
"""


def square(number: int) -> int:
    """Do next to nothing."""
    return number**2


def ours() -> float:
    """Run the inputs as a job."""
    begun = time.perf_counter()
    values = list(cupola.map(square, range(INPUTS), memory="256 MiB").results())
    took = time.perf_counter() - begun
    assert values == [number**2 for number in range(INPUTS)]
    return took


@contextlib.contextmanager
def peers() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start the peers, each in a program that runs the inputs once per line it reads."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", folder / "env"], check=True)
        python = folder / "env" / "bin" / "python"
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *PACKAGES], check=True)
        found = {}
        around = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
        for peer, text in (("dask", DASK), ("parsl", PARSL)):
            (folder / f"{peer}_peer.py").write_text(text)
            command = [str(python), f"{folder}/{peer}_peer.py", str(INPUTS), str(CORES)]
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=around
                )
            )
            stack.callback(process.terminate)
            found[peer] = process
        yield found
        for process in found.values():
            process.communicate(timeout=60)


def once(process: subprocess.Popen[str]) -> float:
    """Let a peer run the inputs."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    said = parser.parse_args()
    took: dict[str, list[float]] = {"ours": [], "dask": [], "parsl": []}
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
    with portal(memory if memory.is_dir() else None), peers() as programs:
        for number in range(said.runs + 1):
            values = {"ours": ours(), **{name: once(process) for name, process in programs.items()}}
            for name, value in values.items():
                took[name] += [value] if number else []
            print(
                f"run {number}:",
                json.dumps({name: round(value, 2) for name, value in values.items()}),
                flush=True,
            )
    median = {name: statistics.median(values) for name, values in took.items()}
    best = min("dask", "parsl", key=lambda name: median[name])
    print("the better peer:", best)
    print(told("local_engine", {"ours": median["ours"], "peer": median[best]}, target=TARGET, runs=said.runs))


if __name__ == "__main__":
    main()
