from __future__ import annotations

import threading

import pytest

from cupola.exceptions import UnavailableError
from cupola.platform.storage.htcondor.call import Agent


class Door:
    """A lock that tells how many stand before it."""

    def __init__(self):
        self._lock, self.came = threading.Lock(), threading.Semaphore(0)

    def __enter__(self):
        self.came.release()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


class Hanging(Agent):
    """Its first call hangs until it is let go; later ones are answered."""

    def __init__(self, config):
        super().__init__({"CONDOR_CONFIG": str(config)})
        self.asked, self.over, self._lock = 0, threading.Event(), Door()

    def _running(self):
        return None

    def _exchange(self, _child, _line):
        self.asked += 1
        if self.asked > 1:
            return {"cluster": 7}
        assert self.over.wait(60)
        raise TimeoutError("no answer in 20 s")


def test_who_waits_behind_a_call_that_hangs_does_not_hang_as_long_again(tmp_path):
    (tmp_path / "config").touch()
    agent, told = Hanging(tmp_path / "config"), []

    def ask():
        try:
            told.append(agent.ask("submit"))
        except UnavailableError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for _ in threads:
        assert agent._lock.came.acquire(timeout=60)
    agent.over.set()
    for one in threads:
        one.join(60)
    assert [said.partition(":")[0] for said in told] == ["HTCondor does not answer (no answer in 20 s)"] * 4
    assert agent.asked == 1
    assert agent.ask("submit") == {"cluster": 7}, "the next one asks anew"
    with pytest.raises(UnavailableError, match="is not there"):
        Agent({"CONDOR_CONFIG": str(tmp_path / "none")}).ask("submit")
