from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

from cupola import cli
from cupola.exceptions import InputError, NotFoundError, TaskError, UnavailableError
from cupola.lab import collections, jobs
from cupola.lab.chains.compute.planning import plan
from cupola.lab.chains.runs.comparing import compare
from cupola.lab.chains.runs.composite import write_piece
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.chains.runs.reproduce import reproduce

BOX = (8.9, 45.0, 9.1, 45.2)


@pytest.fixture
def scene(tmp_path, write_image, write_item):
    """A collection of one item, and its product."""
    folder = tmp_path / "in"
    array = np.random.default_rng(4).integers(1, 1000, (300, 400)).astype("uint16")
    write_image(folder / "one.tif", array, nodata=0, tiled=True, blockxsize=128, blockysize=128)
    write_item(folder / "one.json", bbox=BOX, assets={"data": {"href": "one.tif", "type": "image/tiff"}})
    source = collections.open(folder)
    product = write_product(
        source["data"] * 0.001, source.items[0], tmp_path / "out", dtype="int16", scale=0.001
    )
    return source, product


def changed(path, rows, columns, by):
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        values = dataset.read()
        values[..., slice(*rows), slice(*columns)] += np.array(by, values.dtype)
        dataset.write(values)


def test_a_product_comes_out_the_same(scene):
    _, product = scene
    report = reproduce(product)
    assert (report.state, report.product_changed, report.comparison.pixels) == ("identical", False, 120_000)
    assert [one.state for one in report.inputs] == ["same"]
    assert "all 120,000 pixels came out the same" in str(report)
    assert reproduce(product.with_suffix(".json")) == report


def test_a_changed_product_is_told_with_how_many_how_much_and_where(scene):
    _, product = scene
    changed(product, (10, 14), (20, 30), -70)
    report = reproduce(product)
    assert report.state == "different"
    assert report.product_changed
    found = report.comparison
    assert (found.different, found.window) == (40, (20, 10, 10, 4))
    assert found.largest == pytest.approx(0.07)
    west, south, east, north = found.box
    with rasterio.open(product) as dataset:
        bounds = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    assert bounds[0] < west < east < bounds[2]
    assert bounds[1] < south < north < bounds[3]
    assert "40 of 120,000 pixels, by 0.07 at most" in str(report)
    assert "was changed after it was written" in str(report)


def test_changed_and_missing_inputs_are_named_and_nothing_is_made(scene, tmp_path):
    source, product = scene
    file = source.source / "one.tif"
    changed(file, (0, 1), (0, 1), 1)
    report = reproduce(product)
    assert (report.state, report.comparison) == ("inputs-changed", None)
    assert f"{file} is changed" in str(report)
    assert reproduce(product, anyway=True).comparison.different == 1
    file.unlink()
    assert f"{file} is missing" in str(reproduce(product))
    assert not list((tmp_path / "home" / ".cupola" / "reproduce").iterdir())


def test_composites_are_made_again_from_the_same_items_though_others_came(
    scene, tmp_path, write_image, write_item
):
    source, _ = scene
    chain = source["data"].mean()
    grid = plan(chain, piece=256)
    product = write_piece(chain, grid, (1, 0), tmp_path / "mean", name="mean")
    write_image(source.source / "two.tif", np.ones((300, 400), "uint16"))
    write_item(
        source.source / "two.json", bbox=BOX, assets={"data": {"href": "two.tif", "type": "image/tiff"}}
    )
    report = reproduce(product, folder=tmp_path / "again")
    assert (report.state, [one.item for one in report.inputs]) == ("identical", ["one"])
    assert len(list((tmp_path / "again").glob("*.tif"))) == 1
    with pytest.raises(InputError, match="is not empty"):
        reproduce(product, folder=tmp_path / "again")


def test_what_is_no_product_is_told(scene, tmp_path):
    source, product = scene
    with pytest.raises(NotFoundError, match="There is no item"):
        reproduce(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="no product of Cupola"):
        reproduce(source.source / "one.json")
    document = json.loads(product.with_suffix(".json").read_text())
    document["properties"]["processing:expression"]["expression"]["steps"][-1]["name"] = "add"
    product.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="somebody changed the item"):
        reproduce(product)
    product.unlink()
    with pytest.raises(NotFoundError, match="is not there any more"):
        reproduce(product.with_suffix(".json"))


@pytest.fixture
def made_elsewhere(scene, monkeypatch):
    """The product says that another version made it; jobs run here, or not at all."""
    _, product = scene
    document = json.loads(product.with_suffix(".json").read_text())
    document["properties"]["cupola:version"] = "sha256:" + "1" * 64
    product.with_suffix(".json").write_text(json.dumps(document))
    monkeypatch.setenv("CUPOLA_VERSION", "sha256:" + "2" * 64)
    submitted = []

    class Done:
        def __init__(self, function, inputs):
            self.function, self.inputs = function, inputs

        def wait(self, progress):
            assert not progress
            return self

        def result(self, number):
            return self.function(self.inputs[number])

    def submit(_name, function, inputs, **options):
        submitted.append(options)
        if submitted_error:
            raise submitted_error[0]
        return Done(function, inputs)

    submitted_error = []
    monkeypatch.setattr(jobs, "submit", submit)
    return product, submitted, submitted_error


def test_the_version_that_made_it_makes_it_again(made_elsewhere):
    product, submitted, _ = made_elsewhere
    report = reproduce(product)
    assert submitted[0]["version"] == report.made_again_by == report.made_by == "sha256:" + "1" * 64
    assert (report.state, report.note) == ("identical", None)
    assert reproduce(product, here=True).made_again_by == "sha256:" + "2" * 64
    assert len(submitted) == 1


def test_a_version_that_is_gone_is_said_and_this_one_is_taken(made_elsewhere):
    product, _, error = made_elsewhere
    for reason in (NotFoundError("The version 1 is not on this platform any more."), UnavailableError("no")):
        error[:] = [reason]
        report = reproduce(product)
        assert (report.state, report.made_again_by) == ("identical", "sha256:" + "2" * 64)
        assert "The version 111111111111 that made it was not to be had" in str(report)
    error[:] = [TaskError("Input 0 failed: it fell over")]
    with pytest.raises(TaskError, match="fell over"):
        reproduce(product)


def image(path, array, **more):
    profile = {"crs": "EPSG:32632", "transform": from_origin(5e5, 5e6, 10, 10), "nodata": np.nan, **more}
    array = np.atleast_3d(array) if array.ndim == 3 else array[np.newaxis]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=array.shape[2],
        height=array.shape[1],
        count=len(array),
        dtype=array.dtype,
        **profile,
    ) as dataset:
        dataset.write(array)
    return path


def test_images_of_another_shape_or_place_are_different(tmp_path):
    array = np.ones((9, 9), "float32")
    one = image(tmp_path / "one.tif", array)
    missing = array.copy()
    missing[3, 4] = np.nan
    assert compare(one, image(tmp_path / "a.tif", array)).identical
    found = compare(one, image(tmp_path / "nan.tif", missing))
    assert (found.different, found.largest, found.window) == (1, 0.0, (4, 3, 1, 1))
    assert compare(image(tmp_path / "m.tif", missing), image(tmp_path / "n.tif", missing)).identical
    for words, other in {
        "9 x 9 pixels became 8 x 9": image(tmp_path / "b.tif", array[:, :8]),
        "1 bands became 2": image(tmp_path / "c.tif", np.stack([array, array])),
        "numbers of type float32 became float64": image(tmp_path / "d.tif", array.astype("float64")),
        "lies elsewhere": image(tmp_path / "e.tif", array, crs="EPSG:32633"),
    }.items():
        found = compare(one, other)
        assert (words in found.unlike, found.identical, found.different) == (True, False, 81)


def test_large_images_are_compared_in_windows(tmp_path):
    array = np.zeros((1500, 2100), "int16")
    one = image(tmp_path / "one.tif", array, nodata=-1)
    array[1400, 2099] = array[5, 1000] = 3
    found = compare(one, image(tmp_path / "two.tif", array, nodata=-1))
    assert (found.different, found.largest, found.window) == (2, 3, (1000, 5, 1100, 1396))


@pytest.mark.parametrize(("state", "code"), [("identical", 0), ("different", 3), ("inputs-changed", 4)])
def test_command_tells_by_its_exit_code(scene, capsys, state, code):
    source, product = scene
    if state == "different":
        changed(product, (0, 1), (0, 1), 1)
    elif state == "inputs-changed":
        (source.source / "one.tif").unlink()
    with pytest.raises(SystemExit) as left:
        cli.main(["reproduce", str(product), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (int(left.value.code or 0), said["state"], said["products"][0]["state"]) == (code, state, state)
    with pytest.raises(SystemExit) as left:
        cli.main(["reproduce", str(product)])
    assert int(left.value.code or 0) == code
    assert capsys.readouterr().out.startswith("one ")


def test_tables_of_statistics_are_refused_by_name(scene):
    product = scene[1].with_suffix(".json")
    document = json.loads(product.read_text())
    document["properties"]["cupola:parameters"] = {"statistics": ["mean"]}
    product.write_text(json.dumps(document))
    with pytest.raises(InputError, match="tells of a table"):
        reproduce(product)


def test_command_takes_a_folder_or_all_that_is_in_it(scene, capsys):
    product = scene[1]
    (product.parent / "ro-crate-metadata.json").write_text("{}")
    for words in ([product.parent], sorted(product.parent.glob("*.json"))):
        with pytest.raises(SystemExit) as left:
            cli.main(["reproduce", *map(str, words)])
        assert int(left.value.code or 0) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["one"]


def test_command_tells_what_is_wrong(capsys, tmp_path):
    for arguments, words in (
        (["reproduce", str(tmp_path / "x.tif")], "There is no item"),
        (["reproduce", str(tmp_path)], "holds no products"),
        (["reproduce", "a", "b", "--folder", "c"], "--folder is for one item"),
        (["crate", str(tmp_path / "nothing")], "There is no folder"),
    ):
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        assert left.value.code == 1
        assert words in capsys.readouterr().err
