from __future__ import annotations

import pytest
from pydantic import ValidationError

from cupola.config import Config, IdleSettings


def test_idle_sessions_are_hibernated_after_half_a_day_unless_somebody_says_otherwise():
    usual = Config().sessions
    assert (usual.guardian, usual.idle.hibernate_after, usual.idle.warn, usual.idle.longest) == (
        True,
        12 * 3600,
        600,
        None,
    )
    other = Config.model_validate({"sessions": {"guardian": False, "idle": {"hibernate_after_hours": 0}}})
    assert (other.sessions.guardian, other.sessions.idle.hibernate_after) == (False, None)
    assert Config.model_validate({"sessions": {"idle": None}}).sessions == usual
    assert IdleSettings(longest_hours=2.0).longest == 7200


@pytest.mark.parametrize(
    "wrong",
    [
        {"hibernate_after_hours": -1.0},
        {"hibernate_after_hours": float("nan")},
        {"hibernate_after_hours": "12 h"},
        {"warn_minutes": 0.0},
        {"longest_hours": 0.0},
        {"hibernate": 12},
    ],
)
def test_times_that_are_none_are_refused(wrong):
    with pytest.raises(ValidationError):
        Config.model_validate({"sessions": {"idle": wrong}})
