from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import rasterio

from cupola.exceptions import BandError, BodyError, InputError, LimitError, NotFoundError, UnavailableError
from cupola.lab import collections, jobs
from cupola.lab.chains import Chain
from cupola.lab.chains.runs.run import ItemInput


@pytest.fixture
def scenes(tmp_path, write_image, write_item):
    folder = tmp_path / "scenes"
    for day in (1, 2, 3):
        array = np.arange(1, 101, dtype="uint16").reshape(10, 10) * day
        write_image(folder / f"d{day}.tif", array, nodata=0)
        assets = {"data": {"href": f"d{day}.tif", "type": "image/tiff"}}
        time = f"2020-02-0{day}T00:00:00Z"
        write_item(folder / f"d{day}.json", datetime=time, bbox=(8.9, 45.0, 9.1, 45.2), assets=assets)
    return collections.open(folder)


@pytest.fixture
def submitted(monkeypatch):
    """What would go to the platform: the real function's signature is kept to."""
    calls = []
    signature = inspect.signature(jobs.submit)

    def submit(*args, **options):
        calls.append(signature.bind(*args, **options).arguments)
        return "the job"

    monkeypatch.setattr(jobs, "submit", submit)
    return calls


RUN = """
import pickle, sys
from pathlib import Path
function, inputs = pickle.loads(Path(sys.argv[1]).read_bytes())
print([function(one) for one in inputs])
"""


def test_run_hands_over_a_function_that_works_in_another_process(scenes, submitted, tmp_path):
    factor = 3

    def scaled(band):
        return band * factor

    chain = scenes["data"].map(scaled)
    assert chain.run("My Result, n°1", dtype="int16", scale=0.5, memory="2 GiB") == "the job"
    (call,) = submitted
    folder = Path.home() / "products" / "my-result-n-1"
    assert (call["name"], call["options"]) == ("My Result, n°1", {"memory": "2 GiB"})
    assert call["labels"] == ["d3", "d2", "d1"]
    assert "def scaled" in call["source"]
    assert call["products"] == folder
    assert len(collections.open(folder)) == 0

    carried_out(call, tmp_path)
    products = collections.open(folder)
    assert [item.id for item in products] == ["d3", "d2", "d1"]
    assert products.title == "My Result, n°1"
    with rasterio.open(folder / "d2.tif") as dataset:
        assert np.array_equal(dataset.read(1), np.arange(1, 101).reshape(10, 10) * 2 * 3 * 2)
    said = json.loads((folder / "d2.json").read_text())["properties"]
    assert said["cupola:parameters"]["scale"] == 0.5
    assert said["cupola:by"]
    assert said["cupola:chain"] == chain.hash


def carried_out(call, tmp_path):
    """Run what was submitted in another process, as tasks would."""
    payload = tmp_path / "payload.pkl"
    payload.write_bytes(cloudpickle.dumps((call["function"], call["inputs"])))
    return subprocess.run(
        [sys.executable, "-c", RUN, str(payload)], check=True, capture_output=True, cwd="/", text=True
    ).stdout


def test_a_reduction_runs_over_a_grid_and_can_be_resumed(scenes, submitted, tmp_path):
    chain = scenes["data"].mean()
    chain.run("Mean of February", piece=256)
    chain.run("Mean of February", resume=True)
    first, second = submitted
    folder = Path.home() / "products" / "mean-of-february"
    assert first["products"] == second["products"] == folder
    assert first["labels"] == ["mean-of-february"]
    assert len(cloudpickle.dumps(first["inputs"])) < 200
    assert str(folder / "mean-of-february.tif") in carried_out(first, tmp_path)
    made = (folder / "mean-of-february.tif").stat()
    carried_out(second, tmp_path)
    assert (folder / "mean-of-february.tif").stat().st_ino == made.st_ino
    with rasterio.open(folder / "mean-of-february.tif") as dataset:
        assert np.array_equal(dataset.read(1), np.arange(1, 101).reshape(10, 10) * 2)
    said = json.loads((folder / "mean-of-february.json").read_text())["properties"]
    assert said["cupola:by"]
    assert [item.id for item in collections.open(folder)] == ["mean-of-february"]


def test_the_collection_of_a_grid_covers_the_grid(scenes, submitted):
    scenes["data"].mean().run("wide", bbox=(8.8, 44.9, 9.3, 45.3), resolution=1000)
    (call,) = submitted
    document = json.loads((call["products"] / "collection.json").read_text())
    assert document["extent"]["spatial"]["bbox"][0] == pytest.approx((8.8, 44.9, 9.3, 45.3), abs=0.03)


def test_any_chain_runs_over_a_grid_that_is_asked_for(scenes, submitted, tmp_path):
    (scenes["data"] * 2).run("newest", resolution=20, dtype="uint16")
    carried_out(submitted[0], tmp_path)
    with rasterio.open(Path.home() / "products" / "newest" / "newest.tif") as dataset:
        assert (dataset.shape, dataset.res, dataset.dtypes) == ((5, 5), (20, 20), ("uint16",))
        assert set(np.unique(dataset.read(1))) <= set(range(6, 601, 6))


def test_only_a_run_of_the_same_chain_is_resumed(scenes, submitted):
    scenes["data"].mean().run("x", resume=True)
    scenes["data"].run("x")
    scenes["data"].run("x", resume=True)
    scenes["data"].mean().run("x", resume=True)
    assert [call["products"].name for call in submitted] == ["x", "x-2", "x-2", "x"]
    with pytest.raises(InputError, match="made by another chain"):
        scenes["data"].median().run("x", resume=True)
    with pytest.raises(InputError, match="made by another chain or are stored otherwise"):
        scenes["data"].run("x", resume=True, dtype="int16")
    with pytest.raises(InputError, match="wrote another grid"):
        scenes["data"].mean().run("x", resume=True, resolution=100)
    assert len(submitted) == 4


def test_a_grid_that_cannot_be_makes_no_folder(scenes, submitted):
    with pytest.raises(InputError, match="resolution is a positive number"):
        scenes["data"].run("x", resolution=0)
    with pytest.raises(InputError, match="None of the items lies on this grid"):
        scenes["data"].run("x", bbox=(100, 10, 101, 11))
    assert submitted == []
    assert not list((Path.home() / "products").glob("*"))


def test_a_run_that_finds_no_room_is_told_before_it_begins(scenes, submitted):
    # 2,000,000 x 2,000,000 pixels: 29 TiB.
    wanted = {"resolution": 0.00005, "piece": 16_384, "dtype": "float64"}
    with pytest.raises(InputError, match=r"up to 29\.. TiB in each band, and there are .* free"):
        scenes["data"].mean().run("slip", **wanted)
    assert not submitted
    assert not (Path.home() / "products" / "slip").exists()


def test_a_taken_name_gets_a_number(scenes, submitted):
    for _ in range(3):
        scenes["data"].run("ndvi")
    assert [call["products"].name for call in submitted] == ["ndvi", "ndvi-2", "ndvi-3"]


def test_a_failed_submit_frees_the_name(scenes, monkeypatch):
    def down(*_, **__):
        raise UnavailableError("The platform does not answer.")

    monkeypatch.setattr(jobs, "submit", down)
    with pytest.raises(UnavailableError):
        scenes["data"].run("ndvi")
    assert list((Path.home() / "products").iterdir()) == []


def test_images_of_different_bodies_are_refused_before_anything_is_computed(
    scenes, submitted, tmp_path, write_image
):
    write_image(tmp_path / "mars" / "a.tif", np.ones((10, 10), "uint8"), crs="IAU_2015:49910")
    mixed = scenes["data"].mean() - collections.open(tmp_path / "mars")["b1"].mean()
    with pytest.raises(BodyError, match=r"shows Earth and .* shows Mars"):
        mixed.run("x")
    assert submitted == []
    assert (scenes["data"].mean() - scenes.filter(datetime="2020-02-01")["data"].mean()).body.name == "Earth"


@pytest.mark.usefixtures("submitted")
def test_run_refuses_early(scenes, tmp_path):
    with pytest.raises(InputError, match="a name"):
        scenes["data"].run("  ")
    with pytest.raises(InputError, match="dtype"):
        scenes["data"].run("x", dtype="complex64")
    with pytest.raises(BandError):
        Chain.of_bands(scenes, ("red",)).run("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "collection.json").write_text('{"type": "Collection", "id": "e"}')
    with pytest.raises(InputError, match="no items"):
        collections.open(tmp_path / "empty").preview().run("x")
    with pytest.raises(
        InputError, match=r"none of its 3 fits time 2021-03; they are of 2020-02-01 to 2020-02-03"
    ):
        scenes["data"].during("2021-03").run("x")
    assert not (Path.home() / "products").exists()


def test_input_that_is_gone_or_changed_is_told(scenes, tmp_path, write_item):
    source = ItemInput.of(scenes.item("d1"))
    assert source.item().id == "d1"
    write_item(tmp_path / "scenes" / "d1.json", name="other", assets={})
    with pytest.raises(NotFoundError, match="no longer tells"):
        source.item()
    (tmp_path / "scenes" / "d1.json").unlink()
    with pytest.raises(NotFoundError, match="no longer there"):
        source.item()


def test_bare_images_are_inputs_too(tmp_path, write_image):
    image = collections.open(write_image(tmp_path / "bare.tif", np.ones((4, 4), "uint8")))
    assert ItemInput.of(image.items[0]).item().band("b1")[0].path == str(tmp_path / "bare.tif")


def test_compute_takes_the_newest_item_or_the_one_that_is_named(scenes):
    newest = scenes["data"].compute()
    assert (newest.attrs["item"], newest.dims, newest.shape) == ("d3", ("band", "y", "x"), (1, 10, 10))
    assert newest.sel(band=0).values[0, 0] == 3
    assert (scenes["data"] * 2).compute("d1").values[0, -1, -1] == 200
    assert newest.x.values[:2].tolist() == [500005, 500015]
    assert newest.y.values[:2].tolist() == [4999995, 4999985]
    with pytest.raises(NotFoundError, match="no item 'd9'"):
        scenes["data"].compute("d9")


def test_real_part_of_an_image(data):
    s2 = collections.open(data / "s2")
    box = (-11.5, 24.5, -11.4, 24.6)
    part = s2["B04"].compute(bbox=box)
    whole = s2["B04"].compute()
    same = whole.sel(x=part.x, y=part.y)
    assert part.shape[1] == pytest.approx(111, abs=6)
    assert np.array_equal(part.values, same.values)
    with pytest.raises(NotFoundError, match="no item that touches"):
        s2["B04"].compute(bbox=(0, 0, 1, 1))


def test_too_much_for_a_notebook_is_refused(tmp_path, write_image):
    path = write_image(tmp_path / "v.tif", np.ones((1, 1), "uint8"))
    huge = tmp_path / "huge.tif"
    with rasterio.open(path) as one:
        profile = {**one.profile, "width": 20000, "height": 20000, "sparse_ok": True}
    with rasterio.open(huge, "w", **profile):
        pass
    with pytest.raises(LimitError, match="400 million pixels"):
        collections.open(huge)["b1"].compute()
