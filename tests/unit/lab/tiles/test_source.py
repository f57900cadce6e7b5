from __future__ import annotations

import linecache
from typing import TYPE_CHECKING

import pytest

from cupola.lab.jobs.failure import describe
from cupola.lab.tiles.source import remember

if TYPE_CHECKING:
    from cupola.lab.collections import Collection

CELL = """
x = 1

def first(band):
    return band

def wrong(band):
    y = 2
    return band / missing
"""


def test_the_line_of_a_cell_is_found_where_the_cell_is_not(scene: Collection) -> None:
    name = "/nowhere/ipykernel_1/cell.py"
    space: dict[str, object] = {"__name__": "cell"}
    exec(compile(CELL, name, "exec"), space)  # noqa: S102
    linecache.cache[name] = (len(CELL), None, CELL.splitlines(keepends=True), name)
    chain = scene["one"].map(space["wrong"])  # type: ignore[arg-type]
    del linecache.cache[name]
    with pytest.raises(NameError) as caught:
        space["wrong"](1)  # type: ignore[operator]
    try:
        remember(chain, caught.value)
        assert describe(caught.value).line == "wrong:9: return band / missing"
    finally:
        linecache.cache.pop(name, None)
