"""Somebody at a running platform: signed in, with sessions and kernels."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

from cupola.client import AsyncClient
from cupola.models.session import LaunchRequest, SessionState
from cupola.monitor.visitor import Visitor
from support.platform import OWNER

PATIENCE = 180


async def until(question, what, seconds=PATIENCE):
    """Wait until `question` (a function, async or not) says yes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = question()
        if asyncio.iscoroutine(said):
            said = await said
        if said:
            return said
        await asyncio.sleep(0.1)
    raise AssertionError(f"this did not happen in {seconds} s: {what}")


@asynccontextmanager
async def signed_in(platform):
    """A visitor who has signed in, and a client of the portal with a token of theirs."""
    async with Visitor(platform.address) as visitor:
        await visitor.sign_in(platform.link())
        await visitor.http.get("/hub/token")
        answer = await visitor.http.post(
            f"/hub/api/users/{OWNER}/tokens",
            headers={"X-XSRFToken": visitor._cookie("_xsrf", "/hub/")},
            json={"note": "test"},
        )
        async with AsyncClient(f"{platform.address}/services/cupola/api", answer.json()["token"]) as client:
            yield visitor, client


@asynccontextmanager
async def kernel_in(visitor, session):
    async with asyncio.timeout(PATIENCE):
        kernel = await visitor.open_kernel(session)
    try:
        yield kernel
    finally:
        await kernel.close()


async def launch(client, **request):
    session = await client.launch(LaunchRequest(datalab="lab", **request))
    async for _ in client.session_events(session.id):
        pass
    seen = await client.session(session.id)
    assert seen.state is SessionState.READY, seen.reason
    return seen


async def portal_answers(client):
    try:
        return bool(await client.me())
    except Exception:  # noqa: BLE001 - whatever it says while it is away
        return False
