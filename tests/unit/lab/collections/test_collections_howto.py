"""The how-to of collections, block by block, over a few scenes in the place of the sample archive's."""

from __future__ import annotations

import json
import re

import numpy as np

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_blocks_run_one_after_the_other(  # noqa: PLR0913, PLR0917 - fixtures
    repository, tmp_path, write_image, write_item, volumes, capsys
):
    folder = tmp_path / "archive" / "sentinel-2-l2a"
    for number, (cloud, month) in enumerate([(5, 4), (50, 6), (10, 8), (3, 11)]):
        write_image(
            folder / f"i{number}.tif",
            np.ones((8, 8), "uint16"),
            crs="EPSG:32629",
            origin=(500_000, 3_330_000),
        )
        write_item(
            folder / f"i{number}.json", collection="sentinel-2-l2a", bbox=(-9, 30, -8.9, 30.1),
            datetime=f"2026-{month:02}-10T11:00:00Z",
            properties={"eo:cloud_cover": cloud, "platform": "sentinel-2a"},
            assets={"visual": {"href": f"i{number}.tif", "type": "image/tiff"}},
        )  # fmt: skip
    (folder / "collection.json").write_text(json.dumps({"type": "Collection", "id": "sentinel-2-l2a"}))
    volumes(archive=folder.parent)
    blocks = BLOCK.findall((repository / "docs" / "howto" / "collections.md").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"collections.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    assert capsys.readouterr().out.splitlines() == [
        "sentinel-2-l2a Earth 4 ('visual',)",
        "4 3 2",
        "4 ['i3']",
    ]
