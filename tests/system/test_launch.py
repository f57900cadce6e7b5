"""Launches on a real platform: what was chosen arrives in the session, and nothing else does."""

from __future__ import annotations

import pytest

from cupola.exceptions import CupolaError
from cupola.models.resources import Resources
from cupola.models.session import LaunchRequest, SessionState
from support.platform import OWNER
from support.visits import signed_in

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]

READ = (
    "import os; print(os.environ.get('GDAL_CACHEMAX'), os.environ.get('EVIL'), os.environ['CUPOLA_SESSION'])"
)


async def ready(client, session):
    """Follow a session until it is ready."""
    async for _ in client.session_events(session):
        pass
    seen = await client.session(session)
    assert seen.state is SessionState.READY, seen.reason
    return seen


async def test_choices_arrive_and_a_restart_keeps_them(platform):
    async with signed_in(platform) as (visitor, client):
        wish = LaunchRequest(datalab="lab", environment={"GDAL_CACHEMAX": "512"}, title="Dust", clean=True)
        first = await ready(client, (await client.launch(wish)).id)
        kernel = await visitor.open_kernel(first)
        said = (await kernel.run(READ)).text
        await kernel.close()
        assert said.split() == ["512", "None", first.id]
        usage = await client.session_usage(first.id)
        assert usage.memory_mib > 10
        assert usage.processes >= 1
        assert await client.session_log(first.id)
        assert (await client.rename_session(first.id, "Storms")).title == "Storms"
        second = await client.restart_session(first.id)
        assert (await client.restart_session(first.id)).id == second.id
        seen = await ready(client, second.id)
        assert (seen.title, seen.clean, seen.environment) == ("Storms", True, {"GDAL_CACHEMAX": "512"})
        assert (await client.session(first.id)).state is SessionState.STOPPED
        assert (await visitor.http.get(f"/user/{OWNER}/{seen.id}/api")).status_code == 200
        await client.stop_session(seen.id)
        await visitor.wait_for(seen.id, SessionState.STOPPED)


@pytest.mark.row(25)
async def test_options_at_the_hub_itself_reach_nothing(platform, matrix):
    """The hub's own API and form take options from anybody; the spawner follows the portal's plan alone."""
    hostile = [
        {"image": "debian"},
        {"environment": {"EVIL": "1"}},
        {"cmd": ["sh", "-c", "id"]},
        {"plan": {}, "portal_url": "http://127.0.0.1:1"},
        {"cpu_limit": 64, "mem_limit": "1T"},
    ]
    accepted = 0
    async with signed_in(platform) as (visitor, client):
        token = visitor._cookie("_xsrf", "/hub/")
        for number, options in enumerate(hostile):
            answer = await visitor.http.post(
                f"/hub/api/users/{OWNER}/servers/lab-evil{number}",
                headers={"X-XSRFToken": token},
                json=options,
            )
            accepted += answer.is_success
            await visitor.http.post(
                f"/hub/spawn/{OWNER}/lab-evilform{number}?_xsrf={token}",
                data={key: str(value) for key, value in options.items()},
            )
            there = await visitor.http.get(f"/user/{OWNER}/lab-evilform{number}/api")
            accepted += there.status_code == 200
        for wish in (
            LaunchRequest(datalab="lab", resources=Resources(cores=4096, memory_mib=512)),
            LaunchRequest(datalab="lab", environment={"LD_PRELOAD": "x.so"}),
            LaunchRequest(datalab="lab", version="debian:bookworm"),
        ):
            try:
                await client.launch(wish)
            except CupolaError:
                continue
            accepted += 1
    matrix("servers started with options given to the hub", accepted, limit=0)
