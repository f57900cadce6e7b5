from __future__ import annotations

import os
import signal

import pytest

from cupola.lab.jobs import cores as module
from cupola.lab.jobs.cores import Cores


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


def test_a_job_with_its_share_leaves_a_free_core_to_the_others_first(folder, monkeypatch):
    monkeypatch.setattr(module, "COURTESY", 3600)
    one, two = Cores(folder, "job-1"), Cores(folder, "job-2")
    one.wish()
    two.wish()
    assert [bool(one.take(1)) for _ in range(3)] == [True, True, False]
    assert [bool(two.take(1)) for _ in range(3)] == [True, True, False]


def test_cores_that_nobody_wants_are_taken_after_a_moment(folder, monkeypatch):
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
