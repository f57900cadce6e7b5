from __future__ import annotations

import fcntl
import os
import signal
import time

import pytest

from cupola.lab.jobs import cores as module
from cupola.lab.jobs.cores import Cores, used_lately


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        (tmp_path / f"core-{number}").touch()
    return tmp_path


def test_no_more_cores_are_given_than_there_are(folder):
    one = Cores(folder, "job-1")
    assert all(one.take(1) for _ in range(4))
    assert one.take(1) is None
    assert Cores(folder, "job-2").take(1) is None


def test_given_back_cores_can_be_taken(folder):
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    taken = [one.take(1) for _ in range(4)]
    one.give(taken[0])
    assert two.take(1) == taken[0]


def test_two_jobs_that_want_all_get_half_each(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    one.wish()
    two.wish()
    assert [bool(one.take(1)) for _ in range(3)] == [True, True, False]
    assert [bool(two.take(1)) for _ in range(3)] == [True, True, False]


def test_ten_jobs_of_one_get_as_much_as_one_job_of_another(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    many = [Cores(folder, f"job-{number}", "person-ada") for number in range(10)]
    single = Cores(folder, "job-x", "person-eve")
    for job in (*many, single):
        job.wish()
    assert sum(bool(job.take(1)) for _ in range(4) for job in many) == 2
    assert [bool(single.take(1)) for _ in range(3)] == [True, True, False]


def test_the_jobs_of_one_person_share_alike(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    one, two = Cores(folder, "job-1", "person-ada"), Cores(folder, "job-2", "person-ada")
    one.wish()
    two.wish()
    assert sum(bool(one.take(1)) for _ in range(4)) == 2
    assert sum(bool(two.take(1)) for _ in range(4)) == 2


def test_of_two_with_as_much_whoever_used_less_lately_is_next(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    (folder / "used-person-ada").write_text(f"100 {time.time()}")
    (folder / "used-person-eve").write_text(f"101 {time.time()}")
    for number in range(3):
        (folder / f"core-{number}").unlink()
    ada, eve = Cores(folder, "job-1", "person-ada"), Cores(folder, "job-2", "person-eve")
    ada.wish()
    eve.wish()
    assert eve.take(1) is None
    assert ada.take(1)


def test_what_was_used_is_noted_and_half_of_it_forgotten(folder, monkeypatch):
    moments = {"monotonic": 5000.0, "time": 1e9}
    for clock in tuple(moments):
        monkeypatch.setattr(module.time, clock, lambda clock=clock: moments[clock])
    ada = Cores(folder, "job-1", "person-ada")
    taken = ada.take(2)
    moments["monotonic"] += 100
    ada.give(taken)
    assert used_lately(folder, "person-ada") == pytest.approx(200)
    moments["time"] += module.HALF_LIFE_S
    assert used_lately(folder, "person-ada") == pytest.approx(100)


def test_a_clock_that_was_set_back_or_a_foreign_note_costs_nothing(folder):
    (folder / "used-person-ada").write_text(f"100 {time.time() + 9999}")
    (folder / "used-person-eve").write_text("what is this?")
    assert used_lately(folder, "person-ada") == 100
    assert used_lately(folder, "person-eve") == 0
    (folder / "wish-job-9").write_text("nonsense")
    with (folder / "wish-job-9").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        one = Cores(folder, "job-1")
        one.wish()
        assert one.take(1)


def test_a_name_that_is_no_file_name_has_a_share_too(folder):
    one = Cores(folder, "job-1", "person-a b/../c@d")
    one.wish()
    one.give(one.take(1))
    assert [file.name for file in folder.glob("used-*")] == ["used-person-a%20b%2F..%2Fc%40d"]
    two = Cores(folder, "job-2", "person-eve")
    two.wish()
    assert two.take(1)


def test_cores_that_nobody_takes_are_taken_after_a_moment(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 0)
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    one.wish()
    two.wish()
    assert all(one.take(1) for _ in range(4))


def test_a_content_job_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    one.wish()
    two.wish()
    two.content()
    assert all(one.take(1) for _ in range(4))


def test_a_wide_task_collects_cores_as_they_become_free(folder):
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    taken = [one.take(1) for _ in range(4)]
    two.wish()
    assert two.take(3) is None
    for cores in taken[:3]:
        one.give(cores)
        one.wish()
        last = two.take(3)
    assert len(last) == 3


def test_only_one_job_collects_so_that_none_waits_for_ever(folder):
    one, two, three = (Cores(folder, f"job-{n}") for n in range(3))
    for job in (one, two, three):
        job.wish()
    taken = one.take(1)
    assert two.take(4) is None
    assert three.take(3) is None
    one.give(taken)
    assert len(two.take(4)) == 4


def test_what_was_collected_is_given_back_when_it_is_not_wanted(folder):
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    taken = one.take(1)
    assert two.take(4) is None
    two.content()
    one.give(taken)
    assert len(one.take(4)) == 4


def test_the_kernel_gives_back_the_cores_of_a_killed_job(folder):
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        other = Cores(folder, "job-2")
        other.wish()
        while other.take(1):
            pass
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    one = Cores(folder, "job-1")
    assert one.take(1) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Its wish is seen to be dead, too: else this job would take its share only.
    assert all(one.take(1) for _ in range(4))
    for descriptor in (ready, tell):
        os.close(descriptor)
