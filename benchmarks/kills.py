"""A thousand tasks while each daemon is killed with -9, one after the other: what is lost, and what is made twice.

Run it as root with the platform's interpreter: ``python benchmarks/kills.py [htcondor slurm local] [--tasks 1000]``. The schedulers are
real ones, started for the run on this machine with 16 slots, four or eight of them on a second node that dies with all its tasks.
Each task keeps a result and writes a product aside, which it renames. Every input must have one result with the right value and
one whole product, no run may begin where a result is kept already, and the job's own figures must say the same. A task that is
killed is computed again: how often that was stands in the unit. There is no peer: both numbers must be 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import portal as portals
import psutil

import cupola

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cupola.lab.jobs.handle import Job

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support import pools

TASKS = 1_000
SECONDS = 1.0
"""Of each task."""
PATIENCE = 900
TEND_S = 2.0
LEASE = {"job_lease_duration": "6"}
"""So that HTCondor gives up a lost node in half a minute."""
LINES = 4_000
"""Of each product, so that half of one can be told from a whole one."""


@dataclass
class Scene:
    """What a run can kill."""

    root: Path
    """Of the portal."""
    url: str
    tend: Callable[[], None] = lambda: None
    """What the pool's administrator does again and again."""
    restarted: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill_portal(self) -> None:
        """Kill the portal and start it anew, as the hub does."""
        for child in psutil.Process().children():
            if any("portal.py" in word for word in child.cmdline()):
                child.kill()
                child.wait()
        port = self.url.rpartition(":")[2].partition("/")[0]
        self.restarted.append(
            subprocess.Popen(
                [sys.executable, portals.__file__, str(self.root), port],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def end(self) -> None:
        """End the portals that were started here."""
        for process in self.restarted:
            process.terminate()
            process.wait()


def product_of(folder: str, seconds: float) -> Callable[[int], int]:
    """Return the function that each task calls: it takes a moment and writes a product, and notes what it does."""
    lines = LINES

    def product(number: int) -> int:
        import os
        import time

        me = os.urandom(8).hex()  # nodes count processes each for itself

        def note(sign: str) -> None:
            notes = os.open(f"{folder}/notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(notes, f"{number} {me} {sign} {time.time()}\n".encode())
            os.close(notes)

        results = f"{os.environ['CUPOLA_RUNTIME']}/jobs/{os.environ['CUPOLA_JOB']}/results"
        assert os.path.isdir(results)  # noqa: PTH112 - tasks start without pathlib
        note("again" if os.path.exists(f"{results}/{number}.pkl") else "begin")  # noqa: PTH110
        time.sleep(seconds)
        part = f"{folder}/{number}.{me}.part"
        with open(part, "w") as file:  # noqa: PTH123
            file.write(f"{number**2}\n" * lines)
        os.rename(part, f"{folder}/{number}.txt")  # noqa: PTH104
        note("made")
        return number**2

    return product


def results_of(job: Job) -> int:
    """Count the results in the job's folder: the portal may be dead."""
    return sum(entry.suffix == ".pkl" for entry in (job.folder / "results").iterdir())


def wait_for(job: Job, results: int, tend: Callable[[], None]) -> None:
    """Wait until so many results are there; the administrator is at work meanwhile."""
    end = time.monotonic() + PATIENCE
    tended = time.monotonic()
    while results_of(job) < results:
        assert time.monotonic() < end, f"only {results_of(job)} of {results} results come"
        if time.monotonic() - tended > TEND_S:
            tend()
            tended = time.monotonic()
        time.sleep(0.1)


def kill_now(job: Job, name: str, kill: Callable[[], None]) -> None:
    """Kill something, as soon as there is one."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            kill()
        except AssertionError:  # a shadow lives as long as its task: just now there is none
            assert time.monotonic() < end, f"there is no {name} to be killed"
        else:
            break
    print(f"{time.strftime('%X')} {results_of(job)} results: {name} killed", flush=True)


def count(job: Job, folder: Path, tasks: int) -> dict[str, Any]:
    """Return what was lost and what was made twice."""
    kept = {}
    for number in range(tasks):
        with contextlib.suppress(Exception):
            kept[number] = job.result(number)
    notes = [line.split() for line in (folder / "notes").read_text().splitlines()]
    signs = Counter(sign for _, _, sign, _ in notes)
    whole = {number for number in range(tasks) if _read(folder / f"{number}.txt") == f"{number**2}\n" * LINES}
    right = {number for number, value in kept.items() if value == number**2}
    products = [file.name for file in folder.iterdir() if file.suffix == ".txt"]
    said = job.counts
    print(f"the job says: {job.state} {said} {job.reason}", flush=True)
    names = [one for one in (job.folder / "results").iterdir() if one.suffix in {".pkl", ".error"}]
    return {
        "lost": tasks - len(right & whole),
        "twice": signs["again"] + max(0, len(products) - tasks) + max(0, len(names) - tasks),
        "figures": abs(said.done - tasks) + said.failed + said.running,
        "cut": signs["begin"] + signs["again"] - signs["made"],
        "computed": signs["begin"] + signs["again"],
        "beside": _beside(notes),
    }


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _beside(notes: list[list[str]]) -> int:
    """Count the runs that began while another run of the same input was going on and came to its end."""
    begun: dict[tuple[str, str], float] = {}
    runs: dict[str, list[tuple[float, float]]] = {}
    for number, who, sign, when in notes:
        if sign != "made":
            begun[number, who] = float(when)
        else:
            runs.setdefault(number, []).append((begun[number, who], float(when)))
    starts = [(number, when) for (number, _), when in begun.items()]
    return sum(any(first < when < last for first, last in runs.get(number, ())) for number, when in starts)


def run(name: str, tasks: int) -> dict[str, Any]:
    """Let the tasks run on one engine, kill all there is, and return what came of it."""
    with tempfile.TemporaryDirectory() as folder, SCENES[name]() as (scene, victims):
        begun = time.perf_counter()
        try:
            work = product_of(folder, SECONDS)
            job = cupola.map(work, range(tasks), memory="16 MiB", chunk=1, engine=name, name="kills")
            for place, (victim, kill) in enumerate(victims(job).items(), 1):
                wait_for(job, place * tasks // (len(victims(job)) + 2), scene.tend)
                kill_now(job, victim, kill)
            wait_for(job, tasks, scene.tend)
            job.wait(PATIENCE, progress=False)
            found = count(job, Path(folder), tasks) | {"seconds": round(time.perf_counter() - begun)}
        finally:
            scene.end()
    print(name, json.dumps(found), flush=True)
    return found | {"victims": len(victims(job))}


@contextlib.contextmanager
def htcondor() -> Iterator[tuple[Scene, Callable[[Job], dict[str, Callable[[], None]]]]]:
    """Start a pool with a second node."""
    with pools.htcondor(CPUS="12") as pool:
        pool.node_up("second", 4)
        settings = {**pool.settings, "submit": LEASE}
        with portals.portal(None, engines={"htcondor": settings}) as root:
            scene = Scene(root, os.environ["CUPOLA_API_URL"])
            daemons = (
                "schedd",
                "negotiator",
                "collector",
                "shared_port",
                "procd",
                "shadow",
                "starter",
                "startd",
            )

            def machine() -> None:
                # Its master is the first process of its namespace: with it all others die.
                pool.kill("master")
                pool.script("down")
                pool.up()

            victims = {
                "portal": scene.kill_portal,
                **{daemon: lambda daemon=daemon: pool.kill(daemon) for daemon in daemons},
                "second node": lambda: pool.node_kill("second"),
                "machine with the schedd": machine,
            }
            yield scene, lambda _: victims


@contextlib.contextmanager
def slurm() -> Iterator[tuple[Scene, Callable[[Job], dict[str, Callable[[], None]]]]]:
    """Start a cluster with a second node."""
    with (
        pools.slurm(CPUS="8", ARRAY="1001", NODES="second") as pool,
        portals.portal(None, engines={"slurm": pool.settings}) as root,
    ):
        scene = Scene(root, os.environ["CUPOLA_API_URL"], lambda: resume(pool))

        def again(daemon: str) -> None:
            pool.kill(daemon)
            time.sleep(1)
            pool.start(daemon)

        def steps() -> None:
            found = [step for step in _below(pool.folder) if step.name().startswith("slurmstepd")]
            assert found
            for step in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    step.kill()

        def node() -> None:
            pool.node_kill("second")
            time.sleep(1)
            pool.start("slurmd", "second")

        victims = {
            "portal": scene.kill_portal,
            "slurmctld": lambda: again("slurmctld"),
            "munged": lambda: again("munged"),
            "slurmstepd": steps,
            "slurmd with its tasks, which comes back": node,
            "slurmd of the first node": lambda: again("slurmd"),
            "second node": lambda: pool.node_kill("second"),
        }
        yield scene, lambda _: victims


def resume(pool: pools.SlurmPool) -> None:
    """Use nodes again that Slurm has drained.

    What a slurmctld that is killed has started in its last seconds it starts once more; the node has it already, and is then
    drained as "Duplicate jobid" until its administrator says otherwise.
    """
    with contextlib.suppress(AssertionError):  # munged may be dead
        for said in pool.script("resume").splitlines():
            print(f"{time.strftime('%X')} used again: {said}", flush=True)


def _below(folder: Path) -> list[psutil.Process]:
    """Return what runs on the nodes of a cluster."""
    found = []
    for file in folder.glob("node-*.pid"):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(int(file.read_text())).children(recursive=True)
    return found


@contextlib.contextmanager
def local() -> Iterator[tuple[Scene, Callable[[Job], dict[str, Callable[[], None]]]]]:
    """Let the tasks run on this machine."""
    with portals.portal(None, engines={"local": {"cores": 16}}) as root:
        scene = Scene(root, os.environ["CUPOLA_API_URL"])

        def supervisor(job: Job) -> psutil.Process:
            try:
                return psutil.Process(json.loads((job.folder / "pool.json").read_text())["pid"])
            except psutil.NoSuchProcess:  # its successor has not signed yet
                raise AssertionError from None

        def workers(job: Job) -> None:
            found = supervisor(job).children()
            assert found
            for worker in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()

        def both(job: Job) -> None:
            os.kill(supervisor(job).pid, signal.SIGKILL)
            scene.kill_portal()

        yield (
            scene,
            lambda job: {
                "workers": lambda: workers(job),
                "portal": scene.kill_portal,
                "supervisor": lambda: supervisor(job).kill(),
                "workers once more": lambda: workers(job),
                "portal and supervisor together": lambda: both(job),
            },
        )


SCENES = {"htcondor": htcondor, "slurm": slurm, "local": local}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(SCENES)}; all of them")
    parser.add_argument("--tasks", type=int, default=TASKS)
    said = parser.parse_args()
    found = {name: run(name, said.tasks) for name in said.engines or SCENES}
    rows = [
        {
            "title": f"kills: {name}",
            **figure(sum(one[kind] for kind in ("lost", "twice", "figures"))),
            "unit": (
                f"of {said.tasks:,} inputs lost, made twice or miscounted; {one['victims']} kills, "
                f"{one['cut']} runs cut off, {one['computed'] - said.tasks} computed again, {one['seconds']} s"
            ),
        }
        for name, one in found.items()
    ]
    told = {
        "name": "kills",
        **figure(sum(row["ours"] for row in rows)),
        "unit": f"inputs lost, made twice or miscounted on {len(rows)} engines",
        "target": 0,
        "runs": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "also": rows,
    }
    print(json.dumps(told))


def figure(value: int) -> dict[str, Any]:
    """Return a figure that has no peer: it is what it must not be."""
    return {"ours": value, "peer": "limit 0", "ratio": value}


if __name__ == "__main__":
    main()
