"""One small archive for all tests that only read it."""

from __future__ import annotations

import pytest

from cupola.lab.samples import make


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    told = []
    folder = tmp_path_factory.mktemp("samples") / "archive"
    assert make(folder, small=True, progress=lambda *said: told.append(said)) == folder
    return folder, told


@pytest.fixture(scope="session")
def archive(made):
    return made[0]
