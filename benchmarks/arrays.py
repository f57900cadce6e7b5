"""Ten thousand inputs on an HTCondor pool: `cupola.map`, which cuts them into tasks itself, against a hand-cut array.

Run it as root with the platform's interpreter: ``python benchmarks/arrays.py [--runs 3]``. The pool is a real one, started for the
run on this machine with 16 slots. The hand-cut equivalent is one cluster with a task per slot, each of which calls the same
function for its share of the inputs and keeps each result in a file of its own, written aside and renamed, as ours does. From the
call until all results are in hand; medians. What the call itself takes is in `also`.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batch import SLOTS, compare, scheduler, told
from portal import portal

import cupola

TARGET = 1.2
MOST_SUBMIT_S = 2
INPUTS = 10_000
TASK = """
import os, pickle, sys
folder, task = sys.argv[1], int(sys.argv[2])
with open(f"{folder}/inputs.pkl", "rb") as file:
    inputs = pickle.load(file)
share = -(-len(inputs) // SLOTS)
for number in range(task * share, min((task + 1) * share, len(inputs))):
    path = f"{folder}/results/{number}.pkl"
    with open(f"{path}.part", "wb") as file:
        pickle.dump(inputs[number] ** 2, file)
    os.rename(f"{path}.part", path)
"""
SUBMIT = """executable = {python}
arguments = "{folder}/task.py {folder} $(Process)"
transfer_executable = false
should_transfer_files = NO
request_cpus = 1
request_memory = 128MB
request_disk = 10MB
log = {folder}/events
queue {slots}
"""
submits: list[float] = []


def square(number: int) -> int:
    """Do next to nothing."""
    return number**2


def ours() -> None:
    """Run the inputs as a job."""
    begun = time.perf_counter()
    job = cupola.map(square, range(INPUTS), memory="128 MiB", engine="htcondor")
    submits.append(time.perf_counter() - begun)
    assert list(job.results()) == [number**2 for number in range(INPUTS)]


def peer(environment: dict[str, str]) -> None:
    """Run them by a submit file that was cut by hand."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "results").mkdir()
        (folder / "inputs.pkl").write_bytes(pickle.dumps(list(range(INPUTS))))
        (folder / "task.py").write_text(TASK.replace("SLOTS", str(SLOTS)))
        (folder / "job.sub").write_text(SUBMIT.format(python=sys.executable, folder=folder, slots=SLOTS))
        for command in (
            ["condor_submit", "-terse", f"{folder}/job.sub"],
            ["condor_wait", f"{folder}/events"],
        ):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        files = (folder / "results" / f"{number}.pkl" for number in range(INPUTS))
        results = [pickle.loads(file.read_bytes()) for file in files]  # noqa: S301 - it wrote them itself
        assert results == [number**2 for number in range(INPUTS)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    said = parser.parse_args()
    with scheduler("htcondor") as environment:
        engines = {"htcondor": {"config": environment["CONDOR_CONFIG"]}}
        with portal(None, engines=engines):
            took = compare(said.runs, ours=ours, peer=lambda: peer(environment))
    submit = statistics.median(submits[1:])
    also = [
        {
            "title": "arrays: submit of 10,000 inputs",
            "ours": round(submit, 3),
            "peer": "a limit",
            "ratio": round(submit / MOST_SUBMIT_S, 3),
            "target": f"{MOST_SUBMIT_S} s",
        }
    ]
    print(told("arrays", took, target=TARGET, runs=said.runs, also=also))


if __name__ == "__main__":
    main()
