from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from cupola.models.base import now
from cupola.models.job import Job, JobCounts, JobState, TaskPlan
from cupola.platform.services.jobs.watch import Watch
from cupola.platform.storage.database.jobs import StoredJob
from cupola.platform.storage.files.jobs import JobFolder


class Rows:
    def __init__(self):
        self.kept = []

    async def update(self, _job, change):
        self.kept.append(change(None))


@pytest.mark.asyncio
async def test_a_job_that_was_over_before_it_was_seen_to_run_has_a_start(tmp_path):
    folder = JobFolder(tmp_path / "job-1")
    plan = TaskPlan(tag="job-1", name="quick", inputs=1, chunk=1, tasks=1)
    folder.write(plan, b"", ["0"])
    job = Job(
        id="job-1",
        owner="ada",
        name="quick",
        state=JobState.QUEUED,
        engine="htcondor",
        counts=JobCounts(inputs=1),
        tasks=1,
        chunk=1,
        created=now(),
        version="sha256:1",
        folder=folder.path,
    )
    rows = Rows()
    watch = Watch(
        StoredJob(job=job, native="7", python=Path("/env/bin/python")),
        plan,
        folder=folder,
        engine=SimpleNamespace(supervised=False),
        polls=None,
        store=rows,
        shares=None,
        on_end=lambda: None,
    )
    (folder.path / "results" / "0.pkl").write_bytes(b"result")
    watch.progress.look()
    await watch._settle()
    (row,) = rows.kept
    assert (row.job.state, row.job.started) == (JobState.DONE, job.created)
