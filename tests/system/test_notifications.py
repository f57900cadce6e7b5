"""The end of a real job is told by mail and webhook, whatever kills the portal when."""

from __future__ import annotations

import asyncio
import re
import threading

import httpx
import pytest

from support.jobs_portal import SECONDS, Portal
from support.jobs_service import request
from support.mailbox import hooks, mailbox

pytestmark = [pytest.mark.system, pytest.mark.asyncio]


async def started(portal):
    """Start the portal while the servers of this loop go on."""
    await asyncio.to_thread(portal.start)


async def told(client, job, *, sent):
    """Wait until the end of `job` is told by both ways, or is on its way; no end is told twice."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = (await client.get("notifications")).json()["items"]
            mine = [one for one in found if one["end"]["job"] == job]
            assert len(mine) <= 1
            if mine and all((one["state"] == "sent") == sent for one in mine[0]["deliveries"]):
                return mine[0]
            await asyncio.sleep(0.05)


async def settled(client, box, hook):
    """Let Ada be told by mail, at an address that she confirms, and by a webhook."""
    wanted = {"mail": True, "address": "ada@example.org", "webhook": True, "webhook_address": hook.address}
    assert (await client.patch("notifications/settings", json=wanted)).is_success
    text = (await box.wait(1)).get_body(["plain"]).get_content()
    path = re.search(r"/services/cupola/(notifications/confirm/\S+)", text)[1]
    assert (await client.post(f"../{path}")).status_code == 303
    box.messages.clear()


async def submitted(client, function, inputs, **more):
    asked = request(function, inputs, **more).model_dump(mode="json")
    return (await client.post("jobs", json=asked)).raise_for_status().json()["id"]


async def test_no_end_is_lost_or_told_twice_when_the_portal_is_killed(tmp_path):
    gate = tmp_path / "gate"

    def waits(x, gate=str(gate)):
        import time
        from pathlib import Path

        while not Path(gate).exists():
            time.sleep(0.05)
        return x

    async with mailbox() as box:
        with hooks() as hook:
            mail = {"host": "127.0.0.1", "port": box.port, "tls": "none", "sender": "cupola@example.org"}
            about = {"mail": mail, "webhooks": {"allow": ["127.0.0.1"]}}
            portal = Portal(tmp_path, notifications=about)
            try:
                await started(portal)
                async with httpx.AsyncClient(base_url=f"{portal.url}/", timeout=SECONDS) as client:
                    await settled(client, box, hook)
                    # Both servers have it, and neither has said so, when the portal is killed.
                    box.held, hook.held = asyncio.Event(), threading.Event()
                    first = await submitted(client, lambda x: x, range(3), name="first")
                    await asyncio.gather(box.wait(1), asyncio.to_thread(hook.wait, 1))
                    await told(client, first, sent=False)
                    quiet = await submitted(client, lambda x: 1 / x, [0], name="quiet", notify=False)
                    await told(client, quiet, sent=False)
                    second = await submitted(client, waits, range(2), name="second")
                    portal.kill()
                box.held.set()
                hook.held.set()
                box.held = hook.held = None
                # The second one ends while nobody looks.
                gate.touch()
                await started(portal)
                async with httpx.AsyncClient(base_url=f"{portal.url}/", timeout=SECONDS) as client:
                    for job in (first, second):
                        await told(client, job, sent=True)
                    assert (await client.get("notifications/unread")).json()["count"] == 3
                    page = (await client.get("notifications")).json()["items"]
                    assert [one["deliveries"] for one in page if one["end"]["job"] == quiet] == [[]]
            finally:
                await asyncio.to_thread(portal.close)
    subjects = sorted(message["subject"] for message in box.messages)
    assert subjects == ["first: all 3 inputs done", "first: all 3 inputs done", "second: all 2 inputs done"]
    # Whoever gets it twice can tell that it is the same.
    assert len({message["message-id"] for message in box.messages}) == 2
    keys = sorted(headers["Idempotency-Key"] for _, headers, _, _ in hook.requests)
    assert keys == sorted([f"cupola-{first}-1"] * 2 + [f"cupola-{second}-1"])
