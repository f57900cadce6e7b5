"""Products of real jobs, made again by the version that made them: a portal, an engine and tasks as a person has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola import cli
from cupola.lab import collections
from cupola.lab.chains.runs.reproduce import reproduce
from support.jobs_portal import DIGEST, Portal

pytestmark = pytest.mark.system

NEWER = f"sha256:{'d' * 64}"


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    made = Portal(tmp_path_factory.mktemp("platform"))
    made.start()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def session(portal, monkeypatch):
    monkeypatch.setenv("CUPOLA_API_URL", portal.url)
    monkeypatch.setenv("CUPOLA_TOKEN", "anybody")
    monkeypatch.setenv("HOME", str(portal.home))
    for name in ("CUPOLA_SESSION", "CUPOLA_VERSION", "CUPOLA_RUNTIME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def images(portal):
    """Two images of one place, in the person's home."""
    folder = portal.home / "images"
    folder.mkdir(exist_ok=True)
    place = {"crs": "EPSG:32632", "transform": from_origin(5e5, 5e6, 10, 10)}
    for number in (1, 2):
        values = np.random.default_rng(number).integers(1, 1000, (1, 300, 500)).astype("uint16")
        profile = {
            "driver": "GTiff",
            "width": 500,
            "height": 300,
            "count": 1,
            "dtype": "uint16",
            "nodata": 0,
            **place,
        }
        with rasterio.open(folder / f"{number}.tif", "w", **profile) as image:
            image.write(values)
    return collections.open(folder)


def test_composite_resumed_and_made_again_by_the_version_that_made_it(images, monkeypatch, capsys):
    chain = images["b1"].mean()
    job = chain.run("Mean", piece=256, dtype="float32").wait(120, progress=False)
    assert (job.state, job.counts.done) == ("done", 4)
    paths = [Path(result) for result in job.results()]
    assert [path.name for path in paths] == [
        f"mean-r{row}-c{column}.tif" for row in (0, 1) for column in (0, 1)
    ]
    said = json.loads(paths[0].with_suffix(".json").read_text())["properties"]
    assert (said["cupola:version"], said["cupola:job"], said["cupola:parameters"]["engine"]) == (
        DIGEST,
        job.id,
        "local",
    )
    assert len(job.products) == 4
    before = [path.stat().st_ino for path in paths]
    paths[2].unlink()
    again = chain.run("Mean", resume=True).wait(120, progress=False)
    after = [path.stat().st_ino for path in paths]
    assert (again.state, again.refresh().products) == ("done", paths[0].parent)
    assert [after[number] == before[number] for number in (0, 1, 3)] == [True] * 3

    monkeypatch.setenv("CUPOLA_VERSION", NEWER)
    report = reproduce(paths[0])
    assert (report.state, report.made_by, report.made_again_by, report.note) == (
        "identical",
        DIGEST,
        DIGEST,
        None,
    )
    document = json.loads(paths[1].with_suffix(".json").read_text())
    document["properties"]["cupola:version"] = f"sha256:{'e' * 64}"
    paths[1].with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(SystemExit) as left:
        cli.main(["reproduce", "--json", *map(str, paths[:2])])
    out, err = capsys.readouterr()
    assert not err
    told = json.loads(out)
    assert (int(left.value.code or 0), told["state"]) == (0, "identical")
    assert told["products"][1]["made_again_by"] == NEWER
    assert "eeeeeeeeeeee that made it was not to be had" in told["products"][1]["note"]
