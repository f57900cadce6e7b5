"""What one refresh of the job panel, and of the job's page, costs the portal: processor time, for 10,000 tasks.

Run it with the platform's interpreter: ``python benchmarks/panel.py [--refreshes 40] [--tasks 10000]``. The portal is
the real one, in a process of its own, spoken to over HTTP; only the hub is missing, so one person is always signed in.
No peer has a panel of this kind: the figure stands against a limit of 100 ms.

The job is one of the local engine whose first tasks sleep; what the others would have written is put into its folder
here, so that what the portal uses is for the panel (and for its own watch of the job). The worst case is measured: the states alternate, so that run lengths save nothing, a tenth of them
failed for twenty causes, and at each refresh one more task has ended, so that nothing can be answered with "as before".
A refresh of the panel is three questions (the job, its grid, its failures), one of the page is two (its progress, its
failures). The last line is one JSON object; ``also`` tells the page, and the panel of a job where nothing changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from portal import portal

import cupola
from cupola.models.job import TaskFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 100.0
"""Milliseconds of processor time."""
CAUSES = 20
PAUSE = 0.8
"""Seconds in which the portal sees what has changed."""
ASLEEP = 20
"""Tasks at the beginning that sleep."""


def sleeps(number: int) -> int:
    """Stand for work; no task of this job runs."""
    time.sleep(3600)
    return number


def half_done(folder: Path, tasks: int) -> None:
    """Write what a job's folder holds after half of its tasks: results, failures, events."""
    events = []
    for task in range(ASLEEP, tasks, 2):
        failed = task % 20 == 0
        if failed:
            _fail(folder, task)
        else:
            (folder / "results" / f"{task}.pkl").write_bytes(b"N.")
        events += [_event(task, "running"), _event(task, "failed" if failed else "done")]
    with (folder / "events.jsonl").open("a") as file:
        file.write("".join(events))


def _fail(folder: Path, task: int) -> None:
    failure = TaskFailure(
        input=task,
        label=f"scene-{task:05}.tif",
        error="ValueError",
        message="operands could not be broadcast together with shapes (512,512) (512,511)",
        line=f"crater_count:{task // 20 % CAUSES}: return image - background",
        traceback="Traceback (most recent call last):\n"
        + 30 * '  File "<your function>", line 17, in crater_count\n',
        task=task,
    )
    (folder / "results" / f"{task}.error").write_text(failure.model_dump_json())


def _event(task: int, state: str) -> str:
    told = {
        "task": task,
        "state": state,
        "time": "2026-01-01T00:00:00Z",
        "peak_memory_mib": 210,
        "cpu_seconds": 0.5,
    }
    return json.dumps(told) + "\n"


def one_more(folder: Path, tasks: int) -> Iterator[None]:
    """End one more task at each step."""
    for task in range(ASLEEP + 1, tasks, 2):
        failed = task % 10 == 1
        if failed:
            _fail(folder, task)
        else:
            (folder / "results" / f"{task}.pkl").write_bytes(b"N.")
        with (folder / "events.jsonl").open("a") as file:
            file.write(_event(task, "running") + _event(task, "failed" if failed else "done"))
        yield


def used(process: psutil.Process) -> float:
    """Return the milliseconds of processor time that all threads of a process have used; the kernel counts them exactly."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6


def measured(
    process: psutil.Process, look: Callable[[], None], before: Callable[[], object], refreshes: int
) -> list[float]:
    """Return what each of some refreshes costs."""
    costs = []
    for _ in range(refreshes):
        before()
        time.sleep(PAUSE)
        start = used(process)
        look()
        costs.append(used(process) - start)
    return costs


class Looks:
    """What the panel and the page ask, as their scripts do."""

    def __init__(self, job: str) -> None:
        api = os.environ["CUPOLA_API_URL"]
        self._client = httpx.Client(timeout=60)
        self._api = f"{api}/jobs/{job}"
        self._page = f"{api.removesuffix('/api')}/jobs/{job}"
        self._tag = ""
        self._seen = {"live": "", "failures": ""}

    def panel(self) -> None:
        """Ask for the job, its grid and its failures."""
        failed = self._ask(self._api).json()["counts"]["failed"]
        answer = self._ask(f"{self._api}/grid", headers={"If-None-Match": self._tag})
        self._tag = answer.headers["ETag"]
        if failed != self._seen.get("failed"):
            self._ask(f"{self._api}/failures")
            self._seen["failed"] = failed

    def page(self) -> None:
        """Ask for the two live parts."""
        for part, seen in self._seen.items():
            if part != "failed":
                text = self._ask(f"{self._page}/{part}", params={"seen": seen}).text
                self._seen[part] = text.partition('data-seen="')[2][:16] or seen

    def _ask(self, address: str, **how: Any) -> httpx.Response:
        answer = self._client.get(address, **how)
        if answer.status_code != httpx.codes.NOT_MODIFIED:
            answer.raise_for_status()
        return answer


def compare(tasks: int, refreshes: int) -> dict[str, Any]:
    """Return the figures of one job."""
    job = cupola.map(sleeps, range(tasks), chunk=1, memory="64 MiB")
    try:
        half_done(job.folder, tasks)
        portal_process = next(
            child
            for child in psutil.Process().children()
            if any("portal.py" in word for word in child.cmdline())
        )
        more, looks = one_more(job.folder, tasks), Looks(job.id)
        time.sleep(3)
        first = measured(portal_process, looks.panel, lambda: None, 1)[0]
        looks.page()
        costs = {
            "panel": measured(portal_process, looks.panel, lambda: next(more), refreshes),
            "page": measured(portal_process, looks.page, lambda: next(more), refreshes),
            "panel, nothing changed": measured(portal_process, looks.panel, lambda: None, refreshes),
        }
    finally:
        job.cancel()
        job.wait(progress=False)
    after = Looks(job.id)
    after.panel()
    costs["panel, ended job"] = measured(portal_process, after.panel, lambda: None, refreshes)
    print(f"the first look of all, which reads {tasks // 20} failures: {first:.1f} ms")
    for name, values in costs.items():
        print(f"{name}: median {statistics.median(values):.1f} ms, most {max(values):.1f} ms")
    figures = {name: round(statistics.median(values), 1) for name, values in costs.items()}
    return {"panel": figures.pop("panel"), "also": figures}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--refreshes", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=10_000)
    said = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
    with portal(memory if memory.is_dir() else None):
        found = compare(said.tasks, said.refreshes)

    def figure(value: float) -> dict[str, Any]:
        return {"ours": value, "peer": f"limit {LIMIT:.0f}", "ratio": round(value / LIMIT, 3)}

    told = {
        "name": "panel",
        **figure(found["panel"]),
        "unit": "ms of the portal's processor a refresh, 10,000 tasks",
        "target": 1.0,
        "runs": said.refreshes,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "also": [{"title": name, **figure(value)} for name, value in found["also"].items()],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
