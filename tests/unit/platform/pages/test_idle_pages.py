"""Planned stops on the pages: the warning and its buttons, hibernated sessions, the bell."""

from __future__ import annotations

import re

import pytest

from cupola.models.activity import Activity, SnapshotTold
from cupola.models.session import Session
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.handlers.pages.wording import soon, state_of
from support import idle_life
from support.idle_life import MINUTE, launched

clock, quick, config = idle_life.clock, idle_life.quick, idle_life.config

HTML = {"Accept": "text/html"}


async def page(portal, path):
    answer = await portal.get(path, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


async def press(portal, path, action):
    """Press the button of a page that leads to `action`."""
    text = await page(portal, path)
    [form] = [one for one in re.findall(r"<form.*?</form>", text, re.DOTALL) if f'/{action}"' in one]
    token = re.search(rf'name="{FIELD}" value="([^"]*)"', form)[1]
    return await portal.post(action, data={FIELD: token}, headers=HTML)


@pytest.mark.asyncio
async def test_warning_keep_hibernate_and_wake_by_the_buttons_of_the_pages(open_portal, clock, maria):
    async with open_portal() as portal:
        life = await launched(portal, clock, maria)
        portal.cookies.update({"service-cupola": "token-of-maria"})
        here = f"sessions/{life.id}"
        text = await page(portal, here)
        assert "/keep" not in text
        assert "Unsaved work in it is lost" in text, "nobody knows yet that it keeps anything"
        await life.passes(51 * MINUTE)
        assert "Outputs and variables of its notebooks are kept" in await page(portal, here)
        for path in ("sessions", here):
            text = await page(portal, path)
            assert re.search(r"It is hibernated in \d+ min\. Nothing went on in it", text)
        mark = await page(portal, "notifications/mark?after=0")
        assert "Cupola Lab is hibernated in 10 min" in mark
        assert (await press(portal, "sessions", f"{here}/keep")).headers["location"].endswith("?said=kept")
        assert "is hibernated" not in await page(portal, here)

        assert (await press(portal, here, f"{here}/hibernate")).status_code == 303
        await life.snapshots()
        await life.until("stopped")
        text = await page(portal, "sessions")
        assert 'id="hibernated-title"' in text
        assert 'id="ended-title"' not in text
        assert "Hibernated by maria" in text
        answer = await press(portal, "sessions", f"{here}/wake")
        assert answer.headers["location"].endswith("/starting")
        text = await page(portal, "sessions")
        assert 'id="hibernated-title"' not in text
        assert 'id="ended-title"' not in text

        [told] = re.findall(
            r'href="/services/cupola/(notifications/\d+)"', await page(portal, "notifications")
        )
        answer = await portal.get(told, headers=HTML)
        assert answer.headers["location"].endswith(f"/sessions/{life.id}")


@pytest.mark.asyncio
async def test_a_stop_that_cannot_be_put_off_has_no_button_for_it(open_portal, clock, maria):
    async with open_portal() as portal:
        life = await launched(portal, clock, maria)
        portal.cookies.update({"service-cupola": "token-of-maria"})
        paul = {"Authorization": "token token-of-paul"}
        wish = {"seconds": 300, "reason": "<b>new</b> disks"}
        assert (await portal.put("api/maintenance", headers=paul, json=wish)).is_success
        await life.passes(MINUTE)
        text = await page(portal, f"sessions/{life.id}")
        assert "The platform stops in 4 min. The platform stops for maintenance: &lt;b&gt;new" in text
        assert "/keep" not in text
        session = Session.model_validate(await life.shown())
        await life.factory.idle.tell(session, Activity(snapshot=SnapshotTold(wish="none")))


def test_what_comes_is_said_in_words_that_do_not_change_all_the_time():
    said = [soon(seconds) for seconds in (0, 12, 59, 61, 595, 5400)]
    assert said == ["now", "in 10 s", "in 60 s", "in 1 min", "in 10 min", "in 1.5 h"]


@pytest.mark.parametrize(
    ("state", "hibernated", "word"),
    [("stopping", True, "Hibernating"), ("stopped", True, "Hibernated"), ("stopped", False, "Stopped")],
)
def test_a_hibernated_session_is_called_so(state, hibernated, word):
    moment = "2026-11-22T12:00:00Z"
    session = Session(
        id="lab-1",
        owner="ada",
        datalab="lab",
        version="v",
        title="Lab",
        state=state,
        created=moment,
        hibernated=moment if hibernated else None,
    )
    assert state_of(session).word == word
