from __future__ import annotations

import subprocess
import sys

import pytest

CELL = """
def find(name):
    import cupola
    return cupola.open(name)

find("nowhere")
"""


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_notebook_shows_the_persons_own_lines_and_the_sentence(tmp_path, all_of_it):
    (tmp_path / "cell.ipy").write_text(("%xmode Verbose\n" if all_of_it else "") + CELL)
    shown = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "cell.ipy"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "NotFoundError: There is no file or folder 'nowhere'" in shown
    assert 'find("nowhere")' in shown
    assert "return cupola.open(name)" in shown
    assert ("collections/find.py" in shown) == all_of_it
    assert (len(shown.strip().splitlines()) > 4) == all_of_it
