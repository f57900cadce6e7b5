"""The tour notebook is clean, and its words are those of the library. The system tests run it as a whole."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import rasterio

import cupola
from cupola.lab.chains.runs import fullres

TOUR = Path(__file__).parents[4] / "environments" / "lab" / "notebooks" / "tour.ipynb"


@pytest.fixture(scope="module")
def tour():
    return nbformat.read(TOUR, 4)


@pytest.fixture
def session(archive, tmp_path, monkeypatch):
    """What a session has around it."""
    mount = {"volume": "sample-archive", "source": str(archive), "target": str(archive), "access": "read"}
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path))


def code(tour):
    return {cell.id: cell.source for cell in tour.cells if cell.cell_type == "code"}


def run(cells, name, names):
    exec(compile(cells[name], name, "exec"), names)  # noqa: S102 - the notebook is our own


def test_it_is_valid_and_clean(tour):
    nbformat.validate(tour)
    assert len({cell.id for cell in tour.cells}) == len(tour.cells)
    for cell in tour.cells:
        assert re.fullmatch(r"[a-z][a-z-]*", cell.id)
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert cell.outputs == []


def test_every_public_name_in_it_exists(tour):
    used = {
        node.attr
        for source in code(tour).values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cupola"
    }
    assert used == {"Map", "open"}
    for name in used:
        assert callable(getattr(cupola, name))


@pytest.mark.usefixtures("session")
def test_its_cells_work_on_the_sample_archive(tour, tmp_path, capsys):
    cells, names = code(tour), {"__name__": "__main__"}
    for cell in ("open", "ndvi", "map", "mars"):
        run(cells, cell, names)
    assert len(names["s2"]) == 6
    layers = {layer.name: layer for layer in names["m"].chain_layers}
    assert list(layers) == ["NDVI"]
    assert names["mars_map"].body.name == "Mars"
    assert [layer.name for layer in names["mars_map"].chain_layers] == ["Image", "Slope"]
    # One product, written as a task of the job writes it, is checked by the notebook's own cell.
    scene = names["scene"] = names["s2"].items[0]
    fullres.write_product(names["vegetation"], scene, tmp_path / "products")
    names["product"] = cupola.open(tmp_path / "products").items[0]
    run(cells, "check", names)
    run(cells, "provenance", names)
    assert "largest difference" in capsys.readouterr().out
    # The check is one that can fail.
    with rasterio.open(names["product"].assets["data"].href, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        values = file.read(1)
        values[np.unravel_index(np.nanargmax(values), values.shape)] += 1
        file.write(values, 1)
    with pytest.raises(AssertionError, match="they differ"):
        run(cells, "check", names)
