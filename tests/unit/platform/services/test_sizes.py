from __future__ import annotations

import pytest

from cupola.exceptions import LimitError
from cupola.models.person import Profile
from cupola.models.resources import Capacity, Resources
from cupola.platform.services.amounts import size_text
from cupola.platform.services.sessions.sizes import (
    bigger,
    check_profile,
    core_steps,
    lowered,
    memory_steps,
    most,
)

PROFILE = Profile(name="small", cores=4, memory_mib=8192, gpus=1)


def size(cores=1.0, memory_mib=1024, gpus=0):
    return Resources(cores=cores, memory_mib=memory_mib, gpus=gpus)


def capacity(**more):
    fields = {
        "total_cores": 32,
        "most_cores": 8,
        "total_memory_mib": 16384,
        "total_gpus": 2,
        "free_cores": 32,
        "free_memory_mib": 16384,
        "free_gpus": 2,
    }
    return Capacity(**{**fields, **more})


def test_the_most_is_what_profile_and_machine_both_have():
    assert most(PROFILE, capacity()) == size(4, 8192, 1)
    assert most(PROFILE, capacity(most_cores=2, total_memory_mib=4096, total_gpus=0)) == size(2, 4096, 0)


@pytest.mark.parametrize(
    ("wished", "sentence"),
    [
        (size(cores=5), "wants 5 cores and your profile small allows 4 cores"),
        (size(memory_mib=8193), "wants 8 GiB and your profile small allows 8 GiB"),
        (size(gpus=2), "wants 2 GPUs and your profile small allows 1 GPU"),
    ],
)
def test_more_than_the_profile_is_refused_with_the_way_out(wished, sentence):
    with pytest.raises(LimitError, match=sentence) as raised:
        check_profile(PROFILE, wished)
    assert "choose less" in str(raised.value)


def test_just_the_profile_is_allowed():
    check_profile(PROFILE, size(4, 8192, 1))


def test_what_is_lowered_is_told_thing_by_thing():
    fits, notes = lowered(size(64, 4096, 3), size(8, 8192, 1))
    assert fits == size(8, 4096, 1)
    assert notes == [
        "Lowered from 64 cores to 8 cores, the most that you may have here.",
        "Lowered from 3 GPUs to 1 GPU, the most that you may have here.",
    ]
    assert lowered(size(), size(8, 8192)) == (size(), [])


@pytest.mark.parametrize(
    ("had", "free", "gets"),
    [
        (1024, 16384, 2048),
        (6144, 16384, 8192),  # the profile ends there
        (4096, 6000, 5888),  # what is free, in whole steps
        (3000, 3100, None),
        (4096, 2048, None),
        (8192, 16384, None),
    ],
)
def test_the_next_size_is_twice_the_memory_or_what_there_is_of_it(had, free, gets):
    told = bigger(size(2, had), size(4, 8192), free, "small")
    assert (told.resources and told.resources.memory_mib) == gets
    assert bool(told.why_not) == (gets is None)
    if gets is not None:
        assert told.resources.cores == 2


def test_a_profile_that_allows_no_more_is_named():
    told = bigger(size(2, 8192), size(4, 8192), 16384, "small")
    assert told.why_not == "It had 8 GiB, and your profile small allows no more."


def test_the_steps_hold_the_largest_and_the_wished_amount():
    assert core_steps(3, 1.5, None, 64) == [0.25, 0.5, 1, 1.5, 2, 3]
    assert memory_steps(3000, 700) == [512, 700, 1024, 2048, 3000]
    assert core_steps(0.1) == [0.1]


def test_a_size_in_words():
    assert size_text(size(1, 512)) == "1 core, 512 MiB"
    assert size_text(size(2.5, 3584, 2)) == "2.5 cores, 3.5 GiB, 2 GPUs"
