"""Explorers over the sample archive, used as their controls use them. The browser tests show them."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

import cupola
from cupola.exceptions import InputError
from cupola.lab.explorers import airquality, sentinel2
from cupola.lab.explorers.footprints import footprints
from cupola.lab.explorers.planets import missions
from cupola.lab.explorers.sky import find_sources


@pytest.fixture(autouse=True)
def session(archive, tmp_path, monkeypatch):
    mount = {"volume": "sample-archive", "source": str(archive), "target": str(archive), "access": "read"}
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def opened():
    """Return a function that makes an explorer, which is closed at the end."""
    made = []

    def make(kind, *args, **options):
        made.append(getattr(cupola.explorers, kind)(*args, **options))
        return made[-1]

    yield make
    for one in made:
        if one.map is not None:
            one.map.close()
        one.close()


def layers(explorer):
    return {layer.name for layer in (*explorer.map.chain_layers, *explorer.map.vector_layers)}


def test_all_collections_are_listed_and_filtered(opened):
    explorer = opened("CollectionExplorer")
    assert set(explorer.names.options) == {
        "sentinel-2-l2a", "coast-dem", "mars-crater", "moon-south-pole", "sentinel-5p", "sky-mosaic"
    }  # fmt: skip
    explorer.words.value = "craters mars"
    assert explorer.names.options == ("mars-crater",)
    assert explorer.map.body.name == "Mars"
    assert "mars-crater" in explorer.details.value
    explorer.words.value = "nothing of that kind"
    assert explorer.names.options == ()
    assert "take a word away" in explorer.said


def test_a_collection_is_narrowed_by_time_and_properties(opened):
    explorer = opened("CollectionExplorer")
    explorer.names.value = "sentinel-2-l2a"
    assert len(explorer.collection) == 6
    explorer.span.value = "2026-08"
    assert len(explorer.collection) == 3
    explorer.condition.value = "eo:cloud_cover < 0"
    assert len(explorer.collection) == 0
    assert explorer.code == "cupola.open('sentinel-2-l2a', datetime='2026-08', query='eo:cloud_cover < 0')"
    names = {"cupola": cupola}
    assert len(eval(explorer.code, names)) == 0  # noqa: S307 - the line it shows is to be true
    explorer.condition.value = "eo:cloud_cover <"
    assert "role='alert'" in explorer.said


def test_images_of_the_sky_are_shown_on_the_sky(opened):
    explorer = opened("CollectionExplorer")
    explorer.names.value = "sky-mosaic"
    assert isinstance(explorer.map, cupola.SkyMap)
    assert [layer["name"] for layer in explorer.map.layers] == ["Images"]
    explorer.names.value = "coast-dem"
    assert explorer.map.body.name == "Earth"


def test_pictures_indices_and_composites_of_sentinel_2(opened):
    explorer = opened("Sentinel2Explorer")
    assert [layer.name for layer in explorer.map.chain_layers] == ["Sentinel-2"]
    first = explorer.chain.hash
    explorer.what.value = "NDVI"
    assert explorer.chain.hash != first
    explorer.composite.value = "median"
    assert explorer.chain.reduced
    assert explorer.name.value == "ndvi"
    explorer.days.value = "2026-08-16"
    assert len(explorer.chosen) == 3
    (layer,) = explorer.map.chain_layers
    assert layer.chain.hash == explorer.chain.hash
    assert "vegetation" in explorer.said


def test_the_index_is_that_of_the_bands(archive):
    scenes = cupola.open(archive / "sentinel-2-l2a")
    item = scenes.items[0].id
    ndvi = sentinel2.index(scenes, "NDVI", clouds=True).compute(item).values
    red, nir = (scenes[band].compute(item).values for band in ("red", "nir"))
    good = np.isfinite(ndvi)
    assert good.any()
    assert np.allclose(ndvi[good], ((nir - red) / (nir + red))[good], atol=1e-6)
    clear = sentinel2.index(scenes, "NDVI").compute(item).values
    assert np.isfinite(clear).sum() < good.sum()
    with pytest.raises(InputError, match="There is no index 'NDXX'"):
        sentinel2.index(scenes, "NDXX")


def test_a_click_plots_a_places_values_through_time(opened):
    explorer = opened("Sentinel2Explorer")
    explorer.what.value = "NDVI"
    explorer.clouds.value = True
    west, south, east, north = explorer.collection.bbox
    explorer.clicked({"longitude": (west + east) / 2, "latitude": (south + north) / 2, "layers": []})
    (trace,) = explorer.series.data
    assert len(trace.x) >= 2
    assert list(trace.x) == sorted(trace.x)
    assert any(value is not None for value in trace.y)


def test_terrain_is_shaded_profiled_and_looked_over(opened):
    explorer = opened("TerrainExplorer")
    for what in ("Height", "Hillshade", "Slope", "Aspect", "Contours"):
        explorer.what.value = what
        (layer,) = explorer.map.chain_layers
        assert layer.chain.hash == explorer.chain.hash
    west, south, east, north = explorer.collection.bbox
    middle, latitude = (west + east) / 2, (south + north) / 2
    explorer.clicks.value = "profile"
    explorer.click(middle, latitude)
    assert "click where it shall end" in explorer.said
    explorer.click(middle + 0.02, latitude)
    (trace,) = explorer.plot.data
    assert np.nanmax(trace.y) > 0
    assert trace.x[-1] == pytest.approx(111.2 * 0.02 * np.cos(np.radians(latitude)), rel=0.02)
    assert "Profile" in layers(explorer)
    explorer.clicks.value = "view from here"
    explorer.reach.value = 0.6
    explorer.click(middle, latitude)
    assert "% of the ground within 0.6 km is seen" in explorer.said
    assert "Seen from here" in layers(explorer)


def test_an_explorer_begins_without_plotly():
    # It takes longer to load than all else; a kernel of its own, as other tests have loaded it already.
    lines = """
import sys
from cupola.lab.explorers import AirQualityStudy
AirQualityStudy()
print("plotly" in sys.modules, "scipy" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def test_a_fault_of_an_explorer_is_told_and_raised(opened):
    explorer = opened("TerrainExplorer")
    with pytest.raises(ZeroDivisionError):
        explorer.guarded(lambda: 1 / 0)()
    assert "a fault of the explorer" in explorer.said


def test_terrain_of_another_body(opened):
    explorer = opened("TerrainExplorer", "mars-crater")
    assert explorer.map.body.name == "Mars"


def test_what_is_wrong_is_said_below_the_map(opened):
    explorer = opened("TerrainExplorer")
    explorer.clicks.value = "view from here"
    explorer.guarded(lambda: explorer.click(100.0, 0.0))()
    assert "role='alert'" in explorer.said


def test_planets_missions_and_names(opened):
    explorer = opened("PlanetExplorer", "Moon")
    assert explorer.body.options[:3] == ("Mars", "Moon", "Mercury")
    assert explorer.projection.value == "spolar"
    assert explorer.map.body.name == "Moon"
    assert {"Images", "Outlines", "Names"} <= layers(explorer)
    explorer.body.value = "Venus"
    assert "no images of Venus" in explorer.said
    assert layers(explorer) == {"Names"}
    explorer.body.value = "Mars"
    assert explorer.map.body.name == "Mars"
    assert explorer.mission.options == ("all", "made-up")
    explorer.feature.value = "Olympus Mons"
    assert explorer.map.center[0] == pytest.approx(18.65, abs=0.5)
    explorer.feature.value = "Olimpus Monz"
    assert "role='alert'" in explorer.said
    assert "Olympus Mons" in explorer.feature.options
    explorer.names.value = False
    assert next(one.count for one in explorer.map.vector_layers if one.name == "Names") == 0
    assert missions(explorer.collection).keys() == {"made-up"}


def test_sources_are_found_where_they_are_bright(archive, opened):
    frames = cupola.open(archive / "sky-mosaic")
    item = frames.items[0].id
    chain = frames[frames.bands[0]]
    sources = find_sources(chain, item, sigma=8)
    values = chain.compute(item).values[0]
    # Galaxies are no crowds of stars.
    assert 5 < len(sources) < 300
    assert list(sources["value"]) == sorted(sources["value"], reverse=True)
    for row, column in sources["row", "column"][:9]:
        around = values[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        assert values[row, column] > 1.2 * np.nanmedian(around)
    explorer = opened("SkyExplorer")
    explorer.frame.value = item
    explorer.find()
    assert len(explorer.sources) == len(sources)
    assert sum(explorer.plot.data[0].y) == len(sources)
    explorer.sigma.value = 100
    explorer.scale.value = "sqrt"
    assert explorer.chain.hash


def test_regions_changed_between_two_periods(opened):
    explorer = opened("AirQualityStudy")
    assert {"Nitrogen dioxide", "Regions"} <= layers(explorer)
    explorer.measure()
    seen = explorer.table.dropna()
    assert len(seen) >= 3
    # The archive was made with two thirds of the traffic in the second year.
    assert seen["change"].median() < -5
    assert "Novapoli" in explorer.result.value
    assert len(explorer.plot.data) == 2
    explorer.what.value = "first"
    assert explorer.chain.hash == explorer.study.before.hash
    explorer.first.value = "1999"
    assert "has no swath in 1999" in explorer.said


def test_regions_around_places_are_squares_on_the_ground():
    regions = airquality.regions_around({"here": (10.0, 60.0)}, 40)
    west, south, east, north = regions.total_bounds
    assert (north - south) * 111.2 == pytest.approx(80)
    assert (east - west) * 111.2 * 0.5 == pytest.approx(80)


def test_outlines_across_the_antimeridian_come_in_two_parts(archive):
    items = list(cupola.open(archive / "mars-crater"))
    assert len(footprints(items)["features"]) == 2
    # A copy: the collection's own items are those of all who open it.
    items[0] = copy.copy(items[0])
    items[0].__dict__["bbox"] = (170.0, -5.0, -170.0, 5.0)
    parts = footprints(items)["features"][0]["geometry"]["coordinates"]
    assert [part[0][0][0] for part in parts] == [170.0, -180.0]
