from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

import cupola
from cupola.exceptions import BodyError, InputError
from cupola.lab import bodies
from cupola.lab.maps import bases
from cupola.lab.maps.views import View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOON = "+proj=eqc +lat_ts=0 +lon_0=0 +R=1737400 +units=m +no_defs"


def keys(body: str, projection: str = "eqc") -> list[str]:
    return [base["key"] for base in bases.choices(View(bodies.body_named(body), projection))]


def test_what_lies_below_fits_body_and_grid() -> None:
    assert keys("Earth") == ["none", "land", "osm"]
    # Tiles of OpenStreetMap are Mercator's, and the survey's maps are of longitude and latitude.
    assert keys("Earth", "npolar") == ["none", "land"]
    assert keys("Mars") == ["none", "usgs"]
    assert keys("Mars", "spolar") == ["none"]
    assert keys("Bennu") == ["none"]


def test_a_collection_can_lie_below(write) -> None:
    collection = cupola.open(write("moon.tif", crs=MOON))
    shown = cupola.Map(basemap=collection)
    assert shown.body.name == "Moon"
    (base,) = [base for base in shown._controls.bases if base["kind"] == "chain"]
    assert shown._controls.base == base["key"]
    assert "/Moon2015eqc/{z}/{x}/{y}.png?cmap=gray" in base["url"]
    assert shown.layers == ()
    # A map that shows the Moon refuses others, as after a first layer.
    with pytest.raises(BodyError, match="map shows Moon"):
        shown.add(cupola.open(write("earth.tif")))
    shown.close()
    with pytest.raises(BodyError, match="shows Moon, and the map shows Mars"):
        cupola.Map(body="Mars", basemap=collection)


def test_a_base_map_that_does_not_fit_is_told() -> None:
    with pytest.raises(InputError, match="no base map of Bennu"):
        cupola.Map(body="Bennu", basemap="usgs")
    with pytest.raises(InputError, match="not int"):
        cupola.Map(basemap=3)  # type: ignore[arg-type]


def test_a_base_map_that_the_new_body_lacks_is_taken_away(write) -> None:
    shown = cupola.Map()
    shown._controls.base = "land"
    shown.add(cupola.open(write("moon.tif", crs=MOON)))
    assert shown._controls.base == "none"
    assert [base["key"] for base in shown._controls.bases] == ["none", "usgs"]
    shown.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def volume(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume with a marked collection of the Moon, and with descriptions that say nothing of use."""
    write("volume/moon/moon.tif", crs=MOON)
    head = {"type": "Collection", "stac_version": "1.0.0", "id": "moon", "description": "", "license": "other",
            "extent": {}, "links": [], "title": "Grey Moon"}  # fmt: skip
    for name, marked in (("moon", True), ("empty", True), ("other", "yes")):
        folder = tmp_path / "volume" / name
        folder.mkdir(exist_ok=True)
        (folder / "collection.json").write_text(json.dumps({**head, "id": name, bases.MARK: marked}))
    place = str(tmp_path / "volume")
    mount = {"volume": "maps", "source": place, "target": place, "access": "read"}
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    return tmp_path / "volume"


@pytest.mark.usefixtures("volume")
def test_a_marked_collection_lies_below_by_itself() -> None:
    shown = cupola.Map(body="Moon")
    until(lambda: shown._controls.base != "none")
    (base,) = [base for base in shown._controls.bases if base["kind"] == "chain"]
    assert (base["title"], base["key"]) == ("Grey Moon", shown._controls.base)
    shown.close()
    bare = cupola.Map(body="Moon", basemap="none")
    until(lambda: any(base["kind"] == "chain" for base in bare._controls.bases))
    assert bare._controls.base == "none"
    bare.close()
    assert bases.marked(View(bodies.body_named("Mars"))) == []
