from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from cupola.exceptions import InputError
from cupola.lab.jobs.options import asked, mib, request, seconds


def fields(**options):
    return asked(options, find=lambda name: f"id-of-{name}")


@pytest.mark.parametrize(
    ("said", "found"),
    [("2 GiB", 2048), ("512MiB", 512), ("1.5 GB", 1431), ("1 TiB", 2**20), (700, 700), ("1000000 kB", 954)],
)
def test_amounts_of_memory(said, found):
    assert mib(said) == found


@pytest.mark.parametrize("said", ["2", "much", "2 apples", True, None, "-1 GiB"])
def test_what_is_no_amount_of_memory(said):
    with pytest.raises(InputError, match="write '2 GiB' or a number of MiB"):
        mib(said)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("30 min", 1800),
        ("2 h", 7200),
        ("2hours", 7200),
        ("1 h 30 min", 5400),
        ("1.5 Hours", 5400),
        ("1 day", 86400),
        ("90s", 90),
        ("01:30:05", 5405),
        (90, 90),
        (0.5, 1),
        (timedelta(minutes=3), 180),
    ],
)
def test_lengths_of_time(said, found):
    assert seconds(said) == found


@pytest.mark.parametrize(
    "said",
    ["", "30", "soon", "3 apples", "2 h and", 0, -1, True, float("inf"), float("nan"), [1], timedelta()],
)
def test_what_is_no_length_of_time(said):
    with pytest.raises(InputError, match="is no length of time: write '30 min', '2 h'"):
        seconds(said)


def test_what_was_not_said_the_request_decides():
    assert fields() == {"after": []}
    assert fields(time=None, engine=None) == {"after": [], "engine": None}
    assert fields(memory="2 GiB", time="1 min", gpus=1) == {
        "memory_mib": 2048,
        "time_s": 60,
        "gpus": 1,
        "after": [],
    }


def test_after_is_a_job_an_id_a_name_or_several():
    job = SimpleNamespace(id="job-1")
    assert fields(after=job)["after"] == ["id-of-job-1"]
    assert fields(after="ndvi")["after"] == ["id-of-ndvi"]
    assert fields(after=[job, "ndvi"])["after"] == ["id-of-job-1", "id-of-ndvi"]
    for wrong in (3, [None], [""]):
        with pytest.raises(InputError, match="is no job: give a job, its id or its name"):
            fields(after=wrong)


def test_an_unknown_option_is_told_with_the_nearest():
    with pytest.raises(InputError, match="no option 'cpu' of a job: did you mean cpus"):
        fields(cpu=2)
    with pytest.raises(InputError, match="no option 'colour' of a job: use cpus, memory"):
        fields(colour=2)


def test_a_value_that_is_not_possible_is_named_as_it_was_said():
    said = {"name": "x", "payload": b"", "labels": ["a"], "python": "3.11"}
    with pytest.raises(
        InputError, match=r"^memory=1 is not possible: input should be greater than or equal to 16"
    ):
        request(**said, memory_mib=1)
    with pytest.raises(InputError, match=r"^engine='Not One' is not possible"):
        request(**said, engine="Not One")
