from __future__ import annotations

import json
import os

import pytest

from cupola.platform.storage.files.stac import StacFolder


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def item(name, collection=None, assets=("B04", "B08"), **properties):
    document = {
        "type": "Feature",
        "id": name,
        "properties": properties,
        "assets": {band: {"href": f"{band}.tif", "roles": ["data"]} for band in assets},
    }
    document["assets"]["thumbnail"] = {"href": "t.png", "roles": ["thumbnail"]}
    return document | ({"collection": collection} if collection else {})


def test_collections_and_loose_items_are_summed_up(tmp_path):
    write(tmp_path / "s2" / "collection.json", {"type": "Collection", "id": "s2-l2a", "title": "Sentinel-2"})
    write(tmp_path / "s2" / "a" / "a.json", item("a", "s2-l2a"))
    write(tmp_path / "s2" / "b" / "b.json", item("b", "s2-l2a", assets=("B04", "SCL")))
    write(tmp_path / "moon" / "x.json", item("x", assets=("data",), **{"proj:code": "IAU_2015:30100"}))
    write(tmp_path / "mars" / "y.json", item("y", assets=("data",), **{"ssys:targets": ["MARS"]}))
    found = {summary.id: summary for summary in StacFolder(tmp_path).collections()}
    assert set(found) == {"s2-l2a", "moon", "mars"}
    s2 = found["s2-l2a"]
    assert (s2.title, s2.items, s2.bands, s2.body, s2.folder) == (
        "Sentinel-2",
        2,
        ["B04", "B08", "SCL"],
        "Earth",
        "s2",
    )
    assert found["moon"].body == "Moon"
    assert found["mars"].body == "Mars"


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"type": "Feature"}', '{"type": ["Collection"]}', "[" * 5000]
)
def test_other_json_is_left_alone(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    (tmp_path / "y.json").write_bytes(b"\xff\xfe")
    assert StacFolder(tmp_path).collections() == []


def test_links_that_go_round_are_not_followed(tmp_path):
    write(tmp_path / "a" / "a.json", item("a", "one"))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (summary,) = StacFolder(tmp_path).collections()
    assert summary.items == 1


def test_documents_are_read_again_only_when_something_changed(tmp_path, monkeypatch):
    write(tmp_path / "a.json", item("a", "one"))
    folder = StacFolder(tmp_path)
    folder.collections()
    monkeypatch.setattr("cupola.platform.storage.files.stac._document", lambda _: pytest.fail("read again"))
    folder.collections()
    monkeypatch.undo()
    write(tmp_path / "b.json", item("b", "one"))
    assert folder.collections()[0].items == 2
    write(tmp_path / "b.json", item("b", "two"))
    os.utime(tmp_path / "b.json", (1, 1))
    assert [summary.id for summary in folder.collections()] == ["one", "two"]


def test_a_look_has_an_end_and_tells_collections_before_their_items(tmp_path, monkeypatch):
    for number in range(20):
        write(tmp_path / "a" / f"{number:02}.json", item(str(number), "one"))
    write(tmp_path / "a" / "collection.json", {"type": "Collection", "id": "one", "title": "One"})
    clock = iter(range(1000))
    monkeypatch.setattr("cupola.platform.storage.files.stac.time.monotonic", lambda: next(clock))
    # 21 documents are listed in 22 steps of this clock; 8 steps are left to read some of them.
    folder = StacFolder(tmp_path, seconds=30)
    (summary,) = folder.collections()
    assert summary.title == "One"
    assert 0 < summary.items < 20
    assert folder.seen == 30
