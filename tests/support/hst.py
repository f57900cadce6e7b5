"""An HST-like public bucket: FITS files, a STAC collection over them, and a notebook that shows how to begin."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {
            "id": "one",
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": "from astropy.io import fits",
        }
    ],
}
FITS = "acs/sample_svm_flt.fits"


def make_bucket(folder: Path, shared_data: Path) -> None:
    """Fill `folder`, which an object store serves as a bucket."""
    (folder / "acs").mkdir(parents=True)
    (folder / "examples").mkdir()
    (folder / "examples" / "first-look.ipynb").write_text(json.dumps(NOTEBOOK))
    shutil.copyfile(shared_data / "fits" / "sample_svm_flt.fits", folder / FITS)
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": "hst-acs",
        "title": "Hubble ACS (two exposures)",
        "description": "Exposures of one field.",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "sample-svm-flt",
        "collection": "hst-acs",
        "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z"},
        "links": [],
        "assets": {"flt": {"href": "sample_svm_flt.fits", "roles": ["data"]}},
    }
    (folder / "acs" / "collection.json").write_text(json.dumps(collection))
    (folder / "acs" / "sample-svm-flt.json").write_text(json.dumps(item))
