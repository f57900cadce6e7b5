from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.models.activity import Activity, SnapshotTold, StopKind
from cupola.platform.services.sessions.idleness import Idleness, Processor, Sight
from cupola.platform.services.sessions.stoptexts import (
    length_text,
    reason_after,
    reason_before,
    what_is_kept,
)

IDLE = Sight(known=True)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def after(*looks):
    idleness = Idleness()
    for at, sight in looks:
        idleness.look(at, sight)
    return idleness.seconds


def test_known_idle_time_adds_up():
    assert after((0, IDLE), (10, IDLE), (30, IDLE)) == 30


def test_what_nobody_looked_at_does_not_count():
    # A portal that was stopped for a day, a machine that slept, a clock that was set.
    assert after((0, IDLE), (10, IDLE), (86_400, IDLE)) == 10 + 60
    assert after((1000, IDLE), (1010, IDLE), (5, IDLE), (15, IDLE)) == 20


@pytest.mark.parametrize("sight", [Sight(known=False), Sight(known=True, busy=True)])
def test_work_and_blindness_begin_it_anew(sight):
    assert after((0, IDLE), (30, IDLE), (40, sight)) == 0
    assert after((0, IDLE), (30, IDLE), (40, sight), (50, IDLE)) == 10


def test_what_is_not_known_yet_changes_nothing():
    idleness = Idleness(known=500)
    assert idleness.look(0, Sight(known=None)) == 500
    assert not idleness.seen
    assert idleness.look(10, IDLE) == 510
    assert idleness.seen


def test_another_mark_is_a_use_whatever_the_clock_says():
    used = Sight(known=True, mark=NOON)
    assert after((0, used), (30, used)) == 30
    for shift in (-3600, -1, 1, 3600):
        other = Sight(known=True, mark=NOON + timedelta(seconds=shift))
        assert after((0, used), (30, used), (40, other)) == 0


def test_a_session_that_was_used_lately_is_idle_since_then():
    assert after((0, IDLE), (30, IDLE), (60, Sight(known=True, unused=4.0))) == 4
    assert after((0, IDLE), (30, IDLE), (60, Sight(known=True, unused=900.0))) == 60


@given(
    st.lists(
        st.tuples(st.integers(-100, 4000), st.sampled_from([True, False, None]), st.booleans()), max_size=30
    )
)
def test_never_more_than_was_seen_idle(looks):
    idleness, at, bound = Idleness(), 0, 0
    for step, known, busy in looks:
        at += step
        bound = 0 if known is False or (known and busy) else bound + max(0, min(step, 60))
        assert 0 <= idleness.look(at, Sight(known=known, busy=busy)) <= bound


def test_the_processor_is_busy_while_its_seconds_grow():
    processor = Processor()
    for at, seconds in ((0, 5.0), (20, 5.1)):
        processor.tell(at, Activity(cpu_seconds=seconds))
    assert processor.cores == pytest.approx(0.005)
    processor.tell(40, Activity(cpu_seconds=25.1))
    assert processor.cores == pytest.approx(1.0)
    processor.tell(41, Activity(cpu_seconds=99.0))  # too short to say anything
    assert processor.cores == pytest.approx(1.0)
    processor.tell(60, Activity())
    processor.tell(80, Activity(cpu_seconds=3.0))  # a program ended, and its seconds with it
    assert processor.cores == 0


def test_people_read_how_long_and_what_is_kept():
    assert [length_text(one) for one in (43_200, 42_600, 600, 90, 5)] == [
        "12 h",
        "11.8 h",
        "10 min",
        "1.5 min",
        "5 s",
    ]
    before = reason_before(StopKind.HIBERNATE, 43_200, kept=True, web=False)
    assert before == "Nothing went on in it for 12 h. Its notebooks and variables are kept."
    assert "is not" in reason_before(StopKind.AGE, 3600, kept=False, web=True)
    whole = what_is_kept(kept=True, web=False, done=True, told=SnapshotTold(wish="w", kept=3))
    assert (
        reason_after(StopKind.HIBERNATE, 43_200, whole, by=None, told="")
        == "Hibernated after 12 h without activity: its notebooks and variables are kept; wake it when you need it."
    )
    part = what_is_kept(kept=True, web=False, done=True, told=SnapshotTold(wish="w", kept=3, left=2))
    assert "but for 2" in part
    assert "as far as" in what_is_kept(kept=True, web=False, done=False)
    assert "variables are not" in what_is_kept(kept=False, web=False, done=False)
