from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from cupola.models.job import TaskPlan
from cupola.platform.services.jobwatch import array_of


def test_tasks_know_on_every_engine_whose_they_are():
    plan = TaskPlan(
        tag="job-7", name="dust", inputs=3, chunk=1, tasks=3, at_once=2, environment={"HOME": "/homes/ada"}
    )
    stored = SimpleNamespace(
        job=SimpleNamespace(id="job-7", owner="ada", team=None), python=Path("/bin/python"), container=None
    )
    progress = SimpleNamespace(plan=plan, folder=SimpleNamespace(path=Path("/homes/ada/.cupola/jobs/job-7")))
    assert array_of(stored, progress).environment == {"HOME": "/homes/ada", "CUPOLA_JOB": "job-7"}
