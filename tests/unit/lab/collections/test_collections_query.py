from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.exceptions import InputError, NotFoundError
from cupola.lab import collections
from cupola.lab.collections.circles import box_distances, in_circle, touches
from cupola.lab.collections.conditions import Among, Both, Column, Compare, Either, Like, Missing, Not
from cupola.lab.collections.query import parse_query

NAMES = st.sampled_from(["a", "eo:cloud_cover", "view.angle", "odd name", 'with "quotes"', "and", "like"])
VALUES = st.one_of(
    st.booleans(),
    st.integers(-100, 100),
    st.floats(-1e6, 1e6).map(lambda value: value + 0.0),
    st.text(max_size=6),
)
CONDITIONS = st.recursive(
    st.one_of(
        st.builds(Compare, NAMES, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), VALUES),
        st.builds(Among, NAMES, st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
        st.builds(Like, NAMES, st.text(alphabet="ab%_\\'", max_size=5)),
        st.builds(Missing, NAMES),
    ),
    lambda part: st.one_of(
        st.builds(Not, part),
        st.builds(Both, st.lists(part, min_size=2, max_size=3).map(tuple)),
        st.builds(Either, st.lists(part, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


class Table:
    """Items as dictionaries."""

    def __init__(self, items):
        self.items = items

    def column(self, name):
        return Column.of([item.get(name) for item in self.items])


@given(CONDITIONS)
def test_text_of_a_condition_reads_back(condition):
    text = str(condition)
    assert str(parse_query(text)) == text


@given(CONDITIONS, st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=5))
def test_a_condition_and_its_text_choose_the_same(condition, items):
    table = Table(items)
    one, other = condition.test(table), parse_query(str(condition)).test(table)
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])
    # Nothing passes a condition and its opposite; what is not known passes neither.
    opposite = Not(condition).test(table)
    assert not (one[0] & opposite[0]).any()
    assert np.array_equal(one[0] | opposite[0], one[1])


ITEMS = [
    {"cloud": 10, "platform": "a", "bands": ["x", "y"], "datetime": "2020-02-01T00:00:00Z", "day": True},
    {"cloud": 30.5, "platform": "B", "bands": ["z"], "datetime": "2020-02-01T01:00:00+01:00", "day": False},
    {"platform": "a%", "datetime": "2021-01-01T00:00:00.5Z"},
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cloud < 20", [0]),
        ("cloud >= 10", [0, 1]),
        ("20 > cloud", [0]),
        ("not cloud < 20", [1]),
        ("cloud is null", [2]),
        ("cloud is not None", [0, 1]),
        ("cloud != null", [0, 1]),
        ("platform = 'a' or platform == \"B\"", [0, 1]),
        ("platform in ['a', 'B'] and cloud > 20", [1]),
        ("platform not in ('a')", [1, 2]),
        ("platform like 'b'", [1]),
        ("platform like 'a\\%'", [2]),
        ("cloud between 10 and 30", [0]),
        ("bands = 'y'", [0]),
        ("datetime = TIMESTAMP('2020-02-01T00:00:00Z')", [0, 1]),
        ("datetime > DATE('2020-06-01')", [2]),
        ("day = true", [0]),
        ("day", None),
        ("properties.cloud < 20 AND NOT (platform = 'B')", [0]),
        ("cloud = 'ten'", []),
        ({"cloud": {"lt": 20}}, [0]),
        ({"cloud": {"gte": 10, "lt": 20}, "platform": "a"}, [0]),
        ({"platform": ["a", "B"]}, [0, 1]),
        ({"platform": {"startsWith": "a"}}, [0, 2]),
        ({"platform": {"contains": "%"}}, [2]),
        ({"cloud": None}, [2]),
        ({"op": "and", "args": [{"op": "<", "args": [{"property": "cloud"}, 40]}, {"op": "not", "args": [
            {"op": "in", "args": [{"property": "platform"}, ["a"]]}]}]}, [1]),
        ({"op": "between", "args": [{"property": "cloud"}, 0, 15]}, [0]),
    ],
)  # fmt: skip
def test_conditions(query, expected):
    if expected is None:
        with pytest.raises(InputError):
            parse_query(query)
        return
    passed, _ = parse_query(query).test(Table(ITEMS))
    assert np.flatnonzero(passed).tolist() == expected


@pytest.mark.parametrize(
    "query",
    ["", "a <", "a = 1 b", "a ~ 3", "a = 1 and", "(a = 1", "a in ()", "'x' = 'y'", "circle(1, 2)", "(" * 200, {}, {"a": {"near": 3}},
     {"op": "<", "args": []}, {"a": object()}, "a = 1e999"],
)  # fmt: skip
def test_wrong_queries_are_one_sentence(query):
    with pytest.raises(InputError) as caught:
        str(parse_query(query))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("circle", [(1, 2), (0, 100, 1), (0, 0, -1), ("a", 0, 1), (math.nan, 0, 1)])
def test_wrong_circles_are_told(tmp_path, write_item, circle):
    write_item(tmp_path / "a.json")
    with pytest.raises(InputError, match="circle"):
        collections.open(tmp_path).filter(circle=circle)


longitudes = st.floats(-180, 180).map(lambda value: round(value, 2))
latitudes = st.floats(-90, 90).map(lambda value: round(value, 2))


def directions(longitude, latitude):
    a, d = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d) + 0 * a])


@given(longitudes, st.tuples(latitudes, latitudes), st.floats(0.1, 359), longitudes, latitudes)
def test_distance_to_a_box_is_that_to_its_nearest_place(west, sides, width, x, y):
    south, north = sorted(sides)
    found = box_distances(np.array([[west, south, west + width, north]]), x, y)[0]
    places = np.meshgrid(np.linspace(west, west + width, 61), np.linspace(south, north, 31))
    chords = np.linalg.norm(directions(*places) - directions(x, y)[:, np.newaxis, np.newaxis], axis=0)
    nearest = np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1))).min()
    assert found <= nearest + 1e-6
    # The nearest place lies at most half the diagonal of a mesh from one that was tried.
    assert found >= nearest - np.hypot(width / 60, (north - south) / 30) / 2 - 1e-6


def test_footprints_across_zero_and_around_the_pole():
    import shapely

    around = shapely.Polygon([(0, 89), (90, 89), (180, 89), (270, 89)])
    assert touches(around, 123, 89.9, 0.01)
    assert not touches(around, 45, 88, 0.5)
    across = shapely.Polygon([(359, -1), (1, -1), (1, 1), (359, 1)])
    assert touches(across, 0, 0, 0.1)
    assert touches(across, 358.5, 0, 0.6)
    assert not touches(across, 180, 0, 10)
    assert touches(shapely.Polygon([(10, 10), (11, 10), (11, 11), (10, 11)]), 10.5, 10.5, 0.001)


@pytest.fixture
def sky(tmp_path, write_item):
    for name, ra, dec in [
        ("crab", 83.63, 22.01),
        ("zero", 359.9, 0.0),
        ("pole", 10.0, 89.8),
        ("far", 200.0, -60.0),
    ]:
        ring = [
            [ra - 0.2, dec - 0.1],
            [ra + 0.2, dec - 0.1],
            [ra + 0.2, dec + 0.1],
            [ra - 0.2, dec + 0.1],
            [ra - 0.2, dec - 0.1],
        ]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        box = (ra - 0.2, dec - 0.1, ra + 0.2, dec + 0.1)
        write_item(tmp_path / f"{name}.json", bbox=box, geometry=geometry, properties={"filter": "F606W"})
    return collections.open(tmp_path)


@pytest.mark.parametrize(
    ("circle", "expected"),
    [
        ((83.6, 22.0, 0.05), {"crab"}),
        ((0.3, 0.0, 0.25), {"zero"}),
        ((0.3, 0.0, 0.1), set()),
        ((190.0, 89.9, 0.4), {"pole"}),
        ((-160.0, -60.0, 1.0), {"far"}),
        ((0.0, 0.0, 180.0), {"crab", "zero", "pole", "far"}),
    ],
)
def test_cone_on_the_sky(sky, circle, expected):
    assert {item.id for item in sky.filter(circle=circle)} == expected


def test_filters_add_up_and_are_part_of_a_chain(sky):
    from cupola.lab.chains.chain import Chain

    some = (
        sky.filter(circle=(83.6, 22.0, 100)).filter(query="filter = 'F606W'").filter(bbox=(1, -90, 100, 90))
    )
    assert {item.id for item in some} == {"crab", "pole"}
    one = some.only("crab")
    assert [item.id for item in one] == ["crab"]
    assert "circle(83.6, 22.0, 100.0)" in one.filters
    again = Chain.from_json(Chain.of_bands(one, ("data",)).to_json()).collection
    assert [item.id for item in again] == ["crab"]
    assert again.query_filter == one.query_filter
    with pytest.raises(NotFoundError, match="has no item 'pole'"):
        one.item("pole")


def test_unknown_property_offers_near_names(sky):
    with pytest.raises(InputError, match=r"property 'filtre'; did you mean filter"):
        sky.filter(query="filtre = 'F606W'")


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.floats(-180, 360), st.floats(-90, 90), st.one_of(st.floats(0, 5), st.floats(5, 180))),
)
def test_circles_are_quick_and_right(seed, circle):
    """All footprints at once are those that touch one by one."""
    random = np.random.default_rng(seed)
    shapes, boxes = [], []
    for _ in range(40):
        x, y, size = random.uniform(-180, 180), random.uniform(-85, 85), random.choice([0.3, 3.0])
        turn = random.uniform(0, np.pi / 2) + np.arange(4) * np.pi / 2
        ring = np.column_stack([
            x + size * np.cos(turn) / np.cos(np.radians(min(85.0, abs(y)))), np.clip(y + size * np.sin(turn), -90, 90)
        ])  # fmt: skip
        polygon = shapely.Polygon(ring)
        hole = shapely.Polygon((ring - [x, y]) * 0.5 + [x, y])
        shapes.append(random.choice(np.array([polygon, polygon.difference(hole), None], dtype=object)))
        west, south, east, north = polygon.bounds
        boxes.append([(west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north])
    # An edge of a footprint that is a great circle leaves the box of its corners by a little.
    boxes = np.array(boxes)
    near = box_distances(boxes, *circle[:2]) <= circle[2]
    found = in_circle(boxes, shapes.__getitem__, *circle)
    for number, shape in enumerate(shapes):
        wanted = near[number] and (shape is None or touches(shape, *circle))
        if wanted != found[number]:
            # Only where the footprint ends at the circle, as exactly as its edges were cut in pieces.
            assert touches(shape, *circle[:2], circle[2] + 0.02) != touches(
                shape, *circle[:2], max(0, circle[2] - 0.02)
            )
