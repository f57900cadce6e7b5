from __future__ import annotations

import pytest

from cupola.lab.collections import index


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """A place of its own for the index of each test, and nothing known from the last one."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    index.forget()
    return tmp_path / "runtime"
