from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

import cupola
from cupola.exceptions import InputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ramp(tmp_path: Path) -> cupola.Collection:
    """A degree of the equator whose values are hundredths of a degree of longitude."""
    path = tmp_path / "ramp.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100, height=100, count=1, dtype="float32", crs="EPSG:4326",
        transform=from_origin(0, 1, 0.01, 0.01),
    ) as file:  # fmt: skip
        file.write(np.tile(np.arange(100, dtype="float32"), (100, 1)), 1)
    return cupola.open(path)


@pytest.fixture
def shown(ramp: cupola.Collection) -> Iterator[cupola.Map]:
    made = cupola.Map().add(ramp["b1"], name="one").add(ramp["b1"] * 2, name="two")
    yield made
    made.close()


def query(layer: cupola.lab.maps.ChainLayer) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(layer.url).query).items()}


def test_a_place_is_probed_in_all_visible_layers(shown: cupola.Map) -> None:
    found = shown.probe(0.255, 0.5)
    assert {name: probe.values for name, probe in found.items()} == {"one": [25.0], "two": [50.0]}
    assert len(found["one"].items) == 1
    shown.chain_layers[0].visible = False
    assert set(shown.probe(0.255, 0.5)) == {"two"}
    assert shown.probe(40, 40)["two"].values is None


def test_an_area_is_given_in_many_ways_or_drawn(shown: cupola.Map) -> None:
    box = shapely.box(0.2, 0.2, 0.4, 0.6)
    for geometry in (
        box,
        shapely.geometry.mapping(box),
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(box)},
    ):
        (band,) = shown.area(geometry)["one"].bands
        assert band.mean == pytest.approx(29.5, abs=0.6)
        assert band.count == pytest.approx(800, rel=0.1)
    # The map shows what was asked for, and is asked again without words.
    assert shown.drawn is not None
    assert shapely.geometry.shape(shown.drawn).equals(box)
    assert shown.area()["two"].bands[0].mean == pytest.approx(59, abs=1.2)


@pytest.mark.parametrize(
    "geometry", [3, {"type": "Point", "coordinates": [0, 0]}, {"type": "FeatureCollection"}, "x"]
)
def test_what_is_no_area_is_told(shown: cupola.Map, geometry) -> None:
    with pytest.raises(InputError, match="An area is a polygon"):
        shown.area(geometry)


def test_without_an_area_the_way_out_is_told(shown: cupola.Map) -> None:
    with pytest.raises(InputError, match="Draw an area on the map first"):
        shown.area()


def test_what_is_found_in_the_browser_is_told_to_python(shown: cupola.Map) -> None:
    seen = []
    shown.on_probe(seen.append)
    shown.on_area(seen.append)
    shown._controls.set_state({"probed": {"longitude": 1, "latitude": 2, "layers": []}})
    shown._controls.set_state({"measured": {"geometry": {}, "layers": []}})
    assert [set(told) for told in seen] == [{"longitude", "latitude", "layers"}, {"geometry", "layers"}]


def test_colours_are_stretched_to_what_is_in_view(shown: cupola.Map) -> None:
    # The western half of the image, as a browser tells it: pixels of the whole world at level 10.
    step = 156543.033928041 / 2**10
    edge = 20037508.342789244
    width = 0.5 * 111319.49
    shown.zoom = 10
    shown.set_trait(
        "pixel_bounds", (((edge) / step, (edge - 111000) / step), ((edge + width) / step, edge / step))
    )
    low, high = shown.stretch("one")
    assert (low[0], high[0]) == (pytest.approx(1, abs=1), pytest.approx(49, abs=1))
    layer = shown.chain_layers[0]
    assert float(query(layer)["vmin"]) == low[0]
    assert shown._controls.layers[1]["style"]["vmax"] == [high[0]]
    shown.set_trait("pixel_bounds", ((0, 0), (10, 10)))
    with pytest.raises(InputError, match="Nothing of one is in view"):
        shown.stretch("one")


def test_a_map_that_no_browser_shows_is_stretched_to_where_it_looks(shown: cupola.Map) -> None:
    low, high = shown.stretch()
    assert (low[0], high[0]) == (pytest.approx(4, abs=3), pytest.approx(194, abs=3))


def test_a_style_chosen_in_the_browser_is_kept(shown: cupola.Map) -> None:
    layer = shown.chain_layers[1]
    layer.set_state({"url": layer.url.replace("cmap=viridis", "cmap=magma&vmin=1&vmax=9&exact=1")})
    assert (layer.style.cmap, layer.style.vmin, layer.style.vmax, layer.exact) == (
        "magma",
        (1.0,),
        (9.0,),
        True,
    )
    assert shown._controls.layers[0]["style"]["cmap"] == "magma"
    shown.refresh()
    assert query(layer) | {"v": ""} == {"cmap": "magma", "vmin": "1", "vmax": "9", "exact": "1", "v": ""}
    # An address that makes no sense changes nothing.
    before = layer.style
    layer.set_state({"url": layer.url.replace("magma", "no-such")})
    assert layer.style == before


def test_layers_are_arranged(shown: cupola.Map) -> None:
    shown.arrange("one")
    assert [layer.name for layer in shown.chain_layers] == ["two", "one"]
    assert [told["name"] for told in shown._controls.layers] == ["one", "two"]
    # The browser's order counts as well.
    shown._controls.set_state({"order": list(reversed(shown._controls.order))})
    assert [layer.name for layer in shown.chain_layers] == ["one", "two"]
    with pytest.raises(NotFoundError, match="one, two"):
        shown.arrange("three")


def test_two_layers_are_swiped(shown: cupola.Map, ramp: cupola.Collection) -> None:
    shown.swipe("one", "two", at=0.3)
    models = {layer.name: layer.model_id for layer in shown.chain_layers}
    assert (shown._controls.swipe, shown._controls.swipe_at) == ([models["one"], models["two"]], 0.3)
    # A layer that is replaced stays on its side.
    shown.add(ramp["b1"] * 3, name="two")
    assert shown._controls.swipe[1] == shown.chain_layers[1].model_id != models["two"]
    shown.swipe()
    assert shown._controls.swipe == ["", ""]
    for wrong, sentence in ((("one",), "both sides"), (("one", "one"), "same layer")):
        with pytest.raises(InputError, match=sentence):
            shown.swipe(*wrong)
    with pytest.raises(InputError, match="from 0"):
        shown.swipe("one", "two", at=2)


def test_how_a_layer_is_computed_is_part_of_what_the_browser_knows(
    shown: cupola.Map, ramp: cupola.Collection
) -> None:
    shown.add(
        ramp["b1"].at(5000).map(lambda band: band, halo=1), name="pinned", exact=True, way="view", scale="log"
    )
    layer, told = shown.chain_layers[-1], shown._controls.layers[0]
    assert (told["pinned"], told["way"], told["style"]["exact"]) == (5000, "view", True)
    assert (query(layer)["exact"], query(layer)["scale"]) == ("1", "log")
    with pytest.raises(InputError, match="way is one of auto, tiles, view"):
        shown.add(ramp["b1"], way="fast")


def test_the_graticule_is_switched(shown: cupola.Map) -> None:
    assert not shown.graticule
    shown.graticule = True
    assert shown._controls.graticule
