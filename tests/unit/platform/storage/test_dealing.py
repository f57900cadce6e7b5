from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.platform.storage.localpool.dealing import HALF_LIFE_S, Claim, Usage, deal


def claim(job, share, *, cpus=1, most=100):
    return Claim(job, share, cpus, most)


@pytest.mark.parametrize(
    ("claims", "cores", "used", "dealt"),
    [
        ([claim("a", "ada")], 4, {}, {"a": 4}),
        ([claim("a", "ada"), claim("b", "ada"), claim("e", "eve")], 4, {}, {"a": 1, "b": 1, "e": 2}),
        ([claim("a", "ada", most=1), claim("e", "eve")], 4, {}, {"a": 1, "e": 3}),
        # One core: whoever has used less lately comes first, and else the older job.
        ([claim("a", "ada"), claim("e", "eve")], 1, {"ada": 9.0, "eve": 5.0}, {"a": 0, "e": 1}),
        ([claim("a", "ada"), claim("e", "eve")], 1, {}, {"a": 1, "e": 0}),
        ([claim("a", "ada", cpus=2), claim("e", "eve")], 3, {}, {"a": 1, "e": 1}),
        ([claim("a", "ada", cpus=8), claim("e", "eve")], 4, {}, {"a": 0, "e": 4}),
    ],
)
def test_people_come_first_and_their_jobs_second(claims, cores, used, dealt):
    assert deal(claims, cores, used) == dealt


@given(
    st.lists(
        st.builds(
            claim,
            st.integers(0, 99).map(str),
            st.sampled_from(["ada", "eve", "mars"]),
            cpus=st.integers(1, 4),
            most=st.integers(0, 9),
        ),
        max_size=9,
        unique_by=lambda one: one.job,
    ),
    st.integers(0, 16),
)
def test_no_more_is_dealt_than_there_is_and_nothing_lies_idle(claims, cores):
    dealt = deal(claims, cores, {})
    left = cores - sum(dealt[one.job] * one.cpus for one in claims)
    assert left >= 0
    assert not any(dealt[one.job] < one.most and one.cpus <= left for one in claims)


def test_half_of_what_was_used_is_forgotten():
    usage = Usage()
    usage.add({"ada": 2}, 0.0)
    usage.add({"ada": 2}, 100.0)
    assert usage.used == {"ada": 200.0}
    usage.add({}, 100.0 + HALF_LIFE_S)
    assert usage.used == {"ada": pytest.approx(100.0)}
