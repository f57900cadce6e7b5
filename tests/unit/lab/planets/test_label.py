from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.io import fits

from cupola.exceptions import ImageError, NotFoundError
from cupola.lab import collections
from cupola.lab.planets import label

MOON = {
    "format": "ISIS", "target": "Moon", "instrument": "NACL", "product": "M143947267LE",
    "start_time": "2010-11-09T13:06:40.356000Z", "filter": "BroadBand", "wavelength": 600.0,
}  # fmt: skip
HIRISE = {
    "format": "PDS3", "target": "Mars", "instrument": "HIRISE", "filter": "BLUE-GREEN", "wavelength": 500.0,
    "start_time": "2006-11-17T03:27:53.118000Z", "exposure": pytest.approx(0.00033475),
}  # fmt: skip
CASSIS = {
    "format": "PDS4", "target": "Mars", "spacecraft": "TRACE GAS ORBITER", "instrument": "CaSSIS", "filter": "RED",
    "start_time": "2018-05-05T23:11:48.767000Z", "exposure": 0.001488, "wavelength": 840.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("isis3/M143947267L.cal.echo.crop.cub", MOON),
        ("isis3/LSZ_04866_1CD_XKU_89N109_V1_lev1.crop.cub", {"incidence": 48.8192128, "target": "Moon"}),
        ("isis3/20190425T211232S312_map_iofL2pan-crop.cub", {"target": "Bennu", "exposure": 0.003224675}),
        ("isis3/isis3_detached.lbl", {"format": "ISIS", "target": "Mars"}),
        ("isis3/isis3_detached.cub", {"format": "ISIS", "target": "Mars"}),
        ("isis3/ulcn2005_lpo_downsampled.cub", {"target": "Moon", "wavelength": None, "start_time": None}),
        ("pds3/PSP_001446_1790_BG12_0.IMG", HIRISE),
        ("pds3/V00821003RDR_cropped.QUB", {"instrument": "THEMIS", "exposure": 0.006}),
        ("pds3/wac0000a1c4_cropped.img", {"exposure": 0.04, "filter": list("1234567")}),
        ("pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_rdrgen.xml", CASSIS),
        ("pds4/byte_pds4_cart_1g00_1950.img", {"format": "PDS4", "target": "Earth"}),
        ("vicar/vicar_byte.vic", {"format": "VICAR", "target": None}),
        ("fits/sample_svm_flc.fits", {"instrument": "WFC3", "filter": "F555W", "exposure": 170.0, "target": None}),
        ("fits/hyb2_onc_20151203_000006_w2f_l2a.fit", {"spacecraft": "HAYABUSA2", "target": "Earth"}),
    ],
)  # fmt: skip
def test_labels_of_real_files(data, file, expected):
    found = label(data / file)
    assert {name: found[name] for name in expected} == expected
    json.dumps(found, allow_nan=False)


def test_the_whole_label_is_beside(data):
    raw = label(data / "isis3/M143947267L.cal.echo.crop.cub")["raw"]
    assert raw["IsisCube"]["Instrument"]["LineExposureDuration"] == [0.3632, "ms"]
    assert raw["IsisCube"]["Kernels"]["TargetPosition"][0] == "Table"
    raw = label(data / "vicar/vicar_byte.vic")["raw"]
    assert (raw["NS"], raw["GEN"]["LINC"]) == (4, 10.0)  # the second is written behind the pixels


PDS3 = """PDS_VERSION_ID = PDS3
TARGET_NAME = "IO"
START_TIME = 1996-180T12:00:00.5
EXPOSURE_DURATION = 2.5 <ms>
INCIDENCE_ANGLE = 35.5 <DEG>
EMISSION_ANGLE = "N/A"
PHASE_ANGLE = 60
SUB_SOLAR_LONGITUDE = 123.4 <deg>
FILTER_NAME = ("CLEAR", "RED")
END
"""


def test_angles_days_of_the_year_and_missing_values(tmp_path):
    path = tmp_path / "io.lbl"
    path.write_bytes(PDS3.replace("\n", "\r\n").encode() + bytes(range(256)) * 50)
    found = label(path)
    assert found["start_time"] == "1996-06-28T12:00:00.500000Z"
    assert (found["incidence"], found["emission"], found["phase"]) == (35.5, None, 60.0)
    assert (found["exposure"], found["subsolar_longitude"]) == (0.0025, 123.4)
    assert found["filter"] == ["CLEAR", "RED"]


def test_fits_with_date_and_time_apart(tmp_path):
    header = fits.Header(
        {"DATE-OBS": "2001-02-03", "TIME-OBS": "04:05:06", "EXPTIME": 2.0, "OBJECT": "JUPITER"}
    )
    fits.PrimaryHDU(np.zeros((2, 2), "int16"), header).writeto(tmp_path / "one.fits")
    found = label(tmp_path / "one.fits")
    assert (found["start_time"], found["exposure"], found["target"]) == (
        "2001-02-03T04:05:06Z",
        2.0,
        "Jupiter",
    )


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, NotFoundError, "cannot be opened: no such file"),
        (b"\x89PNG\r\n", ImageError, "has no label that Cupola reads"),
        (b"", ImageError, "has no label that Cupola reads"),
        (b"<kml></kml>", ImageError, "no label of a PDS4 product"),
        (b"<Product_Observational><a>", ImageError, "perhaps it breaks off"),
        (b"Object = IsisCube\n  Group = Instrument\n", ImageError, "perhaps it breaks off"),
        (b"LBLSIZE=100 FORMAT='BYTE' EOL=1 RECSIZE=4 ", ImageError, "damaged or cut off"),
        (b"SIMPLE  =                    T", ImageError, "cannot be read"),
    ],
)
def test_wrong_files_are_told_in_one_sentence(tmp_path, content, error, words):
    path = tmp_path / "image.img"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        label(path)
    assert str(path) in str(caught.value)


def test_items_have_labels(data, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    items = collections.open(data / "isis3" / "ctxTestImage.cub").items
    assert items[0].label["instrument"] == "CTX"
    with pytest.raises(ImageError, match="has no label"):
        _ = collections.open(data / "s2" / "B02.tif").items[0].label
