"""Two thousand trivial inputs on the local engine: `cupola.map` against ``ProcessPoolExecutor`` doing the same.

Run it with the platform's interpreter: ``python benchmarks/jobs.py [--runs 7] [--inputs 2000]``. The portal is the
real one, in a process of its own, spoken to over HTTP; only the hub is missing, so one person is always signed in.

"The same" means that the peer keeps each result in a file of its own as well, written aside and renamed, so that
neither loses a finished input when it is killed. What the plain executor that keeps nothing takes is printed too.
Both run in turn with as many processes as there are cores, from the call until all results are in hand; the figures
are medians. What the processors did is printed as well: on a busy machine the time of day says little, least of all
for the job, whose supervisor is a session of its own to the kernel's scheduler. The last line is one JSON object.

Both write into memory (/dev/shm) unless ``--folder`` names another place: on a disk, four thousand small files measure
the file system. ext4, for one, makes new files up to ten times slower for half a minute after others were deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from portal import CORES, portal

import cupola

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = 1.3


def trivial(number: int) -> int:
    """Do next to nothing, so that all that is measured is what it costs to have it done."""
    return number * number


def trivial_kept(folder: str, number: int) -> int:
    """Do the same and keep the result in a file of its own, whole or absent."""
    value = trivial(number)
    path = f"{folder}/{number}.pkl"
    with open(f"{path}.part", "wb") as file:  # noqa: PTH123 - the quickest way, for the peer's sake
        pickle.dump(value, file)
    os.rename(f"{path}.part", path)  # noqa: PTH104
    return value


def ours(inputs: range, _folder: Path) -> list[int]:
    """Run the inputs as a job."""
    return list(cupola.map(trivial, inputs, memory="256 MiB").results())


def bare(inputs: range, _folder: Path) -> list[int]:
    """Run the inputs by the executor alone."""
    with ProcessPoolExecutor(CORES) as executor:
        return list(executor.map(trivial, inputs))


def peer(inputs: range, folder: Path) -> list[int]:
    """Run the inputs by the executor, each result kept in a file."""
    with ProcessPoolExecutor(CORES) as executor:
        return list(executor.map(partial(trivial_kept, str(folder)), inputs))


class Took(NamedTuple):
    """What a run took, in seconds."""

    wall: float
    processors: float


def seconds(run: Callable[[range, Path], list[int]], inputs: range, root: Path) -> Took:
    """Return what a run takes, after it was checked that it did the work; what it wrote stays until the end."""
    folder = Path(tempfile.mkdtemp(dir=root))
    start, before = time.perf_counter(), processor_seconds()
    values = run(inputs, folder)
    took = Took(time.perf_counter() - start, processor_seconds() - before)
    assert values == [number * number for number in inputs]
    return took


def processor_seconds() -> float:
    """Return what this process, the portal and their ended children have used.

    The portal waits for the supervisor of a job when it starts the next one, so each run has the one before it on its
    account: all are alike.
    """
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--inputs", type=int, default=2000)
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
    parser.add_argument("--folder", type=Path, default=memory if memory.is_dir() else None)
    said = parser.parse_args()
    inputs = range(said.inputs)
    took: dict[str, list[Took]] = {"ours": [], "peer": [], "bare": []}
    with portal(said.folder) as root:
        seconds(ours, inputs, root)  # what is loaded once per notebook is not counted, nor is it for the peer
        for number in range(said.runs):
            for name, run in (("ours", ours), ("peer", peer), ("bare", bare)):
                took[name].append(seconds(run, inputs, root))
            print(f"run {number + 1}:", {name: round(values[-1].wall, 3) for name, values in took.items()})
    median = {name: statistics.median(one.wall for one in values) for name, values in took.items()}
    used = {name: statistics.median(one.processors for one in values) for name, values in took.items()}
    print(
        f"processor seconds: ours {used['ours']:.2f}, peer {used['peer']:.2f}, ratio {used['ours'] / used['peer']:.2f}"
    )
    print(f"against the executor that keeps nothing: {median['ours'] / median['bare']:.2f}")
    told = {
        "name": "jobs",
        "ours": round(median["ours"], 3),
        "peer": round(median["peer"], 3),
        "ratio": round(median["ours"] / median["peer"], 3),
        "unit": "s",
        "target": TARGET,
        "runs": said.runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
