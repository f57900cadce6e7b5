"""Images of the sky with stars of known position, in several projections."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

SIZE = 240
STARS = ((40.0, 60.0), (120.0, 120.0), (200.5, 33.25), (61.7, 201.4))
"""Columns and rows, counted from 0 in the middle of the first pixel as WCS does."""


def header_of(kind, *, centre=(150.1, 2.2), pixel=1.0 / 3600):
    """Return the header of an image of 240 x 240 pixels."""
    header = fits.Header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, SIZE, SIZE
    names = {"TAN": ("RA---TAN", "DEC--TAN"), "SIN": ("RA---SIN", "DEC--SIN"), "SIP": ("RA---TAN-SIP", "DEC--TAN-SIP"),
             "CAR": ("GLON-CAR", "GLAT-CAR"), "AIT": ("GLON-AIT", "GLAT-AIT")}[kind]  # fmt: skip
    header["CTYPE1"], header["CTYPE2"] = names
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["CRVAL1"], header["CRVAL2"] = centre
    header["CRPIX1"] = header["CRPIX2"] = (SIZE + 1) / 2
    # Turned by twenty degrees: nothing lies along the axes.
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    if kind in {"CAR", "AIT"}:
        cos, sin = 1.0, 0.0
        # These count from the middle of their own world.
        header["CRVAL2"] = 0.0
        header["CRPIX2"] = (SIZE + 1) / 2 - centre[1] / pixel
        if kind == "AIT":
            header["CRVAL1"], header["CRPIX1"] = 0.0, (SIZE + 1) / 2 + centre[0] / pixel
            header["CRVAL1"] = 0.0
    header["CD1_1"], header["CD1_2"] = -pixel * cos, pixel * sin
    header["CD2_1"], header["CD2_2"] = pixel * sin, pixel * cos
    if kind == "SIP":
        header["A_ORDER"] = header["B_ORDER"] = 2
        header["A_2_0"], header["A_0_2"], header["B_1_1"], header["B_2_0"] = 4e-5, -2e-5, 3e-5, 5e-5
    return header


def stars_of(size=SIZE):
    """Return pixels with round stars on an even ground."""
    rows, columns = np.mgrid[0:size, 0:size]
    values = np.full((size, size), 10.0)
    for number, (x, y) in enumerate(STARS):
        values += (500 + 100 * number) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    return values.astype(np.float32)


def write_image(path, kind, **options):
    """Write an image; return its header's WCS."""
    header = header_of(kind, **options)
    fits.PrimaryHDU(stars_of(), header).writeto(path)
    return WCS(header)


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """Where chains of the test are kept."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    return tmp_path / "runtime"
