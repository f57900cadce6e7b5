"""A session of Maria's on the real portal with a made-up clock: what it tells of itself, and how time goes by.

A test file takes the three fixtures: ``clock, quick, config = idle_life.clock, idle_life.quick, idle_life.config``.
"""

from __future__ import annotations

import asyncio
import functools

import pytest

from cupola.config import IdleSettings, SessionSettings
from cupola.models.activity import Activity, SnapshotTold
from cupola.models.session import Session
from cupola.platform import factory as factories
from cupola.platform.services.sessions import hub as sessionhub
from cupola.platform.services.sessions.stops import Switchboard

HOUR, MINUTE = 3600, 60
STEP = 50
"""Between two looks; sessions tell as often."""


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def quick(monkeypatch, clock):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)
    monkeypatch.setattr(factories, "Switchboard", functools.partial(Switchboard, clock=clock))


@pytest.fixture
def config(config):
    rule = IdleSettings(hibernate_after_hours=1.0, warn_minutes=10.0)
    return config.model_copy(update={"sessions": SessionSettings(idle=rule)})


KEPT = {"cpu_seconds": 1.0, "guardian": True}
"""What an idle session tells whose variables can be kept."""


class Life:
    """One session of Maria's, and what it tells of itself."""

    def __init__(self, portal, clock, maria, session):
        self.portal, self.clock, self.maria, self.id = portal, clock, maria, session
        self.factory = portal.app.state.factory
        self.answer = self.session = None

    async def tell(self, **about):
        told = Activity(**{**KEPT, **about}).model_dump(mode="json")
        answer = await self.portal.put(f"api/sessions/{self.id}/activity", headers=self.maria, json=told)
        assert answer.status_code == 200, answer.text
        self.answer = answer.json()
        return self.answer

    async def passes(self, seconds, *, tells=True, **about):
        """Let time go by, in which the session tells the same again and again."""
        end = self.clock.now + seconds
        await self.shown()
        while self.clock.now < end:
            self.clock.now += min(STEP, end - self.clock.now)
            if tells:
                session = Session.model_validate(self.session)
                await self.factory.idle.tell(session, Activity(**{**KEPT, **about}))
            await self.factory.idle.look()
        if tells:
            await self.tell(**about)

    async def shown(self):
        self.session = (await self.portal.get(f"api/sessions/{self.id}", headers=self.maria)).json()
        return self.session

    async def act(self, verb):
        return await self.portal.post(f"api/sessions/{self.id}/{verb}", headers=self.maria)

    async def until(self, *states):
        async with asyncio.timeout(60):
            while True:
                found = await self.shown()
                if found["state"] in states:
                    return found
                await asyncio.sleep(0.01)

    async def snapshots(self, **about):
        """Answer the wish for a snapshot as a session does."""
        async with asyncio.timeout(60):
            while True:
                if (await self.tell(**about) or {}).get("snapshot"):
                    break
                await asyncio.sleep(0.01)
        done = SnapshotTold(wish=self.answer["snapshot"], kernels=1, kept=3)
        await self.tell(snapshot=done, **about)

    async def due(self, **about):
        """Let all the time go by until the stop begins."""
        await self.passes(51 * MINUTE, **about)
        assert self.answer, "a stop is announced"
        await self.passes(10 * MINUTE, **about)


async def launched(portal, clock, maria):
    answer = await portal.post("api/sessions", headers=maria, json={"datalab": "lab"})
    assert answer.status_code == 202, answer.text
    life = Life(portal, clock, maria, answer.json()["id"])
    await life.until("ready")
    await life.factory.sessions.reconcile()
    return life


async def bell(life):
    owner = await life.factory.people.person("token-of-maria")
    return [one.title for one in (await life.factory.notifications.everything(owner)).items]
