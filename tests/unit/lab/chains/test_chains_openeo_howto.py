"""The how-to of openEO, block by block."""

from __future__ import annotations

import re
from pathlib import Path

from cupola.lab.samples import sentinel2

HOWTO = Path(__file__).parents[4] / "docs" / "howto" / "openeo.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_its_blocks_run_one_after_the_other(tmp_path, monkeypatch, volumes, capsys):
    archive = tmp_path / "archive" / sentinel2.ABOUT.id
    archive.mkdir(parents=True)
    for _ in sentinel2.write(archive, side=192):
        pass
    volumes(archive=tmp_path / "archive")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall(HOWTO.read_text(encoding="utf-8"))
    assert len(blocks) > 3
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"openeo.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    said = capsys.readouterr().out
    assert "merge_cubes" in said or "load_collection" in said
    assert "has no place in an openEO graph" in said
