"""Notebooks survive in sessions that are containers: the short forms of the scenarios under the docker driver."""

from __future__ import annotations

import pytest

from support import survive
from support.map_lab import MARKS
from support.platform import Platform

pytest.importorskip("playwright.sync_api")

from support.survive_platform import ContainerLab

pytestmark = [*MARKS, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def place(tmp_path_factory, images):
    """A platform whose sessions are containers."""
    images.have("lab")
    one = Platform(tmp_path_factory.mktemp("survive"), settings=images.settings)
    try:
        one.start()
        yield one
    finally:
        one.clean()


@pytest.fixture
def lab(place, engine):
    one = ContainerLab(place, engine).start()
    yield one
    one.stop()


@pytest.mark.parametrize("name", ["mid-cell", "crash", "lost"])
def test_nothing_is_missing_and_nothing_is_there_twice(lab, name):
    """The container's first process is not the server: it outlives one that is killed, and its kernels with it."""
    outcome = survive.play(lab, name, survive.SHORT)
    assert not outcome.wrong, outcome.told()
    assert not outcome.signs, outcome.told()
