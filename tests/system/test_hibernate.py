"""Idle sessions on a real platform: announced, warned, hibernated and woken; whatever computes stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

import pytest
import websockets

from cupola.exceptions import ConflictError
from cupola.models.session import LaunchRequest, SessionState
from support.jobs_service import request
from support.visits import kernel_in, launch, portal_answers, signed_in, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]

SETTINGS = "sessions:\n  idle:\n    hibernate_after_hours: 0.01\n    warn_minutes: 0.25\n"
"""After 36 s without activity, announced 15 s before."""


@pytest.fixture
def platform(new_platform):
    made = new_platform(settings=SETTINGS)
    made.start()
    return made


@contextlib.asynccontextmanager
async def at_work(visitor, session):
    """Let a program run in a terminal of a session; nobody looks at it."""
    await visitor.get(session.url)
    place = f"/user/{session.owner}/{session.id}/"
    mark = {"X-XSRFToken": visitor._cookie("_xsrf", place)}
    answer = await visitor.http.post(f"{place}api/terminals", headers=mark)
    name = answer.raise_for_status().json()["name"]
    cookies = "; ".join(f"{key}={value}" for key, value in visitor._cookies(place))
    address = visitor.address.replace("http", "ws", 1)
    async with websockets.connect(
        f"{address}{place}terminals/websocket/{name}",
        additional_headers={"Cookie": cookies},
        origin=visitor.address,
    ) as wire:
        await wire.send(json.dumps(["stdin", "sleep 1000\r"]))
        async with asyncio.timeout(60):
            while "sleep 1000" not in await wire.recv():
                pass
    yield


async def hibernated(client, session):
    async def asleep():
        found = await client.session(session)
        return found if found.hibernated and found.state is SessionState.STOPPED else None

    return await until(asleep, f"{session} is hibernated", 300)


async def announced(client, session):
    async def planned():
        return (await client.session(session)).planned

    return await until(planned, f"the stop of {session} is announced", 300)


def never_ends():
    import time

    time.sleep(1000)


async def test_an_idle_session_is_hibernated_and_woken_and_what_computes_stays(platform):
    async with signed_in(platform) as (visitor, client):
        computes = await launch(client, title="computes")
        async with kernel_in(visitor, computes) as kernel:
            running = asyncio.create_task(kernel.run("import time; time.sleep(1000)"))
            types = await launch(client, title="terminal")
            async with at_work(visitor, types):
                waits = await launch(client, title="job")
                job = await client.submit(request(lambda _: never_ends(), [0], session=waits.id))
                idle = await launch(client, title="idle")
                plan = await announced(client, idle.id)
                assert plan.kind == "hibernate"
                assert plan.keepable
                page = (await visitor.http.get("/services/cupola/sessions")).text
                assert "Keep it running" in page
                found = await hibernated(client, idle.id)
                assert "without activity" in found.reason
                assert "variables" in found.reason
                for other in (computes, types, waits):
                    seen = await client.session(other.id)
                    assert (seen.state, seen.planned) == (SessionState.READY, None), other.title
                assert not running.done()
                first, second = await asyncio.gather(
                    client.wake_session(idle.id), client.wake_session(idle.id)
                )
                assert first.id == second.id == idle.id
                async for _ in client.session_events(first.id):
                    pass
                woken = await client.session(first.id)
                assert (woken.state, woken.title) == (SessionState.READY, "idle")
                assert (woken.hibernated, woken.reason) == (None, None)
            await client.act(job.id, "cancel")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_what_was_announced_outlives_the_portal_and_can_be_put_off(platform):
    async with signed_in(platform) as (_, client):
        session = await launch(client)
        await announced(client, session.id)
        portal = next(one for one in platform.processes() if one.cmdline()[-1:] == ["cupola.platform"])
        os.kill(portal.pid, signal.SIGKILL)
        await until(lambda: not portal.is_running(), "the portal is dead")
        await until(lambda: portal_answers(client), "the portal is there again")
        found = await client.session(session.id)
        assert found.state is SessionState.READY
        await announced(client, session.id)
        kept = await client.keep_session(session.id)
        assert kept.planned is None
        asked = await client.hibernate_session(session.id)
        assert asked.planned
        found = await hibernated(client, session.id)
        assert found.reason.startswith("Hibernated by ")
        with pytest.raises(ConflictError, match="wake"):
            await client.keep_session(session.id)


async def test_the_end_of_the_platform_is_announced_and_everything_can_be_woken(new_platform):
    platform = new_platform()
    platform.start()
    async with signed_in(platform) as (_, client):
        session = (await launch(client)).id
        down = await asyncio.create_subprocess_exec(
            *down_command(platform, "--in", "20 s", "--reason", "new disks"),
            stdout=asyncio.subprocess.PIPE,
            env=platform.environment(),
            cwd=platform.folder,
        )
        plan = await announced(client, session)
        assert (plan.kind, plan.keepable) == ("maintenance", False)
        assert plan.reason == "The platform stops for maintenance: new disks."
        said, _ = await down.communicate()
        assert down.returncode == 0, said
    assert not platform.process.poll()
    platform.start()
    async with signed_in(platform) as (_, client):
        found = await client.session(session)
        assert found.hibernated, found.reason
        assert "new disks" in found.reason
        assert await client.maintenance() is None
        woken = await client.wake_session(session)
        assert woken.id == session
        late = await client.launch(LaunchRequest(datalab="lab"))
        assert late.planned is None


def down_command(platform, *options):
    import sys

    return [sys.executable, "-m", "cupola.cli", "down", "--config", str(platform.config_file), *options]
