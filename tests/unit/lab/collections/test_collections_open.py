from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from cupola.exceptions import BandError, BodyError, ImageError, InputError, NotFoundError
from cupola.lab import collections
from cupola.lab.collections import index, look


def picture(value=1, size=8, dtype="uint16"):
    return np.full((size, size), value, dtype=dtype)


def test_real_sentinel_item_whose_files_lie_beside_it(data):
    s2 = collections.open(data / "s2")
    assert (s2.id, len(s2), s2.body.name) == ("sentinel-2-l2a", 1, "Earth")
    (item,) = s2
    for name, file in [("B04", "B04"), ("red", "B04"), ("nir", "B08"), ("B11", "B11"), ("scl", "SCL")]:
        (band,) = item.band(name)
        assert band.path == str(data / "s2" / f"{file}.tif")
    assert item.band("red")[0].scale == 0.0001
    assert [band.index for band in item.band("visual")] == [1, 2, 3]
    assert s2.bbox == pytest.approx((-11.979, 24.296, -10.874, 25.305), abs=1e-3)
    assert "29RKH" in s2._repr_html_()
    assert "1 item; Earth" in repr(s2)


def test_real_item_by_the_path_of_its_document(data):
    assert len(collections.open(data / "s2" / "S2A_29RKH_20200219_0_L2A.json")) == 1


def test_real_solar_system_collection_without_files(data):
    europa = collections.open(data / "stac_ssys")
    assert europa.body.name == "Europa"
    assert len(europa) == 1


@pytest.mark.parametrize(
    ("file", "body", "bands"),
    [
        ("isis3/DTM_2Bands_cropped.cub", "Mars", ["b1", "b2"]),
        ("isis3/isis3_detached.lbl", "Mars", ["b1"]),
        ("isis3/K14_059003_3475_MA_00N112W_cropped.cub", None, None),
        ("pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_proj_rdrgen.xml", "Mars", ["b1"]),
        ("pds3/mc02_truncated.img", "Mars", ["b1"]),
        ("pds3/V00821003RDR_cropped.QUB", None, None),
        ("jp2/B07.jp2", None, ["b1"]),
        ("cog/cog_hirise_mars.tif", "Mars", ["b1", "b2", "b3"]),
    ],
)
def test_real_single_files(data, file, body, bands):
    opened = collections.open(data / file)
    assert (opened.body and opened.body.name) == body
    assert bands is None or opened.bands == bands
    assert opened.items[0].band("b1")[0].index == 1
    for name in opened.bands:
        assert len(opened.items[0].band(name)) == 1


def test_folder_of_images_without_stac(tmp_path, write_image):
    write_image(tmp_path / "deep" / "one.tif", picture())
    write_image(tmp_path / "two.tif", np.ones((2, 8, 8), "uint8"))
    (tmp_path / "notes.xml").write_text("<not-an-image/>")
    opened = collections.open(tmp_path)
    assert sorted(item.id for item in opened) == ["one", "two"]
    assert opened.item("two").bands == ["b1", "b2"]
    assert opened.body.name == "Earth"


def test_band_names_come_from_descriptions(tmp_path, write_image):
    import rasterio

    path = write_image(tmp_path / "a.tif", np.ones((2, 8, 8), "uint8"))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("height", "error")
    opened = collections.open(path)
    assert opened.bands == ["height", "error"]
    assert opened.items[0].band("error")[0].index == 2
    assert opened.items[0].band("b2")[0].index == 2


def test_relative_hrefs_and_stac_1_1_bands(tmp_path, write_image, write_item):
    write_image(tmp_path / "pixels" / "all.tif", np.ones((2, 8, 8), "uint16"))
    bands = [{"name": "B1", "eo:common_name": "blue", "raster:scale": 0.5, "nodata": 0}, {"name": "B2"}]
    asset = {"href": "../pixels/all.tif", "type": "image/tiff", "roles": ["data"], "bands": bands}
    write_item(tmp_path / "items" / "x.json", assets={"all": asset})
    (item,) = collections.open(tmp_path / "items")
    (blue,) = item.band("blue")
    assert (blue.index, blue.scale, blue.nodata) == (1, 0.5, 0.0)
    assert item.band("B2")[0].index == 2
    assert item.band("all:b2")[0].index == 2
    assert len(item.band("all")) == 2


def test_unknown_band_names_the_item_and_offers_near_names(data):
    s2 = collections.open(data / "s2")
    with pytest.raises(BandError, match=r"item S2A_29RKH.* has no band 'B40'.*B04"):
        s2["B40"]
    with pytest.raises(BandError, match="collection"):
        s2[()]
    cube = collections.open(data / "isis3" / "DTM_2Bands_cropped.cub")
    with pytest.raises(BandError, match=r"DTM_2Bands_cropped\.cub.*2 bands"):
        cube["b3"]


def test_same_name_in_different_files_must_be_told_apart(tmp_path, write_image, write_item):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.tif", picture())
    bands = [{"common_name": "rededge"}]
    assets = {
        key: {"href": f"{key}.tif", "type": "image/tiff", "eo:bands": [{"name": key.upper(), **bands[0]}]}
        for key in ("a", "b")
    }
    write_item(tmp_path / "x.json", assets=assets)
    (item,) = collections.open(tmp_path)
    with pytest.raises(BandError, match=r"more than one band 'rededge'.*a, b"):
        item.band("rededge")
    assert item.band("B")[0].path.endswith("b.tif")


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.tif", b"no image"), ("empty.cub", b""), ("data.img", bytes(100)), ("some.json", b"[1, 2]")],
)
def test_file_that_is_no_image_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name) as caught:
        collections.open(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_data_file_points_to_its_label(data):
    with pytest.raises(ImageError, match=r"open its label oblique_cylindrical\.xml"):
        collections.open(data / "pds4" / "oblique_cylindrical.IMG")


def test_empty_folder_and_missing_path(tmp_path):
    with pytest.raises(NotFoundError, match="holds no images"):
        collections.open(tmp_path)
    with pytest.raises(NotFoundError, match="no volumes to look in"):
        collections.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="name or the path"):
        collections.open("  ")


def test_folder_that_cannot_hold_itself_ends(tmp_path, write_image):
    write_image(tmp_path / "a.tif", picture())
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(collections.open(tmp_path)) == 1


@pytest.fixture
def archive(tmp_path, write_image, write_item, volumes):
    root = tmp_path / "archive"
    for folder, name, title in [("s2", "sentinel-2-l2a", "Sentinel-2 L2A"), ("deep/mars", "mars-ctx", "CTX")]:
        place = root / folder
        write_image(place / "i.tif", picture())
        write_item(
            place / "i.json", collection=name, assets={"data": {"href": "i.tif", "type": "image/tiff"}}
        )
        (place / "collection.json").write_text(
            json.dumps({"type": "Collection", "stac_version": "1.1.0", "id": name, "title": title})
        )
    volumes(sample_archive=root)
    return root


@pytest.mark.parametrize(
    "name", ["sentinel-2-l2a", "s2", "Sentinel-2 L2A", "sample-archive/s2", "SENTINEL-2-L2A"]
)
def test_names_in_the_volumes(archive, name):
    opened = collections.open(name)
    assert opened.id == "sentinel-2-l2a"
    assert opened.source == archive / "s2"


@pytest.mark.usefixtures("archive")
def test_unknown_name_offers_near_names():
    with pytest.raises(NotFoundError, match=r"did you mean.*sentinel-2-l2a"):
        collections.open("sentinel-2-l1c")
    with pytest.raises(NotFoundError):
        collections.open("sample-archive/../../etc")


def test_broken_volumes_variable_is_told(monkeypatch):
    monkeypatch.setenv("CUPOLA_VOLUMES", "{")
    with pytest.raises(InputError, match="CUPOLA_VOLUMES"):
        collections.open("name")


def test_filters(tmp_path, write_item):
    for day, west in [(1, 0), (15, 10), (28, 179)]:
        write_item(
            tmp_path / f"d{day}.json",
            bbox=(west, 0, west + 2 if west < 179 else -179, 1),
            datetime=f"2020-02-{day:02}T12:00:00Z",
        )
    write_item(tmp_path / "no-time.json", bbox=(10, 0, 11, 1), datetime=None)

    def ids(**options):
        return [item.id for item in collections.open(tmp_path, **options)]

    assert ids() == ["d28", "d15", "d1", "no-time"]
    assert ids(datetime="2020-02-10/2020-02") == ["d28", "d15"]
    assert ids(datetime="2020-02-15") == ["d15"]
    assert ids(datetime="../2020-02-01") == ["d1"]
    assert ids(datetime="2020-02-15T12:00:00Z/..") == ["d28", "d15"]
    assert ids(bbox=(9, 0, 12, 1)) == ["d15", "no-time"]
    assert ids(bbox=(-180, 0, -179.5, 1)) == ["d28"]
    assert ids(bbox=(170, 0, -170, 1)) == ["d28"]
    assert ids(bbox=(9, 0, 12, 1), datetime="2020") == ["d15"]
    assert ids(datetime="2021") == []
    assert len(collections.open(tmp_path, bbox=(-180, -90, 180, 90))) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bbox": (1, 2, 3)}, "four numbers"),
        ({"bbox": (0, 10, 1, 0)}, "south below north"),
        ({"bbox": ("a", 0, 1, 1)}, "four numbers"),
        ({"datetime": "last week"}, "no time span"),
        ({"datetime": "2020-03/2020-01"}, "ends before"),
        ({"datetime": "2020-13"}, "no time span"),
    ],
)
def test_wrong_filters_say_how(tmp_path, write_item, options, words):
    write_item(tmp_path / "a.json")
    with pytest.raises(InputError, match=words):
        collections.open(tmp_path, **options)


def test_refresh_sees_new_changed_and_removed_items(tmp_path, write_item):
    write_item(tmp_path / "a.json")
    opened = collections.open(tmp_path)
    write_item(tmp_path / "b.json")
    assert len(opened) == 1
    assert len(opened.refresh()) == 2
    write_item(tmp_path / "b.json", name="changed", bbox=(50, 50, 51, 51))
    os.utime(tmp_path / "b.json", ns=(1, 1))
    assert "changed" in opened.refresh()
    assert [item.id for item in opened.touching((50, 50, 51, 51))] == ["changed"]
    (tmp_path / "b.json").unlink()
    assert len(opened.refresh()) == 1


def test_half_written_item_is_no_item_yet(tmp_path, write_item):
    write_item(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"type": "Feature", "assets": {')
    assert len(collections.open(tmp_path)) == 1


def test_two_bodies_in_one_folder(tmp_path, write_image):
    write_image(tmp_path / "earth.tif", picture())
    write_image(tmp_path / "mars.tif", picture(), crs="IAU_2015:49910")
    with pytest.raises(BodyError, match=r"Earth and Mars|Mars and Earth"):
        _ = collections.open(tmp_path).body


def test_unknown_item_offers_near_ids(tmp_path, write_item):
    write_item(tmp_path / "scene-1.json")
    with pytest.raises(NotFoundError, match="did you mean scene-1"):
        collections.open(tmp_path).item("scene-2")


def test_empty_products_folder_is_a_collection_already(tmp_path):
    (tmp_path / "collection.json").write_text('{"type": "Collection", "id": "p", "title": "P"}')
    products = collections.open(tmp_path)
    assert (len(products), products.bbox, products.body, products.bands) == (0, None, None, [])
    assert products.preview().bands == ("data",)
    assert "0 items" in repr(products)
    assert "P" in products._repr_html_()


def test_many_items_are_parsed_once(tmp_path, write_item, monkeypatch):
    template = json.loads(write_item(tmp_path / "items" / "i.json").read_text())
    for number in range(2000):
        template["id"] = f"i{number}"
        template["bbox"] = [number % 360 - 180, 0, number % 360 - 179.5, 1]
        (tmp_path / "items" / f"i{number}.json").write_text(json.dumps(template))
    opened = collections.open(tmp_path / "items")
    assert len(opened) == 2001
    assert {item.bbox[0] for item in opened.touching((10.1, 0, 10.2, 1))} == {10}
    monkeypatch.setattr(look, "record_of_text", None)
    assert len(opened.refresh()) == 2001
    # Another process finds what this one has parsed.
    index.forget()
    again = collections.open(tmp_path / "items")
    assert [(item.id, item.datetime, item.bbox) for item in again] == [
        (item.id, item.datetime, item.bbox) for item in opened
    ]
    assert again.items[0].properties == opened.items[0].properties


def test_preview_prefers_true_colour(data, tmp_path):
    assert collections.open(data / "s2").preview().bands == ("visual",)
    for name in ("B02.tif", "B03.tif", "B04.tif", "S2A_29RKH_20200219_0_L2A.json"):
        shutil.copy(data / "s2" / name, tmp_path)
    assert collections.open(tmp_path).preview().bands == ("red", "green", "blue")
    assert collections.open(data / "isis3" / "DTM_2Bands_cropped.cub").preview().bands == ("b1",)
