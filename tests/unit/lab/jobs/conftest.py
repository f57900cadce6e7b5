from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupola.lab.jobs.packing import label, pack
from cupola.models.job import TaskPlan


@pytest.fixture
def job_folder(tmp_path):
    """Make a job's folder as the portal does."""

    def make(function, inputs, *, payload=None, **plan):
        folder = Path(tmp_path) / "job-1"
        for name in ("results", "log"):
            (folder / name).mkdir(parents=True)
        (folder / "payload.pkl").write_bytes(pack(function, inputs) if payload is None else payload)
        (folder / "labels.json").write_text(json.dumps([label(value) for value in inputs]))
        chunk = plan.pop("chunk", len(inputs))
        said = TaskPlan(
            tag="job-1", name="test", inputs=len(inputs), chunk=chunk, tasks=-(-len(inputs) // chunk), **plan
        )
        (folder / "job.json").write_text(said.model_dump_json())
        return folder

    return make
