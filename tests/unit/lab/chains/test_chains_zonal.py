from __future__ import annotations

import json
import subprocess
import sys
import time

import cloudpickle
import geopandas
import numpy as np
import pytest
import shapely

from cupola.exceptions import BodyError, InputError, LimitError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains.analysis import tallies, zonaljob

UTM = "EPSG:32632"
LEFT, TOP, PIXEL = 500_000, 5_000_000, 10


@pytest.fixture
def field(tmp_path, write_image):
    """Two images over the same 90 x 70 pixels of 10 m."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "field"
    arrays = [rng.normal(50, 9, (70, 90)).astype("float32") for _ in range(2)]
    arrays[0][10:20, 10:20] = np.nan
    arrays[1][:, :5] = np.nan
    for name, array in zip(("a", "b"), arrays, strict=True):
        write_image(folder / f"{name}.tif", array, origin=(LEFT, TOP), pixel=PIXEL, nodata=np.nan)
    return collections.open(folder)["b1"], dict(zip(("a", "b"), arrays, strict=True))


def areas():
    """Overlapping regions, one with a hole and one beside the images, in the images' own coordinates."""
    ring = (
        shapely.Point(LEFT + 400, TOP - 350)
        .buffer(280)
        .difference(shapely.Point(LEFT + 400, TOP - 350).buffer(90))
    )
    shapes = [shapely.box(LEFT + 33, TOP - 287, LEFT + 612, TOP - 4), ring, shapely.box(0, 0, 100, 100)]
    return geopandas.GeoDataFrame({"name": ["box", "ring", "away"]}, geometry=shapes, crs=UTM)


def brute(array, region):
    """Values of all pixels whose centre lies in the region, one pixel after the other."""
    found = []
    for row in range(array.shape[0]):
        for column in range(array.shape[1]):
            place = shapely.Point(LEFT + (column + 0.5) * PIXEL, TOP - (row + 0.5) * PIXEL)
            if region.covers(place) and np.isfinite(array[row, column]):
                found.append(array[row, column])
    return np.array(found, dtype="float64")


STATS = ("mean", "min", "max", "std", "count", "median", "sum", "percentile_90", "area")
TELLS = {
    "mean": np.mean, "min": np.min, "max": np.max, "std": np.std, "count": len, "median": np.median, "sum": np.sum,
    "percentile_90": lambda values: np.percentile(values, 90),
}  # fmt: skip


def test_statistics_of_each_image_are_those_of_brute_force(field):
    chain, arrays = field
    table = (chain * 2).zonal(areas(), STATS, by="item", by_area=False).compute()
    assert list(zip(table["name"], table["item"], strict=True)) == [
        ("box", "a"),
        ("box", "b"),
        ("ring", "a"),
        ("ring", "b"),
    ]
    for row in table.itertuples():
        values = 2 * brute(arrays[row.item], areas().geometry[row.region])
        for name, tell in TELLS.items():
            assert getattr(row, name) == pytest.approx(tell(values), rel=1e-5), name
        assert row.area == pytest.approx(len(values) * 100, rel=0.005)  # UTM is not quite true to scale
    assert table.crs.to_epsg() == 4326


def test_all_images_together_are_the_newest_over_the_others(field, monkeypatch):
    chain, arrays = field
    monkeypatch.setattr("cupola.lab.chains.analysis.zonal.WINDOW", 32)
    said = []
    wanted = chain.zonal(areas(), STATS, by_area=False)
    table = wanted.compute(progress=lambda done, of: said.append((done, of)))
    newest = chain.collection.items[0].id
    over, under = arrays[newest], arrays["b" if newest == "a" else "a"]
    values = brute(np.where(np.isnan(over), under, over), areas().geometry[0])
    for name, tell in TELLS.items():
        assert table[name][0] == pytest.approx(tell(values), rel=1e-5), name
    assert table["count"].tolist()[2] == 0
    assert np.isnan(table["mean"][2])
    assert len(said) > 4
    assert said[-1][0] == said[-1][1]


def test_pixels_near_a_pole_count_by_their_area(tmp_path, write_image):
    rows = np.tile(np.arange(60, dtype="float32").reshape(-1, 1), (1, 40))
    path = write_image(tmp_path / "polar.tif", rows, crs="EPSG:4326", origin=(0, 85), pixel=1)
    chain = collections.open(path)["b1"]
    region = shapely.box(0.2, 24.8, 39.7, 85.1)
    weights = np.cos(np.radians(84.5 - np.arange(60)))
    even = chain.zonal(region, ("mean", "std"), by_area=False).compute()
    true = chain.zonal(region, ("mean", "std", "area")).compute()
    assert even["mean"][0] == pytest.approx(29.5)
    mean = np.average(np.arange(60), weights=weights)
    assert true["mean"][0] == pytest.approx(mean, rel=2e-3)
    assert true["std"][0] == pytest.approx(
        np.sqrt(np.average((np.arange(60) - mean) ** 2, weights=weights)), rel=5e-3
    )
    cap = 2 * np.pi * 6371000**2 * (np.sin(np.radians(85)) - np.sin(np.radians(25))) * 40 / 360
    assert true["area"][0] == pytest.approx(cap, rel=0.01)


def test_regions_across_the_antimeridian_of_the_moon(tmp_path, write_image):
    degree = np.pi * 1737400 / 180
    columns = np.tile(np.arange(360, dtype="float32"), (20, 1))
    path = write_image(
        tmp_path / "moon.tif",
        columns,
        crs="IAU_2015:30110",
        origin=(-180 * degree, 10 * degree),
        pixel=degree,
    )
    chain = collections.open(path)["b1"]
    either = [shapely.box(178, -3, 182, 3), shapely.box(-182, -3, -178, 3)]
    split = shapely.MultiPolygon([shapely.box(178, -3, 180, 3), shapely.box(-180, -3, -178, 3)])
    for region in (*either, split):
        table = chain.zonal(region, ("min", "max", "count")).compute()
        assert table.iloc[0][["min", "max", "count"]].tolist() == [0, 359, 24]
    assert "Moon" in table.crs.name
    with pytest.raises(BodyError, match="lie on Mars and the images show Moon"):
        chain.zonal(geopandas.GeoDataFrame(geometry=[split], crs="IAU_2015:49900"), "mean")


def test_regions_are_read_from_files_and_documents(field, tmp_path):
    chain, _ = field
    frame = areas()[:2].to_crs(4326)
    frame.to_file(tmp_path / "areas.gpkg")
    frame.to_parquet(tmp_path / "areas.parquet")
    (tmp_path / "areas.geojson").write_text(frame.to_json())
    wanted = chain.zonal(frame, "count").compute()["count"].tolist()
    for name in ("areas.gpkg", "areas.parquet", "areas.geojson"):
        assert chain.zonal(tmp_path / name, "count").compute()["count"].tolist() == wanted
    assert chain.zonal(json.loads(frame.to_json()), "count").compute()["count"].tolist() == wanted
    metres = chain.zonal(frame, "count", metres=20).compute()["count"].tolist()
    assert metres == pytest.approx([one / 4 for one in wanted], rel=0.05)


def test_chains_with_several_bands_and_neighbourhoods(field):
    chain, _ = field
    table = chain.map(lambda band: (band, band + 1)).zonal(areas()[:1], ("mean", "count")).compute()
    assert table["mean_2"][0] - table["mean_1"][0] == pytest.approx(1, abs=1e-4)
    whole = chain.mean().zonal(areas()[:1], "mean").compute()
    assert whole["mean"][0] == pytest.approx(table["mean_1"][0], abs=3)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda chain: chain.zonal(areas(), "mode"), InputError, "no statistic 'mode'"),
        (lambda chain: chain.zonal(areas(), "percentile_101"), InputError, "no statistic 'percentile_101'"),
        (lambda chain: chain.zonal(areas(), ()), InputError, "at least one statistic"),
        (lambda chain: chain.zonal(areas(), by="day"), InputError, "by='item'"),
        (lambda chain: chain.mean().zonal(areas(), by="item"), InputError, "one image of all items"),
        (lambda chain: chain.zonal(3), InputError, "not int"),
        (lambda chain: chain.zonal({"type": "Nothing"}), InputError, "no GeoJSON"),
        (lambda chain: chain.zonal("nowhere.gpkg"), NotFoundError, r"no file nowhere\.gpkg"),
        (lambda chain: chain.zonal(shapely.Point(9, 45)), InputError, "these are: Point"),
        (
            lambda chain: chain.zonal(shapely.box(100, 0, 101, 1)).compute(),
            NotFoundError,
            "touches the regions",
        ),
        (lambda chain: chain.zonal(areas(), metres=-1).compute(), InputError, "positive number of metres"),
    ],
)
def test_wrong_use_is_told(field, use, error, words):
    with pytest.raises(error, match=words):
        use(field[0])


def test_thousands_of_small_regions(field, monkeypatch):
    chain, arrays = field
    places = [
        shapely.box(LEFT + x, TOP - y - 10, LEFT + x + 10, TOP - y)
        for y in range(0, 100, 10)
        for x in range(0, 900, 10)
    ]
    regions = geopandas.GeoDataFrame(geometry=places, crs=UTM)
    found = chain.min().zonal(regions, ("mean", "count")).compute()
    monkeypatch.setattr("cupola.lab.chains.analysis.zonal._FEW", 10_000)
    again = chain.min().zonal(regions[:200], ("mean", "count")).compute()
    assert set(found["count"]) <= {0, 1}
    wanted = np.fmin(*arrays.values())[:10].ravel()
    assert np.allclose(found["mean"], wanted, equal_nan=True)
    assert np.allclose(again["mean"], wanted[:200], equal_nan=True)


def test_medians_of_too_many_values_are_refused(field, monkeypatch):
    monkeypatch.setattr(tallies, "_MOST_KEPT", 1000)
    assert field[0].zonal(areas(), "mean").compute()["mean"][0] > 0
    with pytest.raises(LimitError, match="larger pixels with metres="):
        field[0].zonal(areas(), "median").compute()


@pytest.fixture
def submitted(monkeypatch):
    """The last job that would go to the platform."""
    made = {}
    monkeypatch.setattr(
        "cupola.lab.jobs.submit",
        lambda _, task, inputs, **said: made.update(task=task, inputs=inputs, **said),
    )
    return made


def test_the_tasks_of_a_job_write_one_table(field, submitted, monkeypatch):
    (chain, _), made = field, submitted
    monkeypatch.setattr(zonaljob, "_TOGETHER", 2)
    for by, tasks in ((None, 2), ("item", 2)):
        wanted = chain.zonal(areas(), STATS, by=by)
        wanted.run("By field")
        folder = made["products"]
        assert len(made["inputs"]) == len(made["labels"]) == tasks
        for part in reversed(made["inputs"]):
            assert not (folder / "statistics.parquet").exists()
            made["task"](part)
        table, direct = geopandas.read_parquet(folder / "statistics.parquet"), wanted.compute()
        for name in ("name", "region"):
            assert list(table[name]) == list(direct[name])
        for name in STATS:
            assert np.allclose(table[name], direct[name], equal_nan=True), name
        assert (folder / "statistics.csv").read_text().count("\n") == len(table) + 1
        item = json.loads((folder / "statistics.json").read_text())
        assert item["properties"]["cupola:chain"] == chain.hash
        assert {one["item"] for one in item["properties"]["cupola:inputs"]} == {"a", "b"}
        assert all(
            one["files"][0]["file:checksum"].startswith("1220") for one in item["properties"]["cupola:inputs"]
        )
        assert sorted(file.name for file in folder.iterdir()) == [
            ".parts", "collection.json", "statistics.csv", "statistics.json", "statistics.parquet",
        ]  # fmt: skip
        assert [item.id for item in collections.open(folder)] == ["statistics"]
    assert folder.name == "by-field-2"


def test_a_full_disk_leaves_nothing_half(field, submitted, monkeypatch):
    made = submitted
    field[0].zonal(areas(), "mean").run("full")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(geopandas.GeoDataFrame, "to_parquet", full)
        with pytest.raises(LimitError, match="full"):
            made["task"](made["inputs"][0])
    assert not list(made["products"].rglob(".*.part.*"))
    made["task"](made["inputs"][0])
    assert (made["products"] / "statistics.parquet").is_file()


COUNTED = """
import pickle, sys
from pathlib import Path
task, inputs = pickle.loads(Path(sys.argv[1]).read_bytes())
for one in inputs:
    task(one)
"""


def counted(folder):
    """Return a function of pixels that tells of each call, and waits for ever while a file says so."""
    log, wait = folder / "calls", folder / "wait"

    def doubled(band):
        import time

        with log.open("a") as file:
            file.write(f"{band.sum()}\n")
        while wait.exists() and log.read_text().count("\n") > 1:
            time.sleep(0.01)
        return band * 2

    return doubled, log, wait


def test_a_killed_job_goes_on_where_it_was(field, submitted, tmp_path, write_image):
    doubled, log, wait = counted(tmp_path)
    wanted = field[0].map(doubled).zonal(areas(), ("mean", "count"), by="item")
    wanted.run("Kill me", resume=True)
    folder = submitted["products"]
    payload = tmp_path / "payload.pkl"
    payload.write_bytes(cloudpickle.dumps((submitted["task"], submitted["inputs"])))
    wait.touch()
    log.touch()
    with subprocess.Popen([sys.executable, "-c", COUNTED, str(payload)], cwd="/") as process:
        while log.read_text().count("\n") < 2 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    wait.unlink()
    assert not (folder / "statistics.parquet").exists()
    assert len(list((folder / ".parts").glob("*/*.parquet"))) == 1

    def resumed():
        log.write_text("")
        wanted.run("Kill me", resume=True)
        assert submitted["products"] == folder
        for one in submitted["inputs"]:
            submitted["task"](one)
        return len(log.read_text().splitlines())

    assert resumed() == 1  # of two images, the one that was not done
    table = geopandas.read_parquet(folder / "statistics.parquet")
    direct = field[0].map(doubled).zonal(areas(), ("mean", "count"), by="item").compute()
    assert list(table["item"]) == list(direct["item"])
    assert np.allclose(table["mean"], direct["mean"])
    assert not list((folder / ".parts").glob("drafts/.*"))
    said = (folder / "statistics.json").read_bytes()
    assert resumed() == 0
    assert (folder / "statistics.json").read_bytes() == said  # nothing was new
    # One image changed, and another came.
    changed = np.full((70, 90), 7, "float32")
    for name in ("a", "c"):
        write_image(tmp_path / "field" / f"{name}.tif", changed, origin=(LEFT, TOP), pixel=PIXEL)
    wanted = (
        collections.open(tmp_path / "field")["b1"].map(doubled).zonal(areas(), ("mean", "count"), by="item")
    )
    assert resumed() == 2
    table = geopandas.read_parquet(folder / "statistics.parquet").set_index(["item", "name"])["mean"]
    assert [table["a", "box"], table["c", "ring"]] == pytest.approx([14, 14])
    assert len(table) == 6
    assert len(list((folder / ".parts").glob("*/*.parquet"))) == 3


def test_only_the_same_statistics_are_resumed(field, submitted):
    field[0].zonal(areas(), "mean").run("x")
    first = submitted["products"]
    field[0].zonal(areas(), "mean").run("x", resume=True)
    assert submitted["products"] == first
    field[0].zonal(areas(), "mean").run("x")
    assert submitted["products"].name == "x-2"
    for other in (
        field[0].zonal(areas(), "max"),
        field[0].zonal(areas().iloc[:1], "mean"),
        (field[0] * 2).zonal(areas(), "mean"),
        field[0].zonal(areas(), "mean", metres=20),
    ):
        with pytest.raises(InputError, match="made by another chain or are stored otherwise"):
            other.run("x", resume=True)
