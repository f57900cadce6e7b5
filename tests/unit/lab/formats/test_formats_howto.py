"""The how-to of formats, block by block."""

from __future__ import annotations

import re

import numpy as np
from astropy.io import fits

from cupola.lab.samples import sentinel5p

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_blocks_run_one_after_the_other(repository, tmp_path, monkeypatch, capsys):
    (tmp_path / "made").mkdir()
    for _ in sentinel5p.write(tmp_path / "made", scanlines=80, pixels=60):
        pass
    min((tmp_path / "made").rglob("*.nc")).rename(tmp_path / "no2.nc")
    head = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0, "CDELT1": -0.01}
    )
    head.update(CDELT2=0.01, CRPIX1=4.0, CRPIX2=4.0)
    images = [
        fits.ImageHDU(np.ones((8, 8), kind), head, name=name) for name, kind in (("SCI", "f4"), ("DQ", "i2"))
    ]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "hst.fits")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = BLOCK.findall((repository / "docs" / "howto" / "formats.md").read_text(encoding="utf-8"))
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"formats.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["nitrogendioxide_tropospheric_column True", "['SCI', 'DQ']", "['b1']"]
    assert re.findall(r"name='(\w+)'", printed[3]) == ["Earth", "Sky"]
    assert printed[4] == "Enceladus2015spolar 252100.0"
