from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pytest
import shapely

import cupola
from cupola.exceptions import InputError, NotFoundError
from cupola.lab import bodies
from cupola.lab.maps import vectors
from cupola.lab.maps.vectors import read_vectors
from cupola.lab.maps.views import View

if TYPE_CHECKING:
    from pathlib import Path

EARTH = View(bodies.EARTH)
MARS = View(bodies.body_named("Mars"))
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]]}


def features(layer: vectors.VectorLayer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(layer.text)["features"]
    return found


@pytest.mark.parametrize(
    "thing",
    [
        SQUARE,
        {"type": "Feature", "properties": None, "geometry": SQUARE},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": SQUARE}]},
        shapely.geometry.shape(SQUARE),
        geopandas.GeoSeries([shapely.geometry.shape(SQUARE)]),
    ],
)
def test_anything_with_shapes_is_drawn(thing: Any) -> None:
    layer = read_vectors(thing, MARS, "one", {"color": "red"})
    (feature,) = features(layer)
    assert shapely.geometry.shape(feature["geometry"]).equals(shapely.geometry.shape(SQUARE))
    assert (layer.count, layer.name, layer.style["color"], layer.word) == (1, "one", "red", "")
    assert layer.bounds == (0, 0, 2, 1)


@pytest.mark.parametrize("ending", ["geojson", "parquet", "gpkg", "shp"])
def test_files_are_read_with_their_properties(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"regions.{ending}"
    frame = geopandas.GeoDataFrame(
        {"size": [3.5]}, geometry=[shapely.geometry.shape(SQUARE)], crs="EPSG:4326"
    )
    frame.to_parquet(path) if ending == "parquet" else frame.to_file(path)
    layer = read_vectors(str(path), EARTH)
    assert layer.name == "regions"
    assert features(layer)[0]["properties"] == {"size": 3.5}


def test_planes_become_degrees_of_the_body() -> None:
    corner = shapely.geometry.Point(500_000, 5_000_000)
    on_earth = geopandas.GeoDataFrame(geometry=[corner], crs="EPSG:32632")
    assert features(read_vectors(on_earth, EARTH))[0]["geometry"]["coordinates"] == pytest.approx(
        [9.0, 45.1536], abs=1e-3
    )
    step = np.pi * 3_396_190 / 180
    plane = "+proj=eqc +R=3396190 +units=m"
    on_mars = geopandas.GeoDataFrame(geometry=[shapely.geometry.Point(10 * step, -20 * step)], crs=plane)
    assert features(read_vectors(on_mars, MARS))[0]["geometry"]["coordinates"] == pytest.approx([10, -20])
    with pytest.raises(InputError, match="lie on Mars, and the map shows Earth"):
        read_vectors(on_mars, EARTH)


def test_100000_shapes_are_limited_with_a_word() -> None:
    rng = np.random.default_rng(1)
    points = shapely.points(rng.uniform(-90, 90, (100_000, 2)))
    layer = read_vectors(geopandas.GeoDataFrame({"n": range(100_000)}, geometry=points), EARTH)
    assert len(features(layer)) == vectors.MOST_FEATURES
    assert layer.count == 100_000
    assert "20,000 of 100,000 shapes are shown" in layer.word


def test_long_outlines_are_simplified_with_a_word() -> None:
    angle = np.linspace(0, 2 * np.pi, 200_000)
    ring = shapely.polygons(np.column_stack([np.cos(angle), np.sin(angle)]))
    frame = geopandas.GeoDataFrame(geometry=[ring, shapely.geometry.Point(0, 0)])
    layer = read_vectors(frame, EARTH)
    found = [shapely.geometry.shape(feature["geometry"]) for feature in features(layer)]
    assert {shape.geom_type for shape in found} == {"Polygon", "Point"}
    assert shapely.get_num_coordinates(found).sum() < 2000
    assert max(shape.area for shape in found) == pytest.approx(np.pi, rel=0.01)
    assert "simplified" in layer.word


def test_more_than_a_browser_takes_is_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "MOST_BYTES", 2000)
    frame = geopandas.GeoDataFrame({"text": ["x" * 500] * 9}, geometry=shapely.points(np.zeros((9, 2))))
    layer = read_vectors(frame, EARTH)
    assert 0 < len(features(layer)) < 9
    assert f"{9 - len(features(layer))} shapes were left out" in layer.word


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [
        ("gone.geojson", "no file"),
        ({"type": "FeatureCollection", "features": 3}, "features are no list"),
        ({"type": "Polygon", "coordinates": "x"}, "no GeoJSON"),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path: Path, thing: Any, sentence: str) -> None:
    with pytest.raises((InputError, NotFoundError), match=sentence):
        read_vectors(tmp_path / thing if isinstance(thing, str) else thing, EARTH)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"broken\.parquet cannot be read as vector data"):
        read_vectors(broken, EARTH)


def test_a_map_shows_and_replaces_and_forgets_shapes() -> None:
    shown = cupola.Map(body="Mars")
    shown.add(SQUARE, name="one").add(shapely.geometry.Point(3, 4), name="two")
    assert shown.center == pytest.approx([0.5, 1.0], abs=0.01)
    assert [layer.name for layer in shown.vector_layers] == ["one", "two"]
    first = shown.vector_layers[0].model_id
    shown.add(shapely.geometry.Point(1, 1), name="one")
    assert [layer.name for layer in shown.vector_layers] == ["one", "two"]
    assert first not in shown._controls.vectors
    shown.remove("one")
    assert shown._controls.vectors == [shown.vector_layers[0].model_id]
    with pytest.raises(NotFoundError, match="its layers are: two"):
        shown.remove("three")
    shown.close()
