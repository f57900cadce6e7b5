"""The map of the sky as the kernel has it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

import cupola
from cupola.exceptions import InputError, NotFoundError
from cupola.lab.sky.looks import Look

from .conftest import header_of, write_image

HOWTO = Path(__file__).parents[4] / "docs" / "howto" / "sky.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def sky():
    made = cupola.SkyMap()
    yield made
    made.close()


@pytest.fixture
def stars(tmp_path):
    write_image(tmp_path / "stars.fits", "TAN")
    return cupola.open(str(tmp_path / "stars.fits"))


def test_layers_are_added_replaced_ordered_and_removed(sky, stars):
    band = stars[stars.bands[0]]
    sky.add(stars, name="one").add(band * 2, name="two", cmap="magma", scale="asinh", opacity=0.5, unit="DN")
    assert [layer["name"] for layer in sky.layers] == ["one", "two"]
    first, second = sky.layers
    assert (second["cmap"], second["scale"], second["opacity"], second["unit"]) == (
        "magma",
        "asinh",
        0.5,
        "DN",
    )
    assert first["hash"] != second["hash"]
    # A cell that is run again puts its layer where the old one is.
    sky.add(band * 3, name="one", vmin=0, vmax=9)
    assert [layer["name"] for layer in sky.layers] == ["one", "two"]
    assert sky.layers[0]["id"] == first["id"]
    assert sky.layers[0]["vmax"] == [9.0]
    sky.order("two")
    assert [layer["name"] for layer in sky.layers] == ["two", "one"]
    sky.remove("two")
    assert [layer["name"] for layer in sky.layers] == ["one"]
    with pytest.raises(NotFoundError, match="it has: one"):
        sky.remove("two")
    with pytest.raises(NotFoundError, match="it has: one"):
        sky.order("three")


def test_exact_previews_are_chosen_in_python_and_in_the_browser(sky, stars):
    band = stars[stars.bands[0]]
    sky.add(band.map(lambda values: values, halo=2).at(5), name="one", exact=True)
    (layer,) = sky.layers
    assert (layer["exact"], layer["halo"], layer["pinned"]) == (True, 2, 5)
    sky.layers = [{**layer, "exact": False}]
    sky.add(band, name="two")
    assert [one["exact"] for one in sky.layers] == [False, False]


def test_paths_are_images_or_tables(sky, stars, tmp_path):
    Table({"ra": [150.1], "dec": [2.2]}).write(tmp_path / "sources.csv")
    sky.add(str(tmp_path / "stars.fits")).add(tmp_path / "sources.csv").add(
        Table({"ra": [1.0], "dec": [2.0]})
    )
    assert len(sky.layers) == 1
    assert [entry["name"] for entry in sky.catalogues] == ["sources", "catalogue 2"]
    sky.add(Table({"ra": [1.0, 2.0], "dec": [2.0, 3.0]}), name="sources", colour="#ffffff")
    assert sorted(entry["name"] for entry in sky.catalogues) == ["catalogue 2", "sources"]
    sky.remove("sources")
    assert [entry["name"] for entry in sky.catalogues] == ["catalogue 2"]
    with pytest.raises(InputError, match="no option 'shape'"):
        sky.add(stars, shape="square")


def test_what_the_browser_chose_counts(sky, stars):
    band = stars[stars.bands[0]]
    sky.add(stars, name="one").add(band * 2, name="two")
    one, two = sky.layers
    sky.set_state({"layers": [two, {**one, "cmap": "viridis", "visible": False, "opacity": 0.25}]})
    assert [layer.name for layer in sky._layers] == ["two", "one"]
    changed = sky._layers[1]
    assert (changed.style.cmap, changed.visible, changed.opacity) == ("viridis", False, 0.25)
    # And it stays when something is added.
    sky.add(band * 3, name="three")
    assert [layer["name"] for layer in sky.layers] == ["two", "one", "three"]
    assert sky.layers[1]["visible"] is False


def test_selected_rows_and_clicked_places_come_back(sky):
    table = Table({"name": ["a", "b", "c"], "ra": [1.0, 2.0, 3.0], "dec": [0.0, 0.0, 0.0]})
    sky.add(table, name="sources")
    seen = []
    sky.on_select(lambda tables: seen.append(tables["sources"]["name"].tolist()))
    sky.on_click(lambda ra, dec: seen.append((ra, dec)))
    sky.set_state({"selection_rows": {sky.catalogues[0]["id"]: [0, 2]}})
    sky.set_state({"clicked": [10.5, -3.0]})
    assert seen == [["a", "c"], (10.5, -3.0)]
    assert sky.selected["sources"]["ra"].tolist() == [1.0, 3.0]


def test_places(sky):
    sky.go("Crab Nebula")
    assert sky.center == pytest.approx((83.6331, 22.0145))
    assert sky.fov < 1
    sky.go((-10.0, 5.0), fov=3)
    assert sky.center == (350.0, 5.0)
    assert sky.fov == 3
    sky.go(SkyCoord(0, 90, unit="deg", frame="galactic"))
    assert sky.center == pytest.approx((192.859, 27.128), abs=1e-3)
    for wrong in ((1.0, 91.0), (1.0,), "", None):
        with pytest.raises((InputError, NotFoundError)):
            sky.go(wrong) if wrong != "" else cupola.SkyMap(center=(float("nan"), 0))
    with pytest.raises(InputError, match="no projection"):
        cupola.SkyMap(projection="XYZ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cmap": "nonsense"}, "no colormap"),
        ({"scale": "cubic"}, "no scale"),
        ({"vmin": 3, "vmax": 1}, "not below"),
        ({"vmin": "low"}, "is a number"),
        ({"opacity": 2}, "opacity goes from 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(sky, stars, options, sentence):
    with pytest.raises(InputError, match=sentence):
        sky.add(stars, **options)
    assert sky.layers == []


def test_outlines_follow_the_image(sky, stars, tmp_path):
    wcs = write_image(tmp_path / "turned.fits", "SIP", centre=(0.0, 60.0))
    sky.add_footprints(cupola.open(str(tmp_path / "turned.fits")), name="outline")
    (line,) = sky.footprints[0]["polygons"]
    corners = wcs.pixel_to_world([-0.5, 239.5, 239.5, -0.5], [-0.5, -0.5, 239.5, 239.5])
    drawn = SkyCoord(line, unit="deg")
    for corner in corners:
        assert drawn.separation(corner).arcsec.min() < 0.1
    sky.add_footprints(stars, name="outline")
    assert len(sky.footprints) == 1


def test_new_files_are_seen(sky, tmp_path):
    folder = tmp_path / "exposures"
    folder.mkdir()
    write_image(folder / "a.fits", "TAN")
    collection = cupola.open(str(folder))
    sky.add(collection[collection.bands[0]], name="exposures")
    before = sky.layers[0]["v"]
    write_image(folder / "b.fits", "TAN", centre=(150.2, 2.2))
    sky.refresh()
    assert sky.layers[0]["v"] != before


def test_a_look_survives_its_address():
    look = Look.parse("cmap=viridis&vmin=-1,0,1&vmax=5&scale=log&v=abc")
    assert Look.parse(look.text) == look
    assert Look.parse("-") == Look.parse("")
    assert Look.parse("-").style.cmap == "gray"


def test_the_howto_runs_block_by_block(tmp_path, monkeypatch, capsys):
    header = header_of("SIN", centre=(10.6847, 41.2688), pixel=0.01)
    values = np.random.default_rng(3).integers(0, 255, (3, 240, 240), dtype=np.uint8)
    header["NAXIS"], header["NAXIS3"] = 3, 3
    fits.PrimaryHDU(values, header).writeto(tmp_path / "m31.fits")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall(HOWTO.read_text("utf-8"))
    assert len(blocks) > 5
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"sky.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    said = capsys.readouterr().out
    assert "centre (10.68, 41.27), 2.0 degrees wide" in said
    assert "M 31 at the nucleus" in said
    assert [layer["name"] for layer in names["sky"].layers] == ["M 31", "faint", "difference"]
    names["sky"].close()
