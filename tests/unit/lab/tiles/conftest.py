from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola.lab.collections import open as open_collection

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.lab.collections import Collection


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.delenv("CUPOLA_PYTHON", raising=False)
    return tmp_path / "runtime"


@pytest.fixture
def scene(tmp_path: Path) -> Collection:
    """Two bands over 40 km near the equator: the first counts columns, the second is twice the first."""
    first = np.tile(np.arange(1, 513, dtype=np.uint16), (512, 1))
    path = tmp_path / "scenes" / "ramp.tif"
    path.parent.mkdir()
    with rasterio.open(
        path, "w", driver="GTiff", width=512, height=512, count=2, dtype="uint16", nodata=0,
        crs="EPSG:3857", transform=from_origin(0, 40_960, 80, 80), tiled=True,
    ) as file:  # fmt: skip
        file.write(first, 1)
        file.write(first * 2, 2)
        file.set_band_description(1, "one")
        file.set_band_description(2, "two")
    return open_collection(path.parent)
