from __future__ import annotations

from cupola.hub.signin.throttle import Throttle


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_wait_doubles_up_to_the_longest_and_ends():
    clock = Clock()
    throttle = Throttle(free=3, first_s=10, longest_s=60, clock=clock)
    waits = []
    for _ in range(8):
        throttle.failed("ada")
        waits.append(throttle.wait("ada"))
    assert waits == [0, 0, 10, 20, 40, 60, 60, 60]
    assert throttle.wait("grace") == 0
    clock.now += 59
    assert throttle.wait("ada") == 1
    clock.now += 1
    assert throttle.wait("ada") == 0
    throttle.failed("ada")
    assert throttle.wait("ada") == 60
    clock.now += 130
    assert throttle.wait("ada") == 0
    throttle.failed("ada")
    assert throttle.wait("ada") == 0


def test_who_gets_in_begins_anew_and_memory_has_an_end():
    throttle = Throttle(free=1, most=10, clock=Clock())
    throttle.failed("ada")
    assert throttle.wait("ada") > 0
    throttle.succeeded("ada")
    assert throttle.wait("ada") == 0
    for number in range(1000):
        throttle.failed(str(number))
    assert len(throttle._failures) == 10
