from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import ipyleaflet
import numpy as np
import pytest

import cupola
from cupola.exceptions import BodyError, InputError, NotFoundError
from cupola.lab.chains import store
from cupola.lab.chains.products.files import write_collection
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.maps.layers import base_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOON = "+proj=eqc +lat_ts=0 +lon_0=0 +R=1737400 +units=m +no_defs"


@pytest.fixture
def shown() -> Iterator[cupola.Map]:
    made = cupola.Map()
    yield made
    made.close()


def query(layer: ipyleaflet.TileLayer) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(layer.url).query).items()}


def test_a_map_asks_no_other_site_for_anything(shown: cupola.Map) -> None:
    assert shown.layers == ()
    assert not isinstance(shown.attribution_control_instance, ipyleaflet.AttributionControl)


def test_a_chain_is_saved_and_its_tiles_are_asked_for_from_this_session(write, shown, monkeypatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/lab-1/")
    chain = cupola.open(write("a.tif"))["b1"] * 2
    shown.add(chain, cmap="RdYlGn", vmin=-1, vmax=1.5)
    (layer,) = shown.chain_layers
    assert store.load(chain.hash).hash == chain.hash
    assert layer.url.startswith(
        f"/user/ada/lab-1/cupola/tiles/{chain.hash}/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png?"
    )
    assert query(layer) | {"v": ""} == {"cmap": "RdYlGn", "vmin": "-1", "vmax": "1.5", "v": ""}


@pytest.mark.parametrize(
    ("hub", "server", "base"),
    [("/user/a/b/", "/x/", "/user/a/b/"), ("", "/x/", "/x/"), ("", "", "/"), ("user/a", "", "/user/a/")],
)
def test_where_the_server_answers(monkeypatch, hub: str, server: str, base: str) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", hub)
    monkeypatch.setenv("CUPOLA_BASE_URL", server)
    assert base_url() == base


def test_limits_are_left_to_the_server_where_nothing_is_said(write, shown) -> None:
    shown.add(cupola.open(write("a.tif"))["b1"])
    assert set(query(shown.chain_layers[0])) == {"cmap", "v"}


def test_the_first_layer_decides_body_and_view(write, shown) -> None:
    shown.add(cupola.open(write("moon.tif", crs=MOON, left=300_000, top=300_000)))
    assert shown.body.name == "Moon"
    assert shown.crs["name"] == "Moon2015eqc"
    assert shown.center == pytest.approx([8.84, 10.95], abs=0.02)
    assert "/Moon2015eqc/" in shown.chain_layers[0].url
    view = shown.center, shown.zoom
    shown.add(cupola.open(write("other.tif", crs=MOON, left=0, top=0)))
    assert (shown.center, shown.zoom) == view
    with pytest.raises(BodyError, match=r"map shows Moon, .*earth.* shows Earth.*cupola\.Map\(\)"):
        shown.add(cupola.open(write("earth.tif")))
    assert len(shown.chain_layers) == 2


def test_a_body_can_be_chosen_and_a_basemap_is_of_the_earth() -> None:
    mars = cupola.Map(body="mars", projection="npolar")
    assert mars.crs["name"] == "Mars2015npolar"
    mars.close()
    with pytest.raises(BodyError, match="basemap shows the Earth"):
        cupola.Map(body="Mars", basemap="osm")
    with pytest.raises(InputError, match="no basemap 'esri'"):
        cupola.Map(basemap="esri")
    with pytest.raises(NotFoundError, match="Mars"):
        cupola.Map(body="Marz")
    with pytest.raises(InputError, match="projection"):
        cupola.Map(projection="lambert")
    streets = cupola.Map(basemap="osm")
    # The browser asks that site, and only where it can be reached.
    assert (streets.layers, streets._controls.base) == ((), "osm")
    streets.close()


def test_an_image_without_a_place_is_shown_by_columns_and_rows(write, shown) -> None:
    write("raw/one.tif", crs=None)
    write("raw/two.tif", crs=None, value=2)
    shown.add(cupola.open(write("raw/two.tif", crs=None).parent), name="raw")
    (layer,) = shown.chain_layers
    assert shown.crs == {"name": "Simple", "custom": False}
    assert "/ImageSpace/" in layer.url
    assert (layer.zoom_offset, layer.max_native_zoom) == (12, 0)
    assert shown.center == pytest.approx([-32, 32])
    assert len(layer.chain.collection) == 1
    first = layer.url
    other = {"one", "two"} - {layer.chain.collection.items[0].id}
    shown.show_item(other.pop())
    assert layer.url != first
    with pytest.raises(BodyError, match="map shows an image without"):
        shown.add(cupola.open(write("earth.tif")))


def test_an_image_without_a_place_is_refused_on_the_map_of_a_body(write, shown) -> None:
    shown.add(cupola.open(write("earth.tif")))
    with pytest.raises(BodyError, match="no coordinate system"):
        shown.add(cupola.open(write("raw.tif", crs=None)))


def test_images_of_the_sky_are_sent_to_their_own_map(shown, tmp_path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    header = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0, "CRPIX1": 8, "CRPIX2": 8,
         "CDELT1": -0.01, "CDELT2": 0.01}
    )  # fmt: skip
    fits.PrimaryHDU(np.ones((16, 16), dtype="float32"), header).writeto(tmp_path / "sky.fits")
    with pytest.raises(BodyError, match=r"lie on the sky; show them with cupola\.SkyMap\(\)"):
        shown.add(cupola.open(tmp_path / "sky.fits"))


def test_images_around_a_pole_get_a_polar_map(write, shown) -> None:
    polar = "+proj=stere +lat_0=-90 +lon_0=0 +R=1737400 +units=m +no_defs"
    shown.add(cupola.open(write("pole.tif", crs=polar, left=-32_000, top=32_000)))
    assert shown.crs["name"] == "Moon2015spolar"
    assert shown.center[0] == pytest.approx(-90, abs=0.1)
    # What was asked for counts more.
    flat = cupola.Map(projection="eqc").add(
        cupola.open(write("pole.tif", crs=polar, left=-32_000, top=32_000))
    )
    assert flat.crs["name"] == "Moon2015eqc"
    flat.close()


def test_a_cell_that_is_run_again_replaces_its_layer(write, shown) -> None:
    image = cupola.open(write("a.tif"))

    def work(band):
        return band

    shown.add(image["b1"].map(work))
    first = shown.chain_layers[0].hash

    def work(band):
        return band + 1

    shown.add(image["b1"].map(work))
    (layer,) = shown.chain_layers
    assert layer.hash != first
    shown.add(image["b1"], name="one").add(image["b1"] * 2, name="one")
    assert [layer.name for layer in shown.chain_layers] == ["work(b1)", "one"]


def test_different_lambdas_are_different_layers(write, shown) -> None:
    image = cupola.open(write("a.tif"))
    shown.add(image["b1"].map(lambda band: band)).add(image["b1"].map(lambda band: -band))
    names = [layer.name for layer in shown.chain_layers]
    assert len(set(names)) == 2


def test_layers_are_taken_away_by_name_or_chain(write, shown) -> None:
    image = cupola.open(write("a.tif"))
    shown.add(image["b1"], name="one").add(image["b1"] * 2, name="two")
    shown.remove("one").remove(image["b1"] * 2)
    assert shown.chain_layers == []
    with pytest.raises(NotFoundError, match="none"):
        shown.remove("one")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cmap": "virdis"}, "viridis"),
        ({"vmin": 2, "vmax": 1}, "not below"),
        ({"vmin": "low"}, "vmin is a number"),
        ({"vmax": float("nan")}, "finite"),
        ({"opacity": 3}, "opacity"),
    ],
)
def test_a_wrong_style_is_refused_in_a_sentence(write, shown, options, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shown.add(cupola.open(write("a.tif")), **options)
    assert shown.layers == ()


def test_a_filter_that_leaves_nothing_is_told(write, shown) -> None:
    nothing = cupola.open(write("a.tif")).filter(bbox=(-120, -40, -119, -39))
    with pytest.raises(InputError, match="none of its 1 fits"):
        shown.add(nothing)


def test_what_is_no_image_is_refused(shown) -> None:
    with pytest.raises(InputError, match=r"not ndarray; open files with cupola\.open"):
        shown.add(np.zeros((3, 3)))


def test_layers_and_controls_of_ipyleaflet_can_be_added(shown) -> None:
    shown.add(ipyleaflet.Marker(location=(0, 0))).add(ipyleaflet.FullScreenControl())
    assert len(shown.layers) == 1
    assert shown.chain_layers == []


def test_the_legend_tells_what_the_browser_needs(write, shown) -> None:
    chain = cupola.open(write("a.tif"))["b1"].map(lambda band: band, halo=2)
    shown.add(chain, vmin=0, vmax=9, name="smooth", unit="m")
    (told,) = shown._controls.layers
    assert told["name"] == "smooth"
    assert (told["style"]["vmin"], told["style"]["vmax"]) == ([0.0], [9.0])
    assert (told["unit"], told["halo"], told["pinned"]) == ("m", 2, None)
    assert told["resolution"] == pytest.approx(1000, rel=0.01)
    assert told["model"] == shown.chain_layers[0].model_id


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_products_appear_as_they_are_written(write, shown, tmp_path) -> None:
    write("scenes/one.tif", crs=MOON)
    write("scenes/two.tif", crs=MOON, left=64_000)
    chain = cupola.open(tmp_path / "scenes")["b1"] * 2
    folder = tmp_path / "products"
    folder.mkdir()
    write_collection(folder, title="twice", chain=chain)
    products = cupola.open(folder)
    shown.add(products, name="products")
    assert shown.body.name == "Earth"
    before = shown.chain_layers[0].url
    write_product(chain, chain.collection.item("one"), folder)
    # The first product tells which body it is.
    until(lambda: "/Moon2015eqc/" in shown.chain_layers[0].url and shown.chain_layers[0].url != before)
    assert shown.body.name == "Moon"
    until(lambda: shown.zoom > 3)
    before = shown.chain_layers[0].url
    write_product(chain, chain.collection.item("two"), folder)
    until(lambda: shown.chain_layers[0].url != before and len(products) == 2)


def test_a_hidden_file_changes_nothing_and_a_closed_map_looks_no_more(write, tmp_path) -> None:
    write("scenes/one.tif")
    shown = cupola.Map().add(cupola.open(tmp_path / "scenes"))
    url = shown.chain_layers[0].url
    (tmp_path / "scenes" / ".part").touch()
    shown.refresh()
    assert shown.chain_layers[0].url == url
    thread = shown._watcher._thread
    assert thread is not None
    shown.close()
    thread.join(30)
    assert not thread.is_alive()


def test_a_scene_that_is_written_anew_is_drawn_anew(write, shown) -> None:
    path = write("scenes/one.tif")
    shown.add(cupola.open(path.parent))
    before = query(shown.chain_layers[0])["v"]
    write("scenes/one.tif", value=7)
    shown.refresh()
    assert query(shown.chain_layers[0])["v"] != before


def test_a_ready_made_picture_is_not_stretched(shown, tmp_path, write) -> None:
    import json

    write("scene/tci.tif", bands=3, dtype="uint8", value=90)
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "scene", "geometry": None, "links": [],
        "bbox": [0, 0, 0.57, 0.57], "properties": {"datetime": "2020-02-19T11:00:00Z"},
        "assets": {"visual": {"href": "tci.tif", "type": "image/tiff; application=geotiff", "roles": ["visual", "data"]}},
    }  # fmt: skip
    (tmp_path / "scene" / "item.json").write_text(json.dumps(item))
    shown.add(cupola.open(tmp_path / "scene"))
    assert query(shown.chain_layers[0])["vmin"] == "0"
    assert query(shown.chain_layers[0])["vmax"] == "255"


def test_a_picture_of_three_bands_is_shown_in_colours(write, shown) -> None:
    shown.add(cupola.open(write("rgb.tif", bands=3, dtype="uint8"))).add(
        cupola.open(write("three.tif", bands=3))
    )
    assert [layer.chain.bands for layer in shown.chain_layers] == [("b1", "b2", "b3"), ("b1",)]
