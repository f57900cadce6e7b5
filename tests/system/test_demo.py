"""`cupola demo` on a temporary platform: the whole main job, as machines read it."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

STAGES = [
    "sign-in", "catalogue", "launch", "kernel", "tour", "tiles", "busy", "job", "products", "products-on-map", "stop",
]  # fmt: skip


def test_the_demo_verifies_every_stage(new_platform):
    place = new_platform()  # not started: the demo starts a temporary one of its own
    done = place.run("demo", "--json", seconds=800)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert [stage["name"] for stage in report["stages"]] == STAGES
    counts = {stage["name"]: stage["counts"] for stage in report["stages"]}
    assert counts["products"]["differing"] == 0
    assert counts["products"]["pixels"] > 1_000_000
    assert counts["tiles"]["valid"] > 10_000
    assert not place.processes(), "the temporary platform left something behind"


def test_a_demo_that_cannot_start_says_why(new_platform):
    place = new_platform()
    right = place.config_file.read_text()
    place.config_file.write_text(right + "volums: []\n")
    done = place.run("demo", "--json")
    place.config_file.write_text(right)  # the clean-up reads it
    assert done.returncode == 2
    assert "volums" in done.stderr
    assert "volumes" in done.stderr, "it names what was meant"
