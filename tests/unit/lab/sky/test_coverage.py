"""Which cells a patch covers, and whether other readers of MOC agree."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy_healpix import HEALPix, uniq_to_level_ipix

from cupola.lab.sky import coverage
from cupola.lab.sky.coverage import cells_of, outline_of_box

BOXES = {
    "anywhere": (10.0, 40.0, 11.0, 41.0),
    "across RA 0": (359.7, -0.4, 0.3, 0.4),
    "around the pole": (0.0, 89.2, 360.0, 90.0),
    "a speck": (83.6331, 22.0145, 83.6332, 22.0146),
    "half of the sky": (0.0, 0.0, 360.0, 90.0),
}


def inside(box, count=4000):
    """Return random places of a box, spread as its area is."""
    west, south, east, north = box
    random = np.random.default_rng(7)
    width = (east - west) % 360 or 360
    longitudes = (west + random.random(count) * width) % 360
    low, high = np.sin(np.radians([south, north]))
    return longitudes, np.degrees(np.arcsin(low + random.random(count) * (high - low)))


def covered(cells, longitudes, latitudes):
    """Tell which places lie in cells, by another library."""
    found = np.zeros(len(longitudes), dtype=bool)
    for order, numbers in cells.items():
        here = HEALPix(2**order, order="nested").lonlat_to_healpix(
            longitudes * units.deg, latitudes * units.deg
        )
        found |= np.isin(here, numbers)
    return found


@pytest.mark.parametrize("name", BOXES)
def test_every_place_of_a_patch_is_covered_and_little_else(name):
    box = BOXES[name]
    outline = outline_of_box(box)
    cells = cells_of([outline])
    assert covered(cells, *inside(box)).all()
    west, south, east, north = box
    area = (
        np.diff(np.sin(np.radians([south, north])))[0] * np.radians((east - west) % 360 or 360) / (4 * np.pi)
    )
    # Whole cells reach over the edge: by about one of some 24 on each side.
    assert area <= coverage.fraction(cells) * 1.0001
    assert coverage.fraction(cells) < area * 1.45


def test_cells_do_not_lie_in_one_another():
    cells = cells_of([outline_of_box(BOXES["anywhere"]), outline_of_box(BOXES["half of the sky"])])
    seen = np.zeros(0, dtype=np.int64)
    for order in range(max(cells) + 1):
        seen = np.repeat(seen * 4, 4) + np.tile(np.arange(4), seen.size)
        numbers = cells.get(order, np.zeros(0, dtype=np.int64))
        assert not np.isin(numbers, seen).any()
        # Only so deep: the list of children grows fourfold.
        if order < 7:
            seen = np.concatenate([seen, numbers])
    # Four that make one became it.
    for numbers in cells.values():
        assert np.unique(numbers >> 2, return_counts=True)[1].max() < 4 or 0 in cells


def test_the_file_says_what_the_standard_wants():
    cells = cells_of([outline_of_box(BOXES["across RA 0"])])
    with fits.open(io.BytesIO(coverage.moc_file(cells))) as units_:
        units_.verify("exception")
        table = units_[1]
        assert table.header["PIXTYPE"] == "HEALPIX"
        assert table.header["ORDERING"] == "NUNIQ"
        assert table.header["COORDSYS"] == "C"
        assert table.header["MOCORDER"] == max(cells)
        assert table.columns.names == ["UNIQ"]
        assert table.columns.formats == ["K"]
        numbers = np.asarray(table.data["UNIQ"], dtype=np.int64)
    assert (np.diff(numbers) > 0).all()
    levels, pixels = uniq_to_level_ipix(numbers)
    for order, known in cells.items():
        np.testing.assert_array_equal(np.sort(pixels[levels == order]), known)


@pytest.mark.parametrize("order", [0, 5, 24, 28, 29])
def test_uniq_numbers_lead_back_to_cells(order):
    most = 12 * 4**order - 1
    cells = {order: np.unique(np.array([0, most // 3, most], dtype=np.int64))}
    found = coverage.decode(coverage.uniq(cells))
    assert list(found) == [order]
    np.testing.assert_array_equal(found[order], cells[order])


def test_a_tile_is_touched_by_what_lies_in_it_and_around_it():
    cells = {5: np.array([1000])}
    assert coverage.touched(cells, 3, 1000 >> 4)
    assert coverage.touched(cells, 5, 1000)
    assert coverage.touched(cells, 7, 1000 * 16 + 9)
    assert not coverage.touched(cells, 3, (1000 >> 4) + 1)
    assert not coverage.touched(cells, 7, 1001 * 16)
    assert coverage.at_order(cells, 3) == [1000 >> 4]
    assert coverage.at_order(cells, 6) == [4000, 4001, 4002, 4003]


def test_the_middle_and_the_size_of_a_patch():
    ra, dec, size = coverage.middle([outline_of_box(BOXES["across RA 0"])])
    assert min(ra, 360 - ra) < 1e-6
    assert dec == pytest.approx(0, abs=1e-9)
    assert size == pytest.approx(1.0, rel=0.01)
    _, dec, size = coverage.middle([outline_of_box(BOXES["around the pole"])])
    assert dec == pytest.approx(90, abs=0.1)
    assert size == pytest.approx(1.6, rel=0.12)
    assert coverage.middle([]) == (0.0, 0.0, 180.0)


def test_a_hundred_thousand_boxes_are_told_more_coarsely():
    ra, dec = (part.ravel() for part in np.meshgrid(np.arange(0, 360, 1.2), np.arange(-80, 80, 0.48)))
    boxes = [(a, d, a + 0.1, d + 0.1) for a, d in zip(ra.tolist(), dec.tolist(), strict=True)]
    assert len(boxes) > 100_000
    cells = cells_of([outline_of_box(BOXES["anywhere"])], boxes)
    assert all(covered(cells, *inside(box, 20)).all() for box in boxes[::9973])
    assert covered(cells, *inside(BOXES["anywhere"])).all()
    assert coverage.fraction(cells) < 0.5
