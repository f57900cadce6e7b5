"""The how-to of maps, block by block, over small images in the place of the sample archive's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

HOWTO = Path(__file__).parents[4] / "docs" / "howto" / "maps.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "archive" / "sentinel-2-l2a"
    folder.mkdir(parents=True)
    assets = {}
    for band, value in (("B04", 0.1), ("B08", 0.3)):
        with rasterio.open(
            folder / f"{band}.tif", "w", driver="GTiff", width=200, height=200, count=1, dtype="float32",
            crs="EPSG:32629", transform=from_origin(500_000, 3_300_000, 100, 100),
        ) as file:  # fmt: skip
            file.write(np.linspace(value, value * 2, 40_000, dtype="float32").reshape(1, 200, 200))
        assets[band] = {"href": f"{band}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    head = {"stac_version": "1.0.0", "links": []}
    collection = {
        **head, "type": "Collection", "id": "sentinel-2-l2a", "description": "", "license": "other", "extent": {},
    }  # fmt: skip
    item = {
        **head, "type": "Feature", "id": "scene", "geometry": None, "bbox": [-9.0, 29.65, -8.793, 29.83],
        "properties": {"datetime": "2020-02-19T11:00:00Z"}, "collection": "sentinel-2-l2a", "assets": assets,
    }  # fmt: skip
    (folder / "collection.json").write_text(json.dumps(collection))
    (folder / "scene.json").write_text(json.dumps(item))
    mount = {
        "volume": "archive",
        "source": str(folder.parent),
        "target": str(folder.parent),
        "access": "read",
    }
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    return folder


@pytest.mark.usefixtures("archive")
def test_its_blocks_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = BLOCK.findall(HOWTO.read_text("utf-8"))
    assert len(blocks) > 5
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"maps.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    said = capsys.readouterr().out
    assert "from 0.1" in said
    assert "['scene']" in said
    assert re.search(r"NDVI 0\.5 \d+", said)
    names["m"].close()
    names["moon"].close()
