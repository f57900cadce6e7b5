from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.config import TeamSettings
from cupola.exceptions import LimitError, NotAllowedError
from cupola.models.job import JobRequest
from cupola.models.person import Person, Profile
from cupola.models.team import Role
from cupola.platform.builders.jobshare import Share, Taking, room, shares
from cupola.platform.services.jobs.shares import JobLimits, most_at_once
from cupola.platform.storage.engine import Capacity


def job(name, *, cpus=1, most=100, given=0, running=0):
    return Taking(name, cpus=cpus, most=most, given=given, running=running)


@pytest.mark.parametrize(
    ("jobs", "cores", "dealt"),
    [
        ([job("a")], 8, {"a": 8}),
        ([job("a"), job("b")], 8, {"a": 4, "b": 4}),
        ([job("a"), job("b"), job("c")], 8, {"a": 3, "b": 3, "c": 2}),
        ([job("a", most=1), job("b")], 8, {"a": 1, "b": 7}),
        ([job("a", cpus=4), job("b")], 8, {"a": 1, "b": 4}),
        # More jobs than cores: the first ones have one task each, the others wait.
        ([job("a"), job("b"), job("c")], 2, {"a": 1, "b": 1, "c": 0}),
        # Behind a wide one that finds no room nobody is let past, so that its turn comes.
        ([job("a"), job("wide", cpus=4), job("c")], 4, {"a": 4, "wide": 0, "c": 0}),
        # One that can never run, as the limit was lowered, is not waited for.
        ([job("wide", cpus=4), job("b")], 2, {"wide": 0, "b": 2}),
        ([], 4, {}),
    ],
)
def test_cores_are_divided(jobs, cores, dealt):
    assert shares(jobs, cores) == dealt


def test_what_one_gains_others_have_given_back():
    old, new = job("old", given=4, running=4), job("new")
    assert room([old, new], 4) == {"old": 2, "new": 0}
    # It could begin another one before it hears of it.
    assert room([job("old", given=4, running=1), new], 4) == {"old": 2, "new": 0}
    old = job("old", given=2, running=3)
    assert room([old, new], 4) == {"old": 2, "new": 1}
    old = job("old", given=2, running=2)
    assert room([old, job("new", given=1, running=1)], 4) == {"old": 2, "new": 2}


def test_a_limit_that_was_lowered_lets_running_tasks_end():
    assert room([job("a", given=8, running=8)], 3) == {"a": 3}
    assert room([job("a", given=3, running=5), job("b", given=0)], 3) == {"a": 2, "b": 0}


takings = st.lists(
    st.builds(
        job,
        st.integers(0, 10**6).map(str),
        cpus=st.integers(1, 8),
        most=st.integers(1, 20),
        given=st.integers(0, 20),
        running=st.integers(0, 20),
    ),
    max_size=12,
    unique_by=lambda one: one.job,
)


@given(takings, st.integers(1, 64))
def test_shares_never_exceed_the_limit_and_leave_nobody_behind(jobs, cores):
    dealt = shares(jobs, cores)
    assert sum(dealt[one.job] * one.cpus for one in jobs) <= cores
    assert all(0 <= dealt[one.job] <= one.most for one in jobs)
    # One each, in order, as far as they go: whoever is first always has something.
    jobs = [one for one in jobs if one.cpus <= cores]
    waits = [one for one in jobs if not dealt[one.job]]
    if jobs:
        assert dealt[jobs[0].job] >= 1
    if waits:
        before = jobs[: jobs.index(waits[0])]
        assert sum(one.cpus for one in before) + waits[0].cpus > cores
    # Nothing is left over that somebody with a task could use.
    left = cores - sum(dealt[one.job] * one.cpus for one in jobs)
    assert not any(0 < dealt[one.job] < one.most and one.cpus <= left for one in jobs)


@given(takings, st.integers(1, 64))
def test_no_more_may_run_than_the_limit_or_what_runs_already(jobs, cores):
    allowed, wanted = room(jobs, cores), shares(jobs, cores)
    could = sum(max(allowed[one.job], one.given, one.running) * one.cpus for one in jobs)
    assert could <= max(cores, sum(max(one.given, one.running) * one.cpus for one in jobs))
    assert all(allowed[one.job] <= wanted[one.job] for one in jobs)


@given(takings, st.integers(1, 64))
def test_when_tasks_end_everybody_comes_to_their_share(jobs, cores):
    wanted = shares(jobs, cores)
    for _ in range(2):
        allowed = room(jobs, cores)
        jobs = [
            job(one.job, cpus=one.cpus, most=one.most, given=allowed[one.job], running=allowed[one.job])
            for one in jobs
        ]
    assert room(jobs, cores) == wanted


def ask(*, cpus=1, memory_mib=512):
    return JobRequest(name="x", payload=b"", labels=["a"], python="3.11", cpus=cpus, memory_mib=memory_mib)


ADA = Person(name="ada", profile=Profile(cores=2, memory_mib=4096))
POOL = Capacity(cores=400, memory_mib=65536, widest=32)


def test_a_pool_is_not_limited_to_the_cores_of_one_session():
    assert most_at_once(ask(), ADA, POOL, Share("person", "ada"), one=False) == 400
    assert most_at_once(ask(cpus=2), ADA, POOL, Share("person", "ada", cores=16), one=False) == 8


def test_one_machine_divides_its_memory():
    here = Capacity(cores=8, memory_mib=4096)
    assert most_at_once(ask(memory_mib=2048), ADA, here, Share("person", "ada"), one=True) == 2


def test_what_no_task_may_ask_for_is_refused():
    person = Share("person", "ada", cores=1)
    with pytest.raises(LimitError, match=r"asks for 4 cores and you may use 2"):
        most_at_once(ask(cpus=4), ADA, POOL, person, one=False)
    with pytest.raises(LimitError, match=r"8,192 MiB of memory and you may use 4,096"):
        most_at_once(ask(memory_mib=8192), ADA, POOL, person, one=False)
    with pytest.raises(LimitError, match=r"asks for 2 cores, and all your jobs may use 1 at a time"):
        most_at_once(ask(cpus=2), ADA, POOL, person, one=False)
    with pytest.raises(LimitError, match=r"the jobs of the team mars may use 1 at a time"):
        most_at_once(ask(cpus=2), ADA, POOL, Share("team", "mars", cores=1), one=False)


@pytest.mark.asyncio
async def test_who_may_compute_for_a_team_and_what_it_counts_for():
    roles = {("ada", "mars"): Role.MEMBER, ("eve", "mars"): Role.READER, ("ada", "moon"): Role.OWNER}

    async def role_of(person, team):
        return roles.get((person, team))

    async def profile_of(_person):
        return Profile(cores=2, memory_mib=4096, job_cores=3, core_hours=7)

    teams = [TeamSettings(name="mars", job_cores=100)]
    limits = JobLimits(profile_of=profile_of, role_of=role_of, teams=teams)
    await limits.check("ada", "mars")
    await limits.check("eve", None)
    with pytest.raises(NotAllowedError, match="only read in the team mars"):
        await limits.check("eve", "mars")
    with pytest.raises(NotAllowedError, match="in no team 'moon'"):
        await limits.check("eve", "moon")
    assert await limits.of("ada", "mars") == Share("team", "mars", cores=100)
    # A team that nobody gave a share gives none: else each new team would be a way around the limit.
    assert await limits.of("ada", "moon") == Share("person", "ada", cores=3, hours=7)
