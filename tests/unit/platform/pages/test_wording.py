from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cupola.models.base import now
from cupola.models.job import JobState
from cupola.models.session import SessionState
from cupola.platform.handlers.pages import wording
from cupola.platform.handlers.pages.pace import Pace
from support import made_up


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ({"seconds": -20}, "just now"),
        ({"seconds": 44}, "just now"),
        ({"seconds": 46}, "1 min ago"),
        ({"minutes": 59}, "59 min ago"),
        ({"minutes": 61}, "1 h ago"),
        ({"hours": 23}, "23 h ago"),
        ({"hours": 25}, "yesterday"),
        ({"days": 13}, "13 days ago"),
    ],
)
def test_ago(length, said):
    assert wording.ago(now() - timedelta(**length)) == said


def test_long_ago_is_a_date():
    assert wording.ago(datetime(2019, 3, 7, tzinfo=UTC)) == "7 Mar 2019"


def test_exact_is_in_utc():
    there = timezone(timedelta(hours=2))
    assert wording.exact(datetime(2026, 11, 21, 1, 30, tzinfo=there)) == "2026-11-20 23:30:00 UTC"
    assert wording.clock(datetime(2026, 11, 21, 1, 30, tzinfo=there)) == "23:30:00"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.0 s"),
        (0.71, "0.7 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7260, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_span(seconds, said):
    assert wording.span(seconds) == said
    assert wording.span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (734_003_200, "700 MiB"), (3 * 2**50, "3.0 PiB")],
)
def test_size(count, said):
    assert wording.size(count) == said


def test_every_state_has_a_word():
    assert set(wording.SESSION_STATES) == set(SessionState)
    assert set(wording.JOB_STATES) == set(JobState)


def test_pace_tells_rate_and_time_left():
    started = now() - timedelta(minutes=10)
    pace = Pace.of(made_up.job("job-a", "running", 100, 45, 5, started=started))
    assert pace.per_minute == pytest.approx(5, rel=0.05)
    assert pace.left.total_seconds() == pytest.approx(600, rel=0.05)


def test_pace_of_an_ended_job_stands_still_and_leaves_nothing():
    started = now() - timedelta(hours=3)
    pace = Pace.of(
        made_up.job("job-a", "done", 60, 60, started=started, ended=started + timedelta(minutes=1))
    )
    assert pace == Pace(timedelta(minutes=1), 60.0, None)


@pytest.mark.parametrize("more", [{"attempt": 2}, {"done": 2}, {"started": None}])
def test_pace_says_nothing_where_nobody_can_tell(more):
    job = made_up.job("job-a", "running", 100, more.pop("done", 50), **more)
    assert Pace.of(job).per_minute is None
    assert Pace.of(job).left is None
