"""Tables as overlays: positions found, units minded, rows that the browser can read."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from cupola.exceptions import InputError
from cupola.lab.sky.catalogues import MOST_ROWS, Catalogue, is_table


def catalogue(table, **options):
    return Catalogue(table, name="stars", identity="catalogue-1", **options)


@pytest.fixture
def stars():
    return Table(
        {"id": ["a", "b", "c"], "RA": [10.0, 20.0, 30.0], "Dec": [-5.0, 0.0, 45.0], "mag": [1.5, 2.5, np.nan]}
    )


@pytest.mark.parametrize("ending", ["vot", "csv", "ecsv", "fits", "tsv", "parquet"])
def test_files_of_all_kinds(tmp_path, stars, ending):
    path = tmp_path / f"stars.{ending}"
    if ending == "parquet":
        stars.to_pandas().to_parquet(path)
    else:
        stars.write(path, format={"vot": "votable", "tsv": "ascii.tab", "csv": "ascii.csv"}.get(ending))
    assert is_table(path)
    found = catalogue(path)
    assert found.columns == ("RA", "Dec")
    np.testing.assert_allclose(found.ra, [10, 20, 30])
    np.testing.assert_allclose(found.dec, [-5, 0, 45])
    rows = json.loads(zlib.decompress(found.to_json()["rows"]))
    assert rows["id"] == ["a", "b", "c"]
    assert rows["mag"] == [1.5, 2.5, None]


def test_an_image_is_no_table(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3), dtype="f4")).writeto(tmp_path / "image.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((30, 30), dtype="i4"))]).writeto(
        tmp_path / "packed.fits"
    )
    assert not is_table(tmp_path / "image.fits")
    assert not is_table(tmp_path / "packed.fits")
    assert not is_table(tmp_path / "missing.fits")


def test_ucds_come_before_names():
    table = Table({"ra": [1.0], "dec": [2.0], "alpha_best": [3.0], "delta_best": [4.0]})
    table["alpha_best"].info.meta = {"ucd": "pos.eq.ra;meta.main"}
    table["delta_best"].info.meta = {"ucd": "pos.eq.dec;meta.main"}
    assert catalogue(table).columns == ("alpha_best", "delta_best")


def test_units_text_and_places():
    hours = Table({"ra": [1.0, 2.0] * units.hourangle, "dec": [0.1, 0.2] * units.rad})
    np.testing.assert_allclose(catalogue(hours).ra, [15, 30])
    np.testing.assert_allclose(catalogue(hours).dec, np.degrees([0.1, 0.2]))
    text = Table({"RAJ2000": ["00h42m44.33s", "05:34:31.94"], "DEJ2000": ["+41d16m07.5s", "+22:00:52.2"]})
    np.testing.assert_allclose(catalogue(text).ra, [10.684708, 83.633083], atol=1e-5)
    np.testing.assert_allclose(catalogue(text).dec, [41.268750, 22.014500], atol=1e-5)
    places = Table({"where": SkyCoord([0.0], [0.0], unit="deg", frame="galactic"), "n": [1]})
    np.testing.assert_allclose(catalogue(places).ra, [266.404988], atol=1e-5)
    frame = pd.DataFrame({"raj2000": [5.0], "dej2000": [6.0], "name": ["x"]})
    assert catalogue(frame).ra.tolist() == [5.0]


def test_rows_without_a_position_keep_their_numbers():
    table = Table({"ra": MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False]), "dec": [0.0, 0.0, 95.0]})
    found = catalogue(table)
    assert found.ra[0] == 1.0
    assert np.isnan(found.ra[1:]).all()
    assert np.isnan(found.dec[1:]).all()


@pytest.mark.parametrize(
    ("table", "options", "sentence"),
    [
        (Table({"x": [1.0], "y": [2.0]}), {}, "name it with ra="),
        (Table({"ra": [1.0], "dec": [2.0]}), {"ra": "RA2"}, "no column 'RA2'"),
        (Table({"ra": [1.0] * units.m, "dec": [2.0]}), {}, "no angle"),
        (Table({"ra": ["here"], "dec": ["there"]}), {}, "hold no angles"),
        (Table({"ra": [1.0], "dec": [2.0]}), {"shape": "star"}, "no shape 'star'"),
        (Table({"ra": [np.nan], "dec": [2.0]}), {}, "No row has a position"),
        ([1, 2], {}, "not list"),
        ("missing.csv", {}, "no file missing.csv"),
    ],
)
def test_what_is_wrong_is_said(table, options, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        catalogue(table, **options)
    assert str(caught.value).count(". ") == 0


def test_too_many_rows_and_no_table_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than the"):
        catalogue(Table({"ra": np.zeros(MOST_ROWS + 1), "dec": np.zeros(MOST_ROWS + 1)}))
    (tmp_path / "notes.vot").write_text("these are words")
    with pytest.raises(InputError, match="cannot be read as a table"):
        catalogue(tmp_path / "notes.vot")


def test_a_hundred_thousand_rows_travel_small():
    count = 100_000
    table = Table({"ra": np.linspace(0, 359, count), "dec": np.zeros(count), "n": np.arange(count)})
    told = catalogue(table).to_json()
    assert len(told["ra"]) == 8 * count
    assert len(told["rows"]) < 3_000_000
