from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import cupola
from cupola.exceptions import InputError, NotFoundError
from cupola.lab import bodies
from cupola.lab.maps import features

if TYPE_CHECKING:
    from pathlib import Path


def test_the_list_has_places_of_bodies_that_are_known() -> None:
    for name in features._own():
        body = bodies.body_named(name)
        found = features.known(name)
        assert len({feature.name for feature in found}) == len(found)
        for feature in found:
            assert -180 <= feature.longitude < 180
            assert -90 <= feature.latitude <= 90
            assert 0 < feature.diameter * 1000 <= 2 * 3.2 * body.radius, feature


@pytest.mark.parametrize(
    ("body", "name", "found"),
    [
        ("Mars", "olympus mons", "Olympus Mons"),
        ("Mars", "Olymp", "Olympus Mons"),
        ("Mars", "marineris", "Valles Marineris"),
        ("Moon", "vallis schroteri", "Vallis Schröteri"),
        ("Earth", "nordlinger", "Nördlinger Ries"),
        ("Moon", "CHANG E 4", "Chang'e 4 landing site"),
    ],
)
def test_names_are_found_however_they_are_written(body: str, name: str, found: str) -> None:
    assert features.find(features.known(body), name, body).name == found


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(
        NotFoundError, match=r"No feature of Mars called 'Olimpus Monz'.*did you mean Olympus Mons"
    ):
        features.find(features.known("Mars"), "Olimpus Monz", "Mars")
    with pytest.raises(NotFoundError, match="gazetteer"):
        features.find([], "Anything", "Bennu")
    with pytest.raises(NotFoundError):
        features.find(features.known("Mars"), "  ", "Mars")


def test_a_map_goes_to_a_feature_so_that_it_is_seen_whole() -> None:
    shown = cupola.Map(body="Mars")
    shown.go("Olympus Mons")
    assert shown.center == pytest.approx([18.65, -133.8])
    step = shown._cupola_view.resolutions()[int(shown.zoom)]
    assert 610_000 < step * 420 < 4 * 610_000
    assert shown._controls.marked["name"] == "Olympus Mons"
    shown.go((77.69, 18.41), zoom=9)
    assert (shown.center, shown.zoom) == (pytest.approx([18.41, 77.69]), 9)
    with pytest.raises(NotFoundError, match="Gale"):
        shown.go("Galle")
    shown.close()


def test_names_come_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text(
        "clean_name,center_lon,center_lat,diameter,type,target\n"
        "Ada,200.5,10,12,Crater,Mars\nLunar,1,2,3,Crater,Moon\nBroken,east,10,1,Crater,Mars\n"
        "Olympus Mons,1,2,900,Other,Mars\n"
    )
    shown = cupola.Map(body="Mars")
    assert shown.gazetteer(path) == 2
    shown.go("ada")
    assert shown.center == pytest.approx([10, -159.5])
    assert ["Ada", "Crater", -159.5, 10.0, 12.0] in shown._controls.features
    # Names of a file count more than our own.
    assert next(feature for feature in shown.features if feature.name == "Olympus Mons").kind == "Other"
    shown.close()


def test_names_come_from_shapes(tmp_path: Path) -> None:
    path = tmp_path / "names.geojson"
    point = {"type": "Point", "coordinates": [12.5, -30]}
    feature = {"type": "Feature", "properties": {"name": "Here"}, "geometry": point}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    (found,) = features.read(path, "Moon")
    assert (found.name, found.longitude, found.latitude, found.diameter) == ("Here", 12.5, -30, 0)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("no.csv", None, "no file"),
        (
            "other.csv",
            "a,b\n1,2\n",
            "has no features of Mars: it needs the columns name, longitude and latitude",
        ),
        ("bytes.csv", b"name,lon,lat\n\xff\xfe,1,2\n", "no CSV in UTF-8"),
        ("broken.geojson", "{", "cannot be read as a list of features"),
    ],
)
def test_what_is_no_list_of_names_is_told_in_a_sentence(
    tmp_path: Path, name: str, content, sentence: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((InputError, NotFoundError), match=sentence):
        features.read(path, "Mars")
