"""The platform that system and browser tests share, and the means to start one of their own."""

from __future__ import annotations

import pytest

from support.docker import engine
from support.platform import Platform, prune_environments

__all__ = ["engine", "new_platform", "platform"]


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """A running platform with everything in it, the sample archive too; shared, so leave it as it was."""
    prune_environments()
    shared = Platform(tmp_path_factory.mktemp("platform"), sample_archive=True)
    try:
        shared.start()
        yield shared
    finally:
        shared.clean()


@pytest.fixture
def new_platform(tmp_path):
    """Return a function that makes a platform which is not started yet; all are cleaned up at the end."""
    made = []

    def make(name="platform", **options):
        made.append(Platform(tmp_path / name, **options))
        return made[-1]

    yield make
    for one in made:
        one.clean()
