"""Planned stops on the real portal with a made-up clock: who is warned, who is stopped, and who never is."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
import pytest_asyncio

from cupola.config import IdleSettings, SessionSettings
from cupola.models.activity import Activity
from cupola.models.base import now
from cupola.models.job import JobState
from cupola.platform.services.sessions import idle
from support import idle_life
from support.fake_hub import ACCESS
from support.idle_life import HOUR, MINUTE, STEP, Life, bell, launched
from unit.platform.conftest import add_version

pytestmark = pytest.mark.asyncio
clock, quick, config = idle_life.clock, idle_life.quick, idle_life.config


@pytest_asyncio.fixture
async def life(open_portal, clock, maria):
    async with open_portal() as portal:
        yield await launched(portal, clock, maria)


async def test_an_idle_session_is_warned_snapshotted_hibernated_and_woken(life):
    await life.passes(49 * MINUTE)
    assert (life.answer, (await life.shown())["planned"]) == (None, None)
    await life.passes(2 * MINUTE)
    assert (life.answer["kind"], life.answer["keepable"], life.answer["snapshot"]) == (
        "hibernate",
        True,
        None,
    )
    assert 8 * MINUTE <= life.answer["seconds"] <= 10 * MINUTE
    assert (await life.shown())["planned"]["reason"] == life.answer["reason"]
    assert await bell(life) == ["Cupola Lab is hibernated in 10 min"]
    await life.passes(10 * MINUTE)
    assert (await life.shown())["state"] == "ready"  # it is asked for a snapshot first
    await life.snapshots()
    found = await life.until("stopped")
    assert found["hibernated"]
    assert found["planned"] is None
    assert "1 h without activity: its notebooks and variables are kept" in found["reason"]
    assert await bell(life) == ["Cupola Lab was hibernated", "Cupola Lab is hibernated in 10 min"]

    first, second = await asyncio.gather(life.act("wake"), life.act("wake"))
    assert (first.status_code, first.json()["id"]) == (202, second.json()["id"])
    assert first.json()["id"] == life.id
    assert [first.json()[key] for key in ("hibernated", "reason", "end", "stopped")] == [None] * 4
    assert first.json()["created"] == found["created"]
    await life.until("ready")
    events = await life.portal.get(f"api/sessions/{life.id}/events", headers=life.maria)
    told = [
        json.loads(line.partition(":")[2]) for line in events.text.splitlines() if line.startswith("data:")
    ]
    assert (told[0]["message"], told[-1]["state"]) == ("Waking up", "ready")
    assert len(told) < told[-1]["number"], "what was before is not told again"
    # Its idleness is not counted from before.
    await life.passes(40 * MINUTE)
    assert (await life.shown())["planned"] is None


@pytest.mark.parametrize(
    "about",
    [{"kernels": 1}, {"busy": ["a.ipynb"]}, {"terminals": 1}, {"jobs": 1}, {"idle_seconds": 5}],
    ids=lambda about: next(iter(about)),
)
async def test_what_is_used_is_never_stopped(life, about):
    await life.passes(3 * HOUR, **about)
    assert (life.answer, (await life.shown())["state"]) == (None, "ready")


async def test_a_busy_processor_is_work(life):
    for second in range(0, 2 * HOUR, STEP):
        life.clock.now += STEP
        await life.tell(cpu_seconds=second * 0.2)
        await life.factory.idle.look()
    assert life.answer is None


async def test_a_person_who_did_something_is_seen_by_any_clock(life):
    for minute in range(180):
        # The session's clock is an hour ahead, or behind: only that it changes counts.
        await life.passes(MINUTE, seen=now().replace(hour=minute % 24, minute=minute % 60))
    assert life.answer is None


async def test_what_a_session_computes_from_one_clock_by_another_is_no_use(life):
    for minute in range(51):
        idle = minute * MINUTE + STEP
        seen = now() - timedelta(seconds=idle, microseconds=minute * 977)
        await life.passes(MINUTE, idle_seconds=idle, seen=seen)
    assert life.answer


async def test_running_jobs_keep_a_session(life, monkeypatch):
    class Job:
        def __init__(self, owner, session, state):
            self.job = self
            self.owner, self.session, self.state = owner, session, state

    jobs = [Job("maria", life.id, JobState.RUNNING)]

    async def active():
        return jobs

    monkeypatch.setattr(life.factory.idle._sights._jobs, "active", active)
    await life.passes(2 * HOUR)
    assert life.answer is None
    jobs[:] = [Job("maria", "lab-gone", JobState.QUEUED)]
    await life.passes(2 * HOUR)
    assert life.answer is None
    jobs[:] = [Job("paul", "lab-other", JobState.RUNNING), Job("maria", life.id, JobState.HELD)]
    await life.passes(51 * MINUTE)
    assert life.answer


async def test_nobody_is_stopped_blindly(life, hub, monkeypatch):
    await life.passes(3 * HOUR, tells=False)
    assert (await life.shown())["planned"] is None
    # It tells again: only from now on is it known to be idle.
    await life.passes(49 * MINUTE)
    assert life.answer is None
    # The hub is away: what was known does not count any more.
    monkeypatch.setattr(life.factory._at_hub, "heard", None)
    hub.down = True
    told = {"cpu_seconds": 1.0}
    for _ in range(20):
        life.clock.now += STEP
        life.factory._switchboard.tell(life.id, Activity(**told))
        await life.factory.idle.look()
    assert life.id not in life.factory._switchboard.announced
    hub.down = False
    await life.factory.sessions.reconcile()
    await life.passes(49 * MINUTE)
    assert life.answer is None


async def test_a_session_that_falls_silent_after_the_warning_is_not_stopped(life):
    await life.passes(51 * MINUTE)
    assert life.answer
    await life.passes(HOUR, tells=False)
    found = await life.shown()
    assert (found["state"], found["planned"]) == ("ready", None)


@pytest.mark.parametrize("about", [{"kernels": 1}, {"idle_seconds": 2}, {"terminals": 1}])
async def test_whoever_comes_back_withdraws_the_stop_at_once(life, about):
    await life.passes(51 * MINUTE)
    assert life.answer
    assert await life.tell(**about) is None
    await life.passes(20 * MINUTE)
    assert (await life.shown())["planned"] is None


async def test_keep_puts_it_off_by_the_whole_time(life):
    await life.passes(51 * MINUTE)
    answer = await life.act("keep")
    assert (answer.status_code, answer.json()["planned"]) == (200, None)
    await life.passes(49 * MINUTE)
    assert life.answer is None
    await life.passes(2 * MINUTE)
    assert life.answer


async def test_a_cell_that_runs_while_the_snapshot_is_awaited_saves_the_session(life):
    await life.due()
    assert (await life.tell())["snapshot"]
    assert await life.tell(kernels=1) is None
    await life.passes(MINUTE)
    found = await life.shown()
    assert (found["state"], found["planned"]) == ("ready", None)


async def test_it_can_be_kept_until_the_stop_has_begun(life):
    await life.due()
    assert (await life.shown())["planned"]["snapshot"]
    assert (await life.act("keep")).status_code == 200
    await life.passes(MINUTE)
    assert (await life.shown())["state"] == "ready"
    await life.due()
    await life.snapshots()
    await life.until("stopped", "stopping")
    answer = await life.act("keep")
    assert answer.status_code == 409
    assert "wake" in answer.json()["detail"]


async def test_a_session_that_does_not_answer_is_stopped_without_its_snapshot(life, monkeypatch):
    monkeypatch.setattr(idle, "SNAPSHOT_S", 0.05)
    await life.due()
    assert "as far as they could be written down" in (await life.until("stopped"))["reason"]


async def test_without_a_guardian_it_says_that_variables_are_lost(life):
    await life.due(guardian=False)
    found = await life.until("stopped")
    assert "their variables are not" in found["reason"]


async def test_a_session_that_ends_by_itself_meanwhile_is_left_alone(life, hub):
    await life.due()
    del hub.users["maria"].servers[life.id]
    await life.factory.sessions.reconcile()
    found = await life.until("stopped")
    await life.snapshots()
    await life.factory.idle.look()
    found = await life.shown()
    assert found["hibernated"] is None
    assert "without a word" in found["reason"]


async def test_its_owner_hibernates_it_now(life):
    await life.tell(kernels=1)
    first, second = await asyncio.gather(life.act("hibernate"), life.act("hibernate"))
    assert (first.status_code, second.status_code) == (202, 202)
    await life.snapshots(kernels=1)  # they wish it although it computes
    found = await life.until("stopped")
    assert found["hibernated"]
    assert found["reason"].startswith("Hibernated by maria: its notebooks and variables are kept")
    assert (await life.act("hibernate")).json()["hibernated"] == found["hibernated"]
    assert await bell(life) == []
    assert (await life.act("keep")).status_code == 409


async def test_an_ordinary_stop_asks_for_a_snapshot_too(life, hub):
    await life.tell()
    assert (await life.act("stop")).json()["state"] == "stopping"
    assert life.id in hub.users["maria"].servers
    await life.snapshots()
    assert (await life.until("stopped"))["hibernated"] is None


async def test_a_restart_into_another_version_asks_for_a_snapshot_first(life, config):
    other = "sha256:" + "b2" * 32
    add_version(config, other, created="2026-11-02T00:00:00Z")
    await life.tell()
    answer = await life.portal.post(
        f"api/sessions/{life.id}/restart", headers=life.maria, json={"version": other}
    )
    assert (answer.status_code, answer.json()["version"]) == (202, other)
    assert (await life.tell())["kind"] == "version"
    await life.snapshots()
    await life.until("stopped")
    new = Life(life.portal, life.clock, life.maria, answer.json()["id"])
    await new.until("ready")


async def test_an_answer_is_held_back_until_there_is_something_to_say(life):
    await life.tell()
    place = f"api/sessions/{life.id}/activity?wait=20"
    asking = asyncio.create_task(
        life.portal.put(place, headers=life.maria, json={"guardian": True, "cpu_seconds": 1.0})
    )
    while life.id not in life.factory._switchboard._news:  # noqa: ASYNC110 - until it waits
        await asyncio.sleep(0.01)
    await life.act("hibernate")
    async with asyncio.timeout(15):
        assert (await asking).json()["kind"] == "hibernate"


async def test_strangers_tell_and_keep_nothing(life, hub):
    hub.add_token("of-the-session", "maria", scopes=(ACCESS, f"access:servers!server=maria/{life.id}"))
    own = {"Authorization": "token of-the-session"}
    paul = {"Authorization": "token token-of-paul"}
    assert (
        await life.portal.put(f"api/sessions/{life.id}/activity", headers=own, json={})
    ).status_code == 200
    for verb in ("keep", "hibernate", "wake"):
        place = f"api/sessions/{life.id}/{verb}"
        assert (await life.portal.post(place, headers=paul)).status_code == 404
    wrong = (
        {"busy": ["../x.ipynb"]},
        {"cpu_seconds": -1},
        {"snapshot": {"wish": "x" * 65}},
        {"kernels": "many"},
    )
    for about in wrong:
        answer = await life.portal.put(f"api/sessions/{life.id}/activity", headers=own, json=about)
        assert answer.status_code == 422, about
    answer = await life.portal.put(f"api/sessions/{life.id}/activity", headers=own, json={"newer": 1})
    assert answer.status_code == 200
    assert (await life.portal.post(f"api/sessions/{life.id}/keep", headers=own)).status_code == 200
    assert (await life.portal.put("api/maintenance", headers=own, json={"seconds": 5})).status_code == 403


# -- other reasons ------------------------------------------------------------------------------------------


async def test_a_session_that_is_too_old_is_warned_and_cannot_be_kept(open_portal, config, clock, maria):
    rule = IdleSettings(hibernate_after_hours=0, longest_hours=2.0)
    object.__setattr__(config, "sessions", SessionSettings(idle=rule))
    async with open_portal() as portal:
        life = await launched(portal, clock, maria)
        await life.passes(109 * MINUTE, kernels=1)
        assert life.answer is None
        await life.passes(2 * MINUTE, kernels=1)
        assert (life.answer["kind"], life.answer["keepable"]) == ("age", False)
        answer = await life.act("keep")
        assert answer.status_code == 409
        assert "cannot be put off" in answer.json()["detail"]
        await life.passes(10 * MINUTE, kernels=1)
        await life.snapshots(kernels=1)
        assert "as long as a session may run" in (await life.until("stopped"))["reason"]


async def test_the_end_of_the_platform_is_announced_to_all_and_hibernates_them(life):
    paul = {"Authorization": "token token-of-paul"}
    wish = {"seconds": 300, "reason": "new disks"}
    assert (await life.portal.put("api/maintenance", headers=life.maria, json=wish)).status_code == 403
    assert (await life.portal.put("api/maintenance", headers=paul, json=wish)).json()["kind"] == "maintenance"
    await life.passes(MINUTE, kernels=1)
    assert life.answer["reason"] == "The platform stops for maintenance: new disks."
    assert not life.answer["keepable"]
    assert (await life.portal.get("api/maintenance", headers=life.maria)).json()["seconds"] <= 240
    late = await launched(life.portal, life.clock, life.maria)
    await late.passes(2 * STEP)
    assert late.answer["kind"] == "maintenance"
    # Somebody thought better of it.
    assert (await life.portal.delete("api/maintenance", headers=paul)).status_code == 204
    await life.passes(STEP)
    assert life.answer is None
    assert (await life.shown())["planned"] is None
    # And again.
    wish["seconds"] = 60
    assert (await life.portal.put("api/maintenance", headers=paul, json=wish)).is_success
    await life.passes(STEP, kernels=1)
    await life.passes(MINUTE, kernels=1)
    await life.snapshots(kernels=1)
    found = await life.until("stopped")
    assert found["hibernated"]
    assert found["reason"].startswith("The platform stops for maintenance: new disks.")
