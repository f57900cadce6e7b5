from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import cupola


def test_list_is_sorted_and_complete():
    assert cupola.__all__ == sorted(cupola.__all__)
    assert set(cupola.__all__) == set(cupola._HOMES)
    assert set(cupola.__all__) <= set(dir(cupola))


def test_each_name_has_the_home_that_type_checkers_see():
    tree = ast.parse(Path(cupola.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == cupola._HOMES


@pytest.mark.parametrize("name", cupola.__all__)
def test_each_name_loads_and_is_documented(name):
    module, attribute = cupola._HOMES[name]
    value = getattr(cupola, name)
    assert value is getattr(import_module(module), attribute)
    assert value.__doc__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'nonsense'"):
        _ = cupola.nonsense


def test_import_alone_loads_no_raster_library():
    code = "import sys, cupola; print([m for m in ('numpy', 'rasterio', 'pydantic') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
