"""The small rules: variables, ends, prices, profiles."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cupola.config import NamedProfileSettings, PriceSettings, ProfileSettings
from cupola.exceptions import InputError
from cupola.models.base import now
from cupola.models.resources import Resources
from cupola.models.session import EndCause, Session, SessionEnd, SessionReport, SessionState
from cupola.platform.services.people.people import Profiles
from cupola.platform.services.prices import Prices, cost_so_far
from cupola.platform.services.sessions.ends import final_state, sentence
from cupola.platform.services.sessions.variables import check_variables

SIZE = Resources(cores=2, memory_mib=4096, gpus=1)


@pytest.mark.parametrize(
    "name",
    [
        *("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_", "JPY_API_TOKEN", "CUPOLA_API_URL", "CUPOLA_CLEAN"),
        *("PATH", "HOME", "USER", "LOGNAME", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP"),
    ],
)
def test_what_is_the_platforms_own_cannot_be_set_and_the_reason_is_told(name):
    with pytest.raises(InputError, match=f"The variable {name} cannot be set, since .*: leave it out"):
        check_variables({"FINE": "1", name: "x"})


@pytest.mark.parametrize(
    "variables",
    [
        {"": "x"},
        {"1ST": "x"},
        {"A-B": "x"},
        {"A B": "x"},
        {"A=B": "x"},
        {"Ä": "x"},
        {"A\n": "x"},
        {"A" * 101: "x"},
        {"A": "x\0y"},
        {"A": "x" * 4097},
        {f"A{number}": "x" for number in range(51)},
        {f"A{number}": "x" * 4000 for number in range(9)},
    ],
)
def test_malformed_variables_are_refused(variables):
    with pytest.raises(InputError):
        check_variables(variables)


def test_all_others_are_fine():
    check_variables({"GDAL_CACHEMAX": "512", "_x9": "", "path": "/x", "HTTPS_PROXY": "http://proxy:3128\nx"})


def report(end, state=SessionState.FAILED, message="It ended."):
    return SessionReport(state=state, message=message, end=end)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            SessionEnd(cause=EndCause.OUT_OF_MEMORY, peak_memory_mib=2040, memory_limit_mib=2048),
            ["more memory than the 2 GiB", "it had 1.99 GiB", "restart it bigger"],
        ),
        (SessionEnd(cause=EndCause.OUT_OF_MEMORY), ["more memory than it may have"]),
        (SessionEnd(cause=EndCause.CRASH, exit_code=3), ["exit code 3", "last lines"]),
        (SessionEnd(cause=EndCause.CRASH, exit_code=137, signal="SIGKILL"), ["the signal SIGKILL"]),
        (SessionEnd(cause=EndCause.NO_IMAGE), ["choose another version"]),
        (SessionEnd(cause=EndCause.QUOTA), ["delete files"]),
        (SessionEnd(cause=EndCause.TIMEOUT), ["did not answer in time"]),
        (SessionEnd(cause=EndCause.LOST), ["was gone", "is in your home"]),
        (SessionEnd(cause=EndCause.REFUSED), ["It ended."]),
        (None, ["It ended."]),
    ],
)
def test_each_end_has_a_sentence(end, words):
    said = sentence(report(end))
    assert all(word in said for word in words), said
    assert said.endswith(".")


def test_an_end_that_nobody_asked_for_is_a_failure_and_a_clean_exit_is_none():
    def state(cause, **more):
        return final_state(report(SessionEnd(cause=cause, **more), SessionState.STOPPED))

    assert state(EndCause.ASKED) is SessionState.STOPPED
    assert state(EndCause.CRASH, exit_code=0) is SessionState.STOPPED
    assert state(EndCause.CRASH, exit_code=0, signal="SIGKILL") is SessionState.FAILED
    assert state(EndCause.CRASH, exit_code=1) is SessionState.FAILED
    assert state(EndCause.OUT_OF_MEMORY, exit_code=137) is SessionState.FAILED
    assert final_state(report(None, SessionState.STOPPED)) is SessionState.STOPPED
    assert final_state(report(None, SessionState.STARTING)) is SessionState.STARTING


def session(**more):
    fields = {
        "id": "lab-1",
        "owner": "ada",
        "datalab": "lab",
        "version": "sha256:1",
        "title": "Lab",
        "state": "ready",
        "created": now(),
    }
    return Session(**{**fields, **more})


def test_a_session_costs_its_rate_from_ready_to_its_end():
    prices = Prices(PriceSettings(currency="EUR", core_hour=0.02, gib_hour=0.003, gpu_hour=0.9))
    rate = prices.rate(SIZE)
    assert rate == pytest.approx(0.04 + 0.012 + 0.9)
    begun = now() - timedelta(hours=5)
    assert cost_so_far(session(started=begun), rate, begun + timedelta(hours=2)) == pytest.approx(2 * rate)
    ended = session(started=begun, stopped=begun + timedelta(minutes=30), state="stopped")
    assert cost_so_far(ended, rate) == pytest.approx(rate / 2)
    assert cost_so_far(session(state="starting"), rate) == 0
    # Woken: what it had cost, and nothing for the time between.
    assert cost_so_far(session(state="starting"), rate, spent=7) == 7
    assert cost_so_far(ended, rate, spent=7) == pytest.approx(7 + rate / 2)
    assert cost_so_far(session(started=begun, stopped=begun - timedelta(hours=1)), rate) == 0


def test_without_prices_or_limits_nothing_costs_anything():
    assert Prices(PriceSettings()).rate(SIZE) is None
    assert Prices(PriceSettings(currency="EUR", core_hour=1)).rate(None) is None
    assert cost_so_far(session(started=now()), None) is None


def test_the_first_profile_that_fits_counts_and_leaves_the_rest_as_it_is():
    profiles = Profiles(
        ProfileSettings(sessions=5, cores=2, memory_mib=4096),
        [
            NamedProfileSettings(name="large", people=["ada"], teams=["mars"], cores=8, gpus=1, home_gib=50),
            NamedProfileSettings(name="class", teams=["course", "mars"], sessions=1),
        ],
    )
    assert profiles.of("eve", []).name == "default"
    large = profiles.of("ada", ["course"])
    assert (large.name, large.sessions, large.cores, large.memory_mib, large.gpus) == ("large", 5, 8, 4096, 1)
    assert large.home_gib == 50
    assert profiles.of("eve", ["mars"]).name == "large"
    assert profiles.of("eve", ["course"]).sessions == 1
