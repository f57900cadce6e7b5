"""Two hundred tasks of a second on an HTCondor pool: `cupola.map` against a hand-written submit file.

Run it as root with the platform's interpreter: ``python benchmarks/htcondor.py [--runs 3]``. The pool is a real one, started for
the run on this machine with 16 slots (the tasks sleep). The submit file does nothing but sleep and keeps no result; ours keeps
each result in a file and gives all back. From the submit until all have ended; medians. The first figure is with a task for each
input, as the submit file has them; the one in `also` with tasks as Cupola cuts them where nobody says how.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from batch import ONE_SECONDS, compare, cut_by_cupola, run_one_seconds, scheduler, told
from portal import portal

TARGET = 1.15
SUBMIT = """executable = {python}
arguments = "-S -c 'import time; time.sleep(1)'"
transfer_executable = false
should_transfer_files = NO
request_cpus = 1
request_memory = 128MB
request_disk = 10MB
log = {folder}/events
queue {tasks}
"""


def peer(environment: dict[str, str]) -> None:
    """Run as many by a submit file."""
    with tempfile.TemporaryDirectory() as folder:
        submit = Path(folder) / "sleep.sub"
        submit.write_text(SUBMIT.format(python=sys.executable, folder=folder, tasks=ONE_SECONDS))
        subprocess.run(
            ["condor_submit", "-terse", submit], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run(
            ["condor_wait", f"{folder}/events"], env=environment, check=True, stdout=subprocess.DEVNULL
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    said = parser.parse_args()
    with scheduler("htcondor") as environment:
        engines = {"htcondor": {"config": environment["CONDOR_CONFIG"]}}
        with portal(None, engines=engines):
            took = compare(
                said.runs,
                ours=lambda: run_one_seconds("htcondor", memory="128 MiB", chunk=1),
                cut=lambda: run_one_seconds("htcondor", memory="128 MiB", chunk=None),
                peer=lambda: peer(environment),
            )
    also = [cut_by_cupola("htcondor", took, target=TARGET)]
    print(told("htcondor", took, target=TARGET, runs=said.runs, also=also))


if __name__ == "__main__":
    main()
