from __future__ import annotations

from typing import Any

import pytest

from cupola.lab.tiles.queue import Place, Queue, place_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tile(z: int, x: int, y: int = 0) -> dict[str, Any]:
    return {"do": "tile", "tms": "WebMercatorQuad", "tile": [z, x, y]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> Queue[str]:
    return Queue(clock)


def taken(queue: Queue[str], last: Place | None = None) -> list[str]:
    return [queue.take(last, []) for _ in range(len(queue))]


def test_one_viewport_is_begun_in_the_order_of_its_requests(queue: Queue[str]) -> None:
    for x in range(3):
        queue.add(tile(8, x), f"{x}")
    assert len(queue) == 3
    assert taken(queue) == ["0", "1", "2"]


def test_the_newest_viewport_comes_first(queue: Queue[str], clock: Clock) -> None:
    queue.add(tile(8, 0), "old")
    queue.add(tile(9, 0), "zoomed in")
    clock.now = 10
    queue.add(tile(9, 50), "moved later")
    queue.add({"do": "view"}, "whole image")
    assert queue.take(None, []) == "whole image"
    assert queue.take(None, []) == "moved later"
    assert queue.take(None, []) == "zoomed in"


def test_an_old_viewport_gets_its_turn(queue: Queue[str], clock: Clock) -> None:
    queue.add(tile(8, 0), "somebody else")
    clock.now = 10
    for x in range(8):
        queue.add(tile(9, x), f"{x}")
    assert "somebody else" in [queue.take(None, []) for _ in range(4)]


def test_a_worker_goes_on_beside_its_last_tile_and_begins_far_from_others(queue: Queue[str]) -> None:
    for x in range(6):
        queue.add(tile(8, x), f"{x}")
    here = place_of(tile(8, 0))
    assert here is not None
    assert queue.take(Place("WebMercatorQuad", 8, 3, 0), []) == "3"
    assert queue.take(None, [here]) == "5"
    # Another zoom level is no neighbour.
    assert queue.take(Place("WebMercatorQuad", 7, 4, 0), []) == "0"


def test_what_is_removed_is_not_begun(queue: Queue[str]) -> None:
    queue.add(tile(8, 0), "a")
    queue.add(tile(8, 1), "b")
    queue.remove("a")
    queue.remove("never there")
    assert "a" not in queue
    assert "b" in queue
    assert list(queue) == ["b"]
    queue.clear()
    assert len(queue) == 0
