"""Planned stops over portals that end and clocks that jump: what was announced holds, and nobody is stopped early."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
import pytest_asyncio

from cupola.config import IdleSettings, SessionSettings
from cupola.models.base import now
from support import idle_life
from support.idle_life import HOUR, MINUTE, Life, bell, launched

pytestmark = pytest.mark.asyncio
clock, quick, config = idle_life.clock, idle_life.quick, idle_life.config


@pytest_asyncio.fixture
async def life(open_portal, clock, maria):
    async with open_portal() as portal:
        yield await launched(portal, clock, maria)


@pytest.fixture
def portals(open_portal, clock, maria):
    """Open one portal after the other on one state; each has a clock of its own that begins somewhere."""

    @contextlib.asynccontextmanager
    async def opened(session=None):
        clock.now += 10_000
        async with open_portal() as portal:
            if session is None:
                yield await launched(portal, clock, maria)
            else:
                life = Life(portal, clock, maria, session)
                await life.factory.sessions.reconcile()
                await life.factory.idle.look()
                yield life

    return opened


def days_go_by(monkeypatch, **length):
    """Set the clock that people see; the one that only goes up stays."""
    moment = now() + timedelta(**length)
    for module in ("idle", "stops", "maintenance"):
        monkeypatch.setattr(f"cupola.platform.services.sessions.{module}.now", lambda: moment)


async def test_a_portal_keeps_the_word_of_the_one_before(portals):
    async with portals() as life:
        await life.passes(51 * MINUTE)
        told = life.answer
    async with portals(life.id) as life:
        found = (await life.shown())["planned"]
        assert found["reason"] == told["reason"]
        assert found["seconds"] <= 10 * MINUTE
        await life.passes(9 * MINUTE)
        assert (await life.shown())["state"] == "ready"
        await life.passes(2 * MINUTE)
        await life.snapshots()
        assert (await life.until("stopped"))["hibernated"]
        assert len(await bell(life)) == 2


async def test_a_stop_whose_time_came_while_no_portal_was_there_is_announced_anew(portals, monkeypatch):
    async with portals() as life:
        await life.passes(51 * MINUTE)
    days_go_by(monkeypatch, minutes=20)
    async with portals(life.id) as life:
        assert (await life.shown())["planned"]["seconds"] == 10 * MINUTE
        await life.passes(9 * MINUTE)
        assert (await life.shown())["state"] == "ready"


async def test_after_a_long_time_without_a_portal_it_begins_anew(portals, monkeypatch):
    async with portals() as life:
        await life.passes(51 * MINUTE)
    days_go_by(monkeypatch, days=2)
    async with portals(life.id) as life:
        assert (await life.shown())["planned"] is None
        await life.passes(49 * MINUTE)
        assert life.answer is None


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_jumps_stops_nobody_early(life, monkeypatch, hours):
    await life.passes(20 * MINUTE)
    days_go_by(monkeypatch, hours=hours)
    await life.passes(29 * MINUTE)
    assert life.answer is None
    await life.passes(2 * MINUTE)
    days_go_by(monkeypatch, hours=-hours)
    await life.passes(8 * MINUTE)
    assert 0 < life.answer["seconds"] <= 2 * MINUTE
    assert (await life.shown())["state"] == "ready"


async def test_a_portal_killed_between_snapshot_and_stop_warns_again(portals, monkeypatch):
    async with portals() as life:
        await life.due()
        assert (await life.shown())["planned"]["snapshot"]
    days_go_by(monkeypatch, minutes=11)
    async with portals(life.id) as life:
        assert (await life.shown())["planned"]["seconds"] == 10 * MINUTE
        await life.tell()
        await life.passes(11 * MINUTE)
        await life.snapshots()
        await life.until("stopped")


async def test_a_hibernation_that_was_asked_for_goes_on_after_a_start(portals):
    async with portals() as life:
        await life.tell()
        await life.act("hibernate")
        assert (await life.shown())["planned"]["snapshot"]
    async with portals(life.id) as life:
        await life.tell()
        await life.passes(MINUTE)
        await life.snapshots()
        found = await life.until("stopped")
        assert found["reason"].startswith("Hibernated by maria")


async def test_settings_that_were_turned_off_withdraw_what_was_announced(portals, config):
    async with portals() as life:
        await life.passes(51 * MINUTE)
    object.__setattr__(config, "sessions", SessionSettings(idle=IdleSettings(hibernate_after_hours=0)))
    async with portals(life.id) as life:
        assert (await life.shown())["planned"] is None
        await life.passes(5 * HOUR)
        assert (await life.shown())["planned"] is None
