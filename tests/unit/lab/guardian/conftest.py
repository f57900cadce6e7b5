from __future__ import annotations

import pytest

from support.stored_kernels import StoredKernel


@pytest.fixture
def kernel(tmp_path):
    """Start kernels in folders of their own; they end with the test."""
    started = []

    def start(name="one", **options):
        started.append(StoredKernel(tmp_path / name, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
