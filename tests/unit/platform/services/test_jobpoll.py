from __future__ import annotations

import asyncio

import pytest

from cupola.exceptions import UnavailableError
from cupola.models.job import TaskState
from cupola.platform.services.jobs.polls import Polls
from cupola.platform.storage.engine import Array

pytestmark = pytest.mark.asyncio


class Scheduler:
    """Knows the arrays whose native id is even, and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.answers = True

    def poll(self, arrays):
        self.asked.append([native for _, native in arrays])
        if not self.answers:
            raise UnavailableError("no answer")
        return {array.tag: {0: TaskState.RUNNING} for array, native in arrays if int(native) % 2 == 0}


@pytest.fixture
def array(tmp_path):
    return lambda number: Array(tag=f"job-{number}", folder=tmp_path, python=tmp_path, tasks=1)


async def test_many_questions_become_one(array):
    scheduler = Scheduler()
    polls = Polls(scheduler)
    told = await asyncio.gather(*(polls.ask(array(number), str(number)) for number in range(50)))
    assert told == [{0: TaskState.RUNNING}, None] * 25
    assert scheduler.asked == [[str(number) for number in range(50)]]
    assert await polls.ask(array(2), "2") == {0: TaskState.RUNNING}
    assert len(scheduler.asked) == 2


async def test_one_who_gives_up_takes_the_question_from_nobody(array):
    polls = Polls(Scheduler())
    first, second = (asyncio.create_task(polls.ask(array(number), str(number))) for number in (2, 4))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {0: TaskState.RUNNING}


async def test_an_answer_that_does_not_come_is_told_to_all_and_asked_for_anew(array):
    scheduler = Scheduler()
    scheduler.answers = False
    polls = Polls(scheduler)
    told = await asyncio.gather(*(polls.ask(array(n), str(n)) for n in (2, 4)), return_exceptions=True)
    assert [type(one) for one in told] == [UnavailableError, UnavailableError]
    scheduler.answers = True
    assert await polls.ask(array(2), "2") == {0: TaskState.RUNNING}
