from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola.exceptions import ImageError, InputError, NotFoundError, UnavailableError
from cupola.lab import collections
from cupola.lab.chains.compute import evaluate
from cupola.lab.chains.runs import fullres
from cupola.lab.collections import addresses, index, stac_api
from cupola.lab.collections.images import open_image
from cupola.lab.collections.items import Item
from support.afar import alone
from support.object_store import ObjectStore
from support.web import CONFORMS, Partial, StacServer, WebFiles, served

SIZE = 1536


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    alone(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two scenes of random pixels, which do not compress: one with a STAC item, one bare."""
    root = tmp_path_factory.mktemp("served") / "store" / "bucket"
    (root / "scenes" / "deep").mkdir(parents=True)
    random = np.random.default_rng(5)
    profile = {
        "driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": "uint16", "crs": "EPSG:32632",
        "tiled": True, "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    for name, west in (("one", 500_000), ("deep/two", 540_000)):
        with rasterio.open(
            root / "scenes" / f"{name}.tif", "w", transform=from_origin(west, 5_000_000, 10, 10), **profile
        ) as file:
            file.write(random.integers(1, 60_000, (1, SIZE, SIZE), dtype="uint16"))
    item = scene("one", [9, 44.9, 9.2, 45.2], 7.5) | {
        "assets": {"pixels": {"href": "./one.tif", "type": "image/tiff"}}
    }
    (root / "scenes" / "one.json").write_text(json.dumps(item))
    return root


def scene(name, bbox, cloud, day=1):
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "bbox": bbox, "geometry": None, "collection": "scenes",
        "properties": {"datetime": f"2020-02-{day:02}T10:00:00Z", "eo:cloud_cover": cloud}, "links": [], "assets": {},
    }  # fmt: skip


@pytest.fixture
def store(archive, monkeypatch):
    place = ObjectStore(archive.parent)
    place.front = Partial(place.endpoint)
    place.start()
    try:
        with served(place.front) as address:
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            yield place
    finally:
        place.stop()


def computes(opened, archive, tmp_path):
    """Tile and product of the scene with an item, from afar, are those of the file."""
    assert opened.only("one").preview().bands == ("pixels",)
    doubled = opened.only("one")["pixels"] * 2
    x, y = 8622, 5887
    from morecantile import tms

    found = tms.get("WebMercatorQuad").tile(9.05, 45.1, 14)
    tile = evaluate.tile(doubled, "WebMercatorQuad", found.x, found.y, 14)
    near = collections.open(archive / "scenes" / "one.json")["pixels"] * 2
    same = evaluate.tile(near, "WebMercatorQuad", found.x, found.y, 14)
    assert tile.valid.any()
    assert np.array_equal(tile.data, same.data)
    item = Item.from_json(json.loads(json.dumps(opened.item("one").to_json())))
    product = fullres.write_product(doubled, item, tmp_path / "products")
    with rasterio.open(product) as made, rasterio.open(archive / "scenes" / "one.tif") as raw:
        assert np.array_equal(made.read(1), raw.read(1).astype("float32") * 2)
    assert x > y


def test_prefix_of_an_object_store(store, archive, tmp_path):
    opened = collections.open("s3://bucket/scenes")
    assert sorted(item.id for item in opened) == ["one", "two"]
    assert opened.item("two").image == "s3://bucket/scenes/deep/two.tif"
    assert opened.item("one").assets["pixels"].href == "s3://bucket/scenes/one.tif"
    assert opened.item("two").body.name == "Earth"
    assert len(opened.filter(query="eo:cloud_cover < 10")) == 1
    size = (archive / "scenes" / "deep" / "two.tif").stat().st_size
    # Its header was read, and nothing else.
    assert 0 < store.front.sent["bucket/scenes/deep/two.tif"] < size / 10
    computes(opened, archive, tmp_path)
    # Another process takes what this one found, without asking the store.
    store.stop()
    index.forget()
    addresses.forget()
    assert len(collections.open("s3://bucket/scenes")) == 2


def test_objects_that_come_and_go(store, archive):
    folder = archive / "changing"
    shutil.copytree(archive / "scenes", folder)
    try:
        opened = collections.open("s3://bucket/changing")
        (folder / "one.tif").rename(folder / "three.tif")
        (folder / "one.json").unlink()
        # It keeps its listings for minutes.
        store.stop()
        store.start()
        assert len(collections.open("s3://bucket/changing")) == 2
        assert sorted(item.id for item in opened.refresh()) == ["three", "two"]
    finally:
        shutil.rmtree(folder)


def test_errors_of_an_object_store_are_told(store, monkeypatch):
    with pytest.raises(NotFoundError, match="s3://nothing"):
        collections.open("s3://nothing/here")
    with pytest.raises(NotFoundError, match="holds no images"):
        collections.open("s3://bucket/empty")
    with pytest.raises(ImageError, match="no such file"):
        collections.open("s3://bucket/scenes/none.tif")
    store.keys = ("KEYID123", "canary-secret")
    store.stop()
    store.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYID123")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match="secret does not belong to the access key") as caught:
        collections.open("s3://bucket/scenes")
    assert "canary" not in str(caught.value)
    with pytest.raises(ImageError, match="secret does not belong to the access key"):
        open_image("s3://bucket/scenes/one.tif")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    with pytest.raises(InputError, match="does not know the access key of AWS_ACCESS_KEY_ID"):
        collections.open("s3://bucket/scenes")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match=r"name the bucket in a profile with keys"):
        collections.open("s3://bucket/scenes")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYID123")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    opened = collections.open("s3://bucket/scenes")
    assert len(opened) == 2
    # Pixels are read with the keys as well.
    with open_image(opened.item("two").image) as image:
        assert image.read(1).any()


def test_files_that_a_web_server_lists(archive, tmp_path):
    files = WebFiles(archive)
    with served(files) as address:
        opened = collections.open(f"{address}/scenes/")
        assert sorted(item.id for item in opened) == ["one", "two"]
        assert opened.bbox is not None
        size = (archive / "scenes" / "deep" / "two.tif").stat().st_size
        # Its header was read, and nothing else.
        assert 0 < files.sent["scenes/deep/two.tif"] < size / 20
        assert all(how for path, how in files.asked if path.endswith("two.tif") and how)
        tile_only = opened.only("two")["b1"]
        box = opened.item("two").bbox
        from morecantile import tms

        found = tms.get("WebMercatorQuad").tile((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 16)
        assert evaluate.tile(tile_only, "WebMercatorQuad", found.x, found.y, 16).valid.any()
        assert files.sent["scenes/deep/two.tif"] < size / 2
        computes(opened, archive, tmp_path)


def test_a_file_by_its_address(archive):
    files = WebFiles(archive)
    with served(files) as address:
        opened = collections.open(f"{address}/scenes/one.tif")
        assert (len(opened), opened.bands, opened.body.name) == (1, ["b1"], "Earth")
        stac = collections.open(f"{address}/scenes/one.json")
        assert stac.item("one").assets["pixels"].href == f"{address}/scenes/one.tif"
        with pytest.raises(ImageError, match="no such file"):
            collections.open(f"{address}/scenes/none.tif")
        with pytest.raises(NotFoundError, match="no such file"):
            collections.open(f"{address}/nothing/")


def test_catalog_of_linked_files(tmp_path):
    (tmp_path / "catalog" / "2020").mkdir(parents=True)
    head = {
        "type": "Collection",
        "id": "linked",
        "title": "Linked",
        "links": [{"rel": "child", "href": "./2020/year.json"}],
    }
    year = {
        "type": "Catalog",
        "id": "2020",
        "links": [{"rel": "item", "href": f"s{n}.json"} for n in range(30)],
    }
    (tmp_path / "catalog" / "collection.json").write_text(json.dumps(head))
    (tmp_path / "catalog" / "2020" / "year.json").write_text(json.dumps(year))
    for number in range(30):
        text = json.dumps(scene(f"s{number}", [number, 0, number + 1, 1], number))
        (tmp_path / "catalog" / "2020" / f"s{number}.json").write_text(text)
    files = WebFiles(tmp_path)
    with served(files) as address:
        opened = collections.open(f"stac+{address}/catalog/collection.json", bbox=(10.1, 0, 12.9, 1))
        assert (opened.id, opened.title) == ("linked", "Linked")
        assert sorted(item.id for item in opened) == ["s10", "s11", "s12"]
        (tmp_path / "catalog" / "2020" / "year.json").write_text("no json")
        with pytest.raises(InputError, match=r"year\.json is no STAC document"):
            opened.refresh()


@pytest.fixture
def api():
    items = [scene(f"s{n:03}", [n % 360 - 180, 0, n % 360 - 179, 1], n % 100, n % 28 + 1) for n in range(700)]
    server = StacServer(items)
    with served(server.app) as address:
        server.address = f"{address}/stac/collections/scenes"
        yield server


def test_search_of_a_stac_server(api):
    opened = collections.open(api.address)
    # Nothing was asked yet: further conditions may come.
    assert api.searches == []
    some = opened.filter(bbox=(0, 0, 20, 1), datetime="2020-02", query="eo:cloud_cover < 10")
    assert api.searches == []
    assert {item.id for item in some} == {
        f"s{n:03}" for n in range(700) if 0 <= n % 360 - 179 <= 21 and n % 360 - 180 <= 20 and n % 100 < 10
    }
    assert api.searches[0]["filter"] == "eo:cloud_cover < 10"
    assert api.searches[0]["bbox"] == [0, 0, 20, 1]
    # What nothing fits is no error.
    assert len(opened.filter(query="eo:cloud_cover > 1000")) == 0
    del api.searches[1]
    assert len(opened) == 700
    # 250 items a page.
    assert [int(wish.get("token", 0)) for wish in api.searches[1:]] == [0, 250, 500]
    assert opened.items[0].datetime >= opened.items[-1].datetime
    assert (opened.title, opened.note) == ("Scenes", "")
    before = len(api.searches)
    index.forget()
    assert len(collections.open(api.address)) == 700
    assert len(api.searches) == before
    opened.refresh()
    assert len(api.searches) == before + 3


def test_box_across_the_antimeridian_is_asked_in_two(api):
    found = collections.open(f"stac+{api.address}", bbox=(178.5, 0, 181.5, 1))
    assert {item.bbox[0] for item in found} == {178, 179, -180, -179}
    assert [wish["bbox"] for wish in api.searches] == [[178.5, 0.0, 180.0, 1.0], [-180.0, 0.0, -178.5, 1.0]]


def test_more_items_than_are_taken_are_told(api, monkeypatch):
    monkeypatch.setattr(stac_api, "MOST", 300)
    opened = collections.open(api.address)
    with pytest.warns(UserWarning, match="700 items that fit, and only 300"):
        assert len(opened) == 300
    assert "only 300" in opened.note
    assert "only 300" in opened._repr_html_()
    # The third page was not asked for.
    assert len(api.searches) == 2


def test_server_that_cannot_search_lists():
    server = StacServer([scene(f"s{n}", [n, 0, n + 1, 1], n) for n in range(25)], conforms=CONFORMS[:3])
    with served(server.app) as address:
        opened = collections.open(f"{address}/stac/collections/scenes", query="eo:cloud_cover >= 20")
        assert len(opened) == 5
    assert server.searches == []


def test_busy_server_is_asked_again(api):
    api.trouble = [429, 503]
    opened = collections.open(api.address)
    api.trouble = [503, 429]
    assert len(opened) == 700


def test_errors_of_a_stac_server_are_told(api, monkeypatch):
    root = api.address.rsplit("/collections", 1)[0]
    with pytest.raises(InputError, match="open one of its collections"):
        collections.open(root)
    with pytest.raises(NotFoundError, match="there is no such file or collection"):
        collections.open(f"{root}/collections/none")
    api.trouble = [503] * 20
    with pytest.raises(UnavailableError, match="out of order"):
        collections.open(api.address)
    api.trouble = []
    opened = collections.open(api.address)
    monkeypatch.setattr(stac_api, "_TRIES", 1)
    api.trouble = [429] * 20
    with pytest.raises(UnavailableError) as caught:
        len(opened)
    assert "\n" not in str(caught.value)
    api.trouble = []
    assert len(opened) == 700


def test_server_that_is_gone():
    with served(StacServer([]).app) as address:
        pass
    with pytest.raises(UnavailableError, match="does not answer"):
        collections.open(f"{address}/stac/collections/scenes")
    with pytest.raises(UnavailableError):
        collections.open(f"{address}/files/")


def test_last_answer_holds_while_a_server_is_gone(api, monkeypatch):
    assert len(collections.open(api.address)) == 700
    monkeypatch.setattr(addresses, "FRESH_S", 0.0)
    api.trouble = [503] * 50
    monkeypatch.setattr(stac_api, "_TRIES", 1)
    assert len(collections.open(api.address)) == 700
