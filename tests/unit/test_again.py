"""Tests that failed beside others are run once more by themselves; what is broken stays so."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONCE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_that_fails_the_first_time(number):
    place = Path(__file__).with_name(f"tried-{{number}}")
    tried = place.exists()
    place.touch()
    assert tried
"""
FEW, MANY = ONCE.format(count=2), ONCE.format(count=6)
BROKEN = "\ndef test_that_is_broken():\n    assert False\n"


@pytest.mark.parametrize(("tests", "code"), [(FEW, 0), (FEW + BROKEN, 1), (MANY, 1)])
def test_exit_code_of_both_runs(tool, tmp_path, monkeypatch, tests, code):
    again = tool("tools/again.py")
    monkeypatch.setattr(again, "ROOT", tmp_path)
    monkeypatch.setattr(again, "FAILED", tmp_path / ".pytest_cache" / "v" / "cache" / "lastfailed")
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_some.py").write_text(tests)
    first = subprocess.run([sys.executable, "-m", "pytest"], cwd=tmp_path, check=False).returncode
    assert first == 1
    assert again.main(first) == code


def test_other_ends_are_left_as_they_are(tool):
    again = tool("tools/again.py")
    assert [again.main(code) for code in (0, 2, 3)] == [0, 2, 3]
