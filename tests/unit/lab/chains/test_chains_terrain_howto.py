"""The how-tos of terrain, openEO and planetary steps, block by block; their jobs are only asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cupola.lab import jobs
from cupola.lab.samples import dem, moon, sentinel2

HOWTOS = Path(__file__).parents[4] / "docs" / "howto"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRITERS = {"terrain": dem, "planetary-steps": moon, "openeo": sentinel2}


@pytest.mark.parametrize("name", WRITERS)
def test_its_blocks_run_one_after_the_other(name, tmp_path, monkeypatch, volumes, capsys):
    archive = tmp_path / "archive" / WRITERS[name].ABOUT.id
    archive.mkdir(parents=True)
    for _ in WRITERS[name].write(archive, side=192):
        pass
    volumes(archive=tmp_path / "archive")
    asked = []
    monkeypatch.setattr(jobs, "submit", lambda *said, **more: asked.append((said, more)))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall((HOWTOS / f"{name}.md").read_text(encoding="utf-8"))
    assert len(blocks) > 3
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{name}.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    assert capsys.readouterr().out.strip()
    assert ("job" in names) == bool(asked)
