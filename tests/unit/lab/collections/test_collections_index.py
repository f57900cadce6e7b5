from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cupola.exceptions import ImageError, InputError, NotAllowedError, NotFoundError
from cupola.lab import collections
from cupola.lab.collections import index, look
from cupola.lab.collections.items import Item

COUNT = 300


@pytest.fixture
def many(tmp_path, write_item):
    """Items of everything that properties can be."""
    folder = tmp_path / "items"
    for number in range(COUNT):
        properties = {
            "eo:cloud_cover": number / 3, "count": number, "platform": "ab"[number % 2], "flag": number % 3 == 0,
            "instruments": ["msi"], "mixed": number if number % 2 else "text", "nested": {"a": [1, number]},
            "created": "2021-01-01T00:00:00Z",
        }  # fmt: skip
        if number % 5 == 0:
            del properties["eo:cloud_cover"]
        write_item(
            folder / f"d{number % 7}" / f"i{number}.json", bbox=(number / 2 - 180, 0, number / 2 - 179, 1),
            datetime=f"2020-01-{number % 28 + 1:02}T00:00:00Z", properties=properties,
            assets={"data": {"href": f"i{number}.tif", "type": "image/tiff", "roles": ["data"]}},
        )  # fmt: skip
    return folder


def kept(runtime):
    return sorted((runtime / "index").glob("[!.]*.parquet"))


def ids(collection):
    return [item.id for item in collection]


def test_index_is_stac_geoparquet(many, runtime):
    import duckdb
    import geopandas
    import pyarrow.parquet as pq
    from stac_geoparquet.arrow import stac_table_to_items

    opened = collections.open(many)
    (path,) = kept(runtime)
    items = {item["id"]: item for item in stac_table_to_items(pq.read_table(path))}
    assert len(items) == len(opened) == COUNT
    one = items["i7"]
    assert (one["type"], one["bbox"], one["collection"]) == ("Feature", [-176.5, 0, -175.5, 1], None)
    assert one["properties"]["platform"] == "b"
    assert one["properties"]["datetime"].startswith("2020-01-08T00:00:00")
    assert one["assets"]["data"]["href"] == "d0/i7.tif"
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_epsg() in (4326, None) or "CRS84" in str(frame.crs)
    assert frame.set_index("id").geometry["i7"].bounds == (-176.5, 0, -175.5, 1)
    frame = duckdb.read_parquet(str(path)).filter(
        "bbox.xmin < -100 and \"eo:cloud_cover\" < 20 and platform = 'a'"
    )
    count = frame.count("*").fetchall()[0][0]
    assert count == len(
        opened.filter(query="eo:cloud_cover < 20 and platform = 'a'").touching((-180, -90, -100, 90))
    )


QUERIES = [
    "eo:cloud_cover < 20", "eo:cloud_cover is null", "flag = true", "instruments = 'msi' and count >= 290", "mixed = 'text'",
    "mixed > 100", "platform in ('a') and not count < 295", "created > DATE('2020-06-01') and count < 3", "id = 'i5'",
    "datetime = TIMESTAMP('2020-01-03T00:00:00Z')",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_queries_on_the_index_are_those_on_the_documents(many, query, tmp_path):
    opened = collections.open(many)
    index.forget()
    from_disk = ids(collections.open(many, query=query))
    assert from_disk == ids(opened.filter(query=query))
    # A folder that is too small for an index, asked by the same words.
    few = tmp_path / "few"
    few.mkdir()
    for number in (0, 1, 2, 3, 5, 30, 150, 296, 298, 299):
        shutil.copy(many / f"d{number % 7}" / f"i{number}.json", few)
    assert set(ids(collections.open(few, query=query))) == set(from_disk) & set(ids(collections.open(few)))


def test_only_what_changed_is_read_again(many, write_item, monkeypatch):
    collections.open(many)
    read = []
    real = look.record_of_text
    monkeypatch.setattr(
        look,
        "record_of_text",
        lambda text, name, *rest, **more: read.append(name) or real(text, name, *rest, **more),
    )
    index.forget()
    (many / "d0" / "i7.json").unlink()
    write_item(
        many / "d1" / "new.json", datetime="2022-01-01T00:00:00Z", properties={"count": 5000, "late": 1.5}
    )
    write_item(many / "d1" / "i1.json", name="renamed", bbox=(50, 50, 51, 51))
    os.utime(many / "d1" / "i1.json", ns=(1, 1))
    opened = collections.open(many)
    assert sorted(read) == ["d1/i1.json", "d1/new.json"]
    assert ids(opened)[0] == "new"
    assert "i7" not in opened
    assert "i1" not in opened
    assert len(opened) == COUNT
    assert ids(opened.filter(query="late > 1")) == ["new"]
    assert ids(opened.filter(query="count >= 299")) == ["new", "i299"]
    assert "renamed" in ids(collections.open(many, bbox=(50, 50, 51, 51)))
    # So many new ones that the index is written again, with the columns of old and new.
    for number in range(210):
        write_item(
            many / "d2" / f"n{number}.json",
            properties={"count": "text", "platform": "c"},
            assets={"more": {"href": "m.tif"}},
        )
    assert len(opened.refresh()) == COUNT + 210
    index.forget()
    again = collections.open(many)
    assert len(again) == COUNT + 210
    assert ids(again.filter(query="platform = 'c' or late > 1")) == ids(
        opened.filter(query="platform = 'c' or late > 1")
    )
    assert len(again.filter(query="count = 'text'")) == 210
    assert ids(again.filter(query="count = 299")) == ["i299"]


@pytest.mark.parametrize("broken", [b"", b"PAR1PAR1", b"\0" * 5000, None])
def test_a_broken_or_foreign_index_is_made_anew(many, runtime, broken):
    before = ids(collections.open(many))
    (path,) = kept(runtime)
    if broken is None:  # of another folder
        shutil.copytree(many, many.parent / "other")
        (many.parent / "other" / "d0" / "i0.json").unlink()
        collections.open(many.parent / "other")
        foreign = next(other for other in kept(runtime) if other != path)
        shutil.copy(foreign, path)
    else:
        path.write_bytes(broken)
    index.forget()
    assert ids(collections.open(many)) == before
    index.forget()
    assert ids(collections.open(many)) == before


def test_a_cut_off_index_is_made_anew(many, runtime):
    before = ids(collections.open(many))
    (path,) = kept(runtime)
    path.write_bytes(path.read_bytes()[:-100])
    index.forget()
    assert ids(collections.open(many)) == before


def test_full_disk_costs_only_the_index(many, runtime, monkeypatch):
    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(index.tempfile, "mkstemp", full)
    opened = collections.open(many, query="eo:cloud_cover < 20")
    assert len(opened) == 48
    assert kept(runtime) == []
    assert opened.items[0].properties["platform"] in "ab"


def test_home_that_cannot_be_written_is_no_reason_to_fail(many, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "file"))
    assert len(collections.open(many)) == COUNT


def _open(folder):
    index.forget()
    return len(collections.open(folder)), len(collections.open(folder, query="eo:cloud_cover < 20"))


def test_several_processes_at_once(many, runtime):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(_open, [many] * 6)) == {(COUNT, 48)}
    assert len(kept(runtime)) == 1
    assert not list((runtime / "index").glob(".*"))


def test_process_killed_while_it_looks(many, runtime):
    code = (
        "import sys, os, signal\nfrom cupola.lab.collections import geoparquet\nfrom cupola.lab import collections\n"
        "real = geoparquet.write\n"
        "def write(table, target):\n    real(table, target)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "geoparquet.write = write\ncollections.open(sys.argv[1])"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(many)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert kept(runtime) == []
    # What it left half-written goes once it is old.
    (draft,) = (runtime / "index").glob(".*.parquet")
    os.utime(draft, (1, 1))
    assert len(collections.open(many)) == COUNT
    assert [path.name[0] for path in (runtime / "index").glob("*.parquet")] != ["."]
    assert not draft.exists()
    assert len(kept(runtime)) == 1


def test_large_folders_are_believed_while_no_folder_changed(many, runtime, monkeypatch):
    monkeypatch.setattr(look, "_MANY", 100)
    old = time.time_ns() - 10**10
    for folder in (many, *many.iterdir()):
        os.utime(folder, ns=(old, old))
    before = ids(collections.open(many))
    index.forget()
    monkeypatch.setattr(look, "list_folder", None)
    opened = collections.open(many)
    assert ids(opened) == before
    monkeypatch.undo()
    monkeypatch.setenv("CUPOLA_RUNTIME", str(runtime))
    monkeypatch.setattr(look, "_MANY", 100)
    (many / "d3" / "i3.json").unlink()
    assert len(collections.open(many)) == COUNT - 1


def test_items_travel_as_json(many):
    opened = collections.open(many)
    index.forget()
    item = collections.open(many).item("i9")
    again = Item.from_json(json.loads(json.dumps(item.to_json())))
    assert (again.id, again.datetime, again.bbox, again.path) == (
        item.id,
        item.datetime,
        item.bbox,
        item.path,
    )
    assert again.properties == opened.item("i9").properties
    with pytest.raises(InputError, match="no description of an item"):
        Item.from_json({"box": 3})


def test_items_are_light_rows(many):
    opened = collections.open(many)
    assert opened.items[5] is opened.items[5]
    assert ids(opened)[3:6] == [item.id for item in opened.items[3:6]]
    assert opened.items[-1] in opened.items
    assert opened.filter(datetime="2020-01-05").interval[0].day == 5
    assert len(opened.filter(datetime="2020-01-05").refresh()) == len(
        [n for n in range(COUNT) if n % 28 == 4]
    )


def test_images_beside_items(tmp_path, write_image, write_item):
    folder = tmp_path / "mixed"
    write_image(folder / "scene" / "b1.tif", np.ones((4, 4), "uint8"))
    write_item(folder / "scene" / "scene.json", assets={"b1": {"href": "b1.tif", "type": "image/tiff"}})
    write_image(folder / "alone.tif", np.ones((4, 4), "uint8"))
    (folder / "broken.tif").write_bytes(b"II*\0 no image")
    opened = collections.open(folder)
    assert sorted(ids(opened)) == ["alone", "scene"]
    assert "broken.tif" in opened._repr_html_()
    # An item that comes later takes its image with it.
    write_item(
        folder / "alone.json", name="described", assets={"x": {"href": "alone.tif", "type": "image/tiff"}}
    )
    assert sorted(ids(opened.refresh())) == ["described", "scene"]
    (folder / "alone.json").unlink()
    assert sorted(ids(opened.refresh())) == ["alone", "scene"]
    # Where a document says what belongs to the folder, images that no item speaks of do not.
    (folder / "collection.json").write_text('{"type": "Collection", "id": "c"}')
    assert ids(opened.refresh()) == ["scene"]


def test_images_of_a_body_have_their_place_in_the_index(tmp_path, write_image, runtime, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(look, "_WORTH_KEEPING", 1)
    for name, x in (("a", 0), ("b", 500_000)):
        write_image(
            tmp_path / "mars" / f"{name}.tif",
            np.ones((8, 8), "uint8"),
            crs="IAU_2015:49910",
            origin=(x, 0),
            pixel=1000,
        )
    first = collections.open(tmp_path / "mars")
    (path,) = kept(runtime)
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    crs = geo["columns"]["geometry"]["crs"]
    assert "Mars" in crs["name"]
    assert crs["type"] == "GeographicCRS"
    index.forget()
    second = collections.open(tmp_path / "mars")
    assert second.bbox == first.bbox
    assert second.body.name == "Mars"
    assert ids(second.filter(bbox=(8, -1, 9, 1))) == ["b"]
    assert ids(second.filter(bbox=(368, -1, 369, 1))) == ["b"]
    assert len(second.item("a").band("b1")) == 1


def test_collections_of_the_volumes(tmp_path, write_image, write_item, volumes):
    archive, images = tmp_path / "archive", tmp_path / "images"
    head = {"type": "Collection", "id": "s2", "title": "Sentinel-2", "description": "Scenes"}
    write_image(archive / "s2" / "i.tif", np.ones((4, 4), "uint8"))
    write_item(
        archive / "s2" / "i.json", collection="s2", assets={"data": {"href": "i.tif", "type": "image/tiff"}}
    )
    (archive / "s2" / "collection.json").write_text(json.dumps(head))
    write_image(images / "deep" / "mars.tif", np.ones((4, 4), "uint8"), crs="IAU_2015:49910")
    volumes(archive=archive, images=images)
    found = {info.name: info for info in collections.known()}
    assert sorted(found) == ["images", "s2"]
    s2 = found["s2"]
    assert (s2.title, s2.volume, s2.body, s2.items, s2.bands) == (
        "Sentinel-2",
        "archive",
        "Earth",
        1,
        ("data",),
    )
    assert s2.bbox == (8, 44, 9, 45)
    assert s2.interval[0].startswith("2020-02-19T11:00:00")
    assert (found["images"].body, found["images"].items) == ("Mars", 1)
    for name, info in found.items():
        assert len(collections.open(name)) == info.items
    # A new collection is seen, and one that changed.
    (archive / "more").mkdir()
    (archive / "more" / "collection.json").write_text(json.dumps(head | {"id": "more"}))
    write_item(archive / "s2" / "j.json", collection="s2")
    assert {info.name: info.items for info in collections.known()} == {"s2": 2, "more": 0, "images": 1}


def test_known_collections_are_not_looked_through_again(tmp_path, write_item, volumes, monkeypatch):
    from cupola.lab.collections import catalogue

    write_item(tmp_path / "v" / "c" / "i.json", collection="c")
    (tmp_path / "v" / "c" / "collection.json").write_text('{"type": "Collection", "id": "c"}')
    volumes(v=tmp_path / "v")
    old = time.time_ns() - 10**10
    for folder in (tmp_path / "v", tmp_path / "v" / "c"):
        os.utime(folder, ns=(old, old))
    first = collections.known()
    index.forget()
    monkeypatch.setattr(catalogue, "_folders", None)
    assert collections.known() == first
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "v" / "c")


def test_large_collection_that_nobody_opened_is_glimpsed(many, volumes, monkeypatch):
    from cupola.lab.collections import catalogue

    monkeypatch.setattr(catalogue, "_AT_ONCE", 100)
    extent = {
        "spatial": {"bbox": [[-180, 0, -29, 1]]},
        "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
    }
    (many / "collection.json").write_text(json.dumps({"type": "Collection", "id": "many", "extent": extent}))
    volumes(v=many)
    (info,) = collections.known()
    assert (info.items, info.bbox, info.exact, info.bands) == (COUNT, (-180, 0, -29, 1), False, ("data",))
    assert info.interval == ("2020-01-01T00:00:00Z", None)


def test_index_in_the_folder_serves_others(many, runtime, monkeypatch):
    opened = collections.open(many, query="count < 3")
    path = opened.write_index()
    assert path == many / "items.parquet"
    # Somebody else, who has no index, and another place of the same files.
    index.forget()
    shutil.rmtree(runtime)
    moved = many.parent / "elsewhere"
    shutil.move(many, moved)
    monkeypatch.setattr(look, "record_of_text", None)
    assert ids(collections.open(moved, query="count < 3")) == ids(opened)
    item = collections.open(moved / "items.parquet").item("i9")
    assert item.path == moved / "d2" / "i9.json"
    assert item.properties["count"] == 9
    monkeypatch.setattr(
        index.Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(NotAllowedError, match=r"items\.parquet cannot be written \(permission denied\)"):
        collections.open(moved).write_index()


def test_stac_geoparquet_of_others(tmp_path, write_item, write_image):
    from stac_geoparquet.arrow import parse_stac_items_to_parquet

    write_image(tmp_path / "a.tif", np.ones((4, 4), "uint8"))
    documents = []
    for number in range(3):
        geometry = {"type": "Point", "coordinates": [number, 0]}
        assets = {"data": {"href": "./a.tif", "type": "image/tiff", "roles": ["data"]}}
        path = write_item(tmp_path / "x" / f"i{number}.json", bbox=(number, 0, number, 0), geometry=geometry, assets=assets,
                          collection="c", properties={"eo:cloud_cover": number * 10})  # fmt: skip
        documents.append(json.loads(path.read_text()))
    parse_stac_items_to_parquet(documents, output_path=tmp_path / "others.parquet")
    opened = collections.open(tmp_path / "others.parquet", query="eo:cloud_cover >= 10")
    assert (opened.id, sorted(ids(opened))) == ("c", ["i1", "i2"])
    assert opened.item("i1").band("data")[0].path == str(tmp_path / "a.tif")
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImageError, match=r"no\.parquet is no stac-geoparquet"):
        collections.open(tmp_path / "no.parquet")


def test_progress_is_told(many):
    told = []
    collections.open(many, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] or (COUNT, COUNT) in told


def test_part_of_a_file_by_its_address(data):
    path = data / "fits" / "sample_svm_flc.fits"
    assert path.is_file()
    opened = collections.open(f"{path}#SCI,1")
    assert (len(opened), opened.items[0].id) == (1, "sample_svm_flc")
    with pytest.raises(NotFoundError):
        collections.open(Path(f"{path}x#SCI,1"))
