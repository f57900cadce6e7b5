"""Two hundred tasks of a second on a Slurm cluster: `cupola.map` against a hand-written array.

Run it as root with the platform's interpreter: ``python benchmarks/slurm.py [--runs 3]``. The cluster is a real one, started for
the run on this machine with 16 cores (the tasks sleep). The array does nothing but sleep and keeps no result; ours keeps each
result in a file and gives all back. From the submit until all have ended; medians. The first figure is with a task for each input,
as the array has them; the one in `also` with tasks as Cupola cuts them where nobody says how.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from batch import ONE_SECONDS, SLOTS, compare, cut_by_cupola, run_one_seconds, scheduler, told
from portal import portal

TARGET = 1.15
LOOK_S = 0.2


def peer(environment: dict[str, str]) -> None:
    """Run as many by an array."""
    submit = [
        "sbatch",
        "--parsable",
        f"--array=0-{ONE_SECONDS - 1}%{SLOTS}",
        "--mem=16",
        "--output=/dev/null",
        f"--wrap=exec {sys.executable} -S -c 'import time; time.sleep(1)'",
    ]
    asked = subprocess.run(submit, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    look = ["squeue", "-h", "--name=wrap", "--format=%F"]
    while (
        asked.strip()
        in subprocess.run(look, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    ):
        time.sleep(LOOK_S)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    said = parser.parse_args()
    with scheduler("slurm") as environment:
        engines = {"slurm": {"config": environment["SLURM_CONF"]}}
        with portal(None, engines=engines, around=environment):
            took = compare(
                said.runs,
                ours=lambda: run_one_seconds("slurm", memory="16 MiB", chunk=1),
                cut=lambda: run_one_seconds("slurm", memory="16 MiB", chunk=None),
                peer=lambda: peer(environment),
            )
    also = [cut_by_cupola("slurm", took, target=TARGET)]
    print(told("slurm", took, target=TARGET, runs=said.runs, also=also))


if __name__ == "__main__":
    main()
