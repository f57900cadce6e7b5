from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.lab import collections
from cupola.lab.collections.footprint import BoxIndex, footprint, outline_box

longitude = st.floats(-180, 180).map(lambda value: round(value, 3))
latitude = st.floats(-90, 90).map(lambda value: round(value, 3))


@st.composite
def boxes(draw):
    south, north = sorted([draw(latitude), draw(latitude)])
    return draw(longitude), south, draw(longitude), north


def within(box, place):
    west, south, east, north = box
    x, y = place
    inside = west <= x <= east if west <= east else x >= west or x <= east
    return inside and south <= y <= north


@given(st.lists(boxes(), min_size=1, max_size=8), boxes(), longitude, latitude)
def test_boxes_that_share_a_place_touch(many, box, x, y):
    found = set(BoxIndex(many).touching(box).tolist())
    for number, one in enumerate(many):
        if within(one, (x, y)) and within(box, (x, y)):
            assert number in found


@given(boxes(), boxes())
def test_touching_is_mutual(one, other):
    assert len(BoxIndex([one]).touching(other)) == len(BoxIndex([other]).touching(one))


@pytest.mark.parametrize(
    ("one", "other", "touch"),
    [
        ((170, 0, -170, 1), (-175, 0, -174, 1), True),
        ((170, 0, -170, 1), (0, 0, 10, 1), False),
        ((0, 0, 360, 1), (-20, 0, -10, 1), True),
        ((190, 0, 200, 1), (-165, 0, -164, 1), True),
        ((-180, -90, 180, 90), (12, 3, 13, 4), True),
        ((10, 0, 11, 1), (11.5, 0, 12, 1), False),
        ((10, 0, 11, 1), (10, 2, 11, 3), False),
    ],
)
def test_known_cases(one, other, touch):
    assert bool(len(BoxIndex([one]).touching(other))) is touch


def test_unknown_place_touches_nothing():
    assert BoxIndex([None, (0, 0, 1, 1)]).touching((0, 0, 1, 1)).tolist() == [1]
    assert BoxIndex([]).touching((0, 0, 1, 1)).tolist() == []


def test_outline_across_the_antimeridian_and_around_a_pole():
    assert outline_box(np.array([179.0, -179, -179, 179]), np.array([0.0, 0, 1, 1])) == (179, 0, -179, 1)
    assert outline_box(np.array([0.0, 90, 180, -90]), np.array([80.0, 80, 80, 80])) == (-180, 80, 180, 90)
    assert outline_box(np.array([0.0, 90, 180, -90]), np.array([-80.0] * 4)) == (-180, -90, 180, -80)
    assert outline_box(np.array([np.inf]), np.array([np.inf])) is None


def test_real_scene_across_the_antimeridian(data):
    west, south, east, north = collections.open(data / "cog" / "cog_dateline.tif").bbox
    assert west > 177
    assert east < -178
    assert (south, north) == pytest.approx((50.6, 52.8), abs=0.1)


def test_real_polar_map_reaches_its_pole(data):
    box = collections.open(data / "cog" / "Mars_MGS_MOLA_ClrShade_MAP2_90.0N0.0_POLA.tif").bbox
    assert (box[0], box[2], box[3]) == (-180, 180, 90)
    assert 35 < box[1] < 60


def test_box_of_an_item_with_a_broken_bbox_comes_from_its_geometry():
    ring = [[[10, 1], [12, 1], [12, 3], [10, 1]]]
    document = {"bbox": [1, 2, None, 4], "geometry": {"type": "Polygon", "coordinates": ring}}
    assert footprint(document) == (10, 1, 12, 3)
    assert footprint({"bbox": [1, 2, 0, 3, 4, 9]}) == (1, 2, 3, 4)
    assert footprint({"geometry": None}) is None
