"""What several system tests share."""

from __future__ import annotations

import pytest

from support import programs
from support.guarded import GuardedServer


@pytest.fixture
def server(tmp_path):
    """The Jupyter server of a session, whose kernels have guardians."""
    made = GuardedServer(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.clean()


@pytest.fixture(scope="session")
def criu():
    """One that can freeze kernels on this machine."""
    return programs.criu()
