"""The main job where sessions are containers: the same stages, verified in the same way."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]


def test_the_demo_verifies_every_stage_in_containers(new_platform, images, engine):
    images.have("lab")
    place = new_platform(settings=images.settings)
    before = {container.id for container in engine.client.containers.list(all=True)}
    done = place.run("demo", "--json", seconds=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    counts = {stage["name"]: stage["counts"] for stage in report["stages"]}
    assert counts["products"]["differing"] == 0
    assert counts["products"]["pixels"] > 1_000_000
    assert not place.processes(), "the temporary platform left something behind"
    left = [c for c in engine.client.containers.list(all=True) if c.id not in before]
    assert not left, "the temporary platform left containers behind"
