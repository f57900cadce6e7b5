from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola.lab.samples import make


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """One small sample archive for all tests that only read it, and what was told while it was made."""
    told = []
    folder = tmp_path_factory.mktemp("samples") / "archive"
    assert make(folder, small=True, progress=lambda *said: told.append(said)) == folder
    return folder, told


@pytest.fixture(scope="session")
def archive(made):
    return made[0]


@pytest.fixture
def data(shared_data):
    return shared_data


@pytest.fixture
def write_image():
    def write(path, array, *, crs="EPSG:32632", origin=(500000, 5000000), pixel=10, **options):
        array = np.atleast_3d(array) if array.ndim == 3 else array[np.newaxis]
        place = {"crs": crs, "transform": from_origin(*origin, pixel, pixel)} if crs else {}
        profile = {"driver": "GTiff", "dtype": array.dtype.name, "count": array.shape[0], **place, **options}
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", height=array.shape[1], width=array.shape[2], **profile) as dataset:
            dataset.write(array)
        return path

    return write


@pytest.fixture
def write_item():
    def write(path, *, name=None, bbox=(8, 44, 9, 45), datetime="2020-02-19T11:00:00Z", assets=None, **more):
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": name or path.stem,
            "bbox": list(bbox) if bbox else None,
            "geometry": None,
            "properties": {"datetime": datetime, **more.pop("properties", {})},
            "assets": assets or {},
            "links": [],
            **more,
        }
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def volumes(monkeypatch):
    def mount(**folders):
        mounts = [
            {"volume": name.replace("_", "-"), "source": str(path), "target": str(path), "access": "read"}
            for name, path in folders.items()
        ]
        monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps(mounts))

    return mount
