"""The process driver on its own: starts, ends with their causes, and what a new hub finds."""

from __future__ import annotations

import asyncio
import sys

import pytest

from cupola.hub.drivers.base import NotStartedError
from cupola.hub.drivers.process import SessionProcess
from cupola.models.session import EndCause, Plan, ProcessPlan

SERVE = (
    "import os, socket, time\n"
    "print('here I am', flush=True)\n"
    "server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
    "time.sleep(60)"
)


def plan_of(folder, code):
    process = ProcessPlan(
        command=[sys.executable, "-c", code],
        environment={},
        folder=folder / "home",
        log=folder / "log" / "sessions" / "lab-1.log",
    )
    return Plan(
        session="lab-1", owner="ada", datalab="lab", version="v", ready_path="/", mounts=[], process=process
    )


async def start(folder, code, seconds=30):
    driver, plan = SessionProcess("lab-1", folder / "records"), plan_of(folder, code)
    _, port = driver.listens(plan)
    place = await driver.start(plan, {"PORT": str(port)})
    assert (place.host, place.port) == ("127.0.0.1", port)
    try:
        await driver.wait_for_port(seconds)
    except NotStartedError:
        await driver.stop()  # as the hub does
        raise
    return driver


async def ended(driver):
    while (end := await driver.ended()) is None:  # noqa: ASYNC110 - as the hub asks
        await asyncio.sleep(0.02)
    return end


@pytest.mark.asyncio
async def test_a_session_starts_is_found_by_a_new_hub_and_stops(tmp_path):
    driver = await start(tmp_path, SERVE)
    assert await driver.ended() is None
    found = SessionProcess("lab-1", tmp_path / "records")
    found.load(driver.state())
    assert await found.ended() is None
    unnoted = SessionProcess("lab-1", tmp_path / "records")
    unnoted.load({})
    assert unnoted.known == driver.known
    assert (await found.stop()).cause is EndCause.ASKED
    assert await ended(driver)


@pytest.mark.asyncio
async def test_a_killed_session_tells_its_signal_and_its_last_words(tmp_path):
    driver = await start(tmp_path, SERVE)
    driver.known.find().kill()
    end = await ended(driver)
    assert (end.cause, end.signal) == (EndCause.CRASH, "SIGKILL")
    assert end.log == ["here I am"]


@pytest.mark.asyncio
async def test_a_start_that_fails_says_why(tmp_path):
    with pytest.raises(NotStartedError, match=r"exit code 3 while it started.*no way") as caught:
        await start(tmp_path, "import sys; print('no way'); sys.exit(3)")
    assert caught.value.end.cause is EndCause.CRASH
    assert caught.value.end.exit_code == 3
    with pytest.raises(NotStartedError, match="did not answer") as caught:
        await start(tmp_path, "import time; time.sleep(60)", seconds=0.2)
    assert caught.value.end.cause is EndCause.TIMEOUT


@pytest.mark.asyncio
async def test_a_full_or_wrong_folder_is_said(tmp_path):
    (tmp_path / "home").write_text("no folder")
    with pytest.raises(NotStartedError, match="cannot be started") as caught:
        await start(tmp_path, SERVE)
    assert caught.value.end.cause is EndCause.REFUSED
