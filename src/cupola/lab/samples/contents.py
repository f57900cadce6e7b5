"""What is in the archive: its collections, its README and its example notebooks."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cupola.lab.samples import dem, mars, moon, sentinel2, sentinel5p, sky, stac

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["COLLECTIONS", "notebook", "steps"]

COLLECTIONS = (sentinel2.ABOUT, dem.ABOUT, mars.ABOUT, moon.ABOUT, sentinel5p.ABOUT, sky.ABOUT)


def steps(folder: Path, *, small: bool) -> Iterator[tuple[str, float]]:
    """Write the archive into `folder`, and yield what was done and which share of the whole that is."""
    places = [folder / about.id for about in COLLECTIONS]
    for place in places:
        place.mkdir()
    tile = 288 if small else 1024
    # Share of the whole in per cent, number of steps, and the steps.
    work = (
        (62, 9, sentinel2.write(places[0], side=tile)),
        (4, 1, dem.write(places[1], side=tile)),
        (14, 3, mars.write(places[2], side=192 if small else 1024)),
        (6, 2, moon.write(places[3], side=192 if small else 768)),
        (8, 6, sentinel5p.write(places[4], scanlines=120 if small else 480, pixels=90 if small else 450)),
        (6, 2, sky.write(places[5], side=160 if small else 1000)),
    )
    before = 0
    for share, count, done in work:
        for number, what in enumerate(done, 1):
            yield what, (before + share * min(number / count, 1)) / 100
        before += share
    # The landscape is large.
    sentinel2.coast.cache_clear()
    stac.write_catalog(folder, COLLECTIONS)
    _write_texts(folder)
    yield "the examples", 1.0


def _write_texts(folder: Path) -> None:
    """Write the README, and a notebook per collection; they are kept as Markdown beside this module."""
    texts = files("cupola.lab.samples") / "texts"
    (folder / "README.md").write_bytes((texts / "README.md").read_bytes())
    examples = folder / "examples"
    examples.mkdir()
    for about in COLLECTIONS:
        text = (texts / f"{about.id}.md").read_text(encoding="utf-8")
        document = json.dumps(notebook(text), indent=1, ensure_ascii=False)
        (examples / f"{about.id}.ipynb").write_text(document + "\n", encoding="utf-8")


def notebook(text: str) -> dict[str, Any]:
    """Return Markdown as a Jupyter notebook: blocks fenced as ``python`` become cells with code."""
    cells: list[dict[str, Any]] = []
    lines: list[str] = []

    def finish(kind: str) -> None:
        source = "\n".join(lines).strip("\n")
        lines.clear()
        if source:
            extra: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
            identity = f"{kind}-{len(cells) + 1}"
            cells.append({"cell_type": kind, "id": identity, "metadata": {}, "source": source, **extra})

    for line in text.splitlines():
        if line == "```python":
            finish("markdown")
        elif line == "```":
            finish("code")
        else:
            lines.append(line)
    finish("markdown")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
