"""Planned stops on the pages in a real Chromium: warning, hibernated sessions, bell; both themes and a phone."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cupola.models.activity import PlannedStop, StopKind
from cupola.models.base import Page, now
from cupola.models.notification import SessionNotice, SessionNotification, Unread
from support import made_up
from support.axe import axe, violations
from support.pages import CHROMIUM, chromium_with, opened_pages, served

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
]
__all__ = ["axe"]

IDLE = "Nothing went on in it for 11.8 h. Its notebooks and variables are kept."
SLEPT = (
    "Hibernated after 12 h without activity: its notebooks and variables are kept; wake it when you need it."
)


def sessions():
    ready = next(one for one in made_up.sessions() if one.state == "ready")
    plan = PlannedStop(at=now(), reason=IDLE, seconds=544)
    end = "The platform stops for maintenance: new disks."
    maintenance = PlannedStop(at=now(), reason=end, seconds=3000, kind=StopKind.MAINTENANCE, keepable=False)
    return [
        ready.model_copy(update={"planned": plan}),
        ready.model_copy(update={"id": "lab-main2345", "planned": maintenance, "notices": []}),
        made_up.session(
            "lab-slept234",
            "stopped",
            title="Dust storms of year 34",
            reason=SLEPT,
            created=made_up.before(days=2),
            stopped=made_up.before(hours=4),
            hibernated=made_up.before(hours=4),
        ),
        made_up.session("lab-start123", "starting"),
        made_up.session("lab-going234", "stopping", title="Falls asleep", hibernated=now(), reason=SLEPT),
    ]


def told():
    about = {"session": "lab-7k2m9xq4", "kind": StopKind.HIBERNATE}
    coming = SessionNotice(title="Cupola Lab is hibernated in 10 min", text=IDLE, **about)
    gone = SessionNotice(title="Dust storms was hibernated", text=SLEPT, hibernated=True, **about)
    return [
        SessionNotification(id=2, created=made_up.before(minutes=1), about=coming),
        SessionNotification(id=1, created=made_up.before(hours=4), read=True, about=gone),
    ]


class Notices:
    async def everything(self, _person, **_):
        return Page(items=told())

    async def unread(self, _person, **_):
        return Unread(count=1, newest=2)

    async def since(self, _person, _number):
        return told()[:1]


@pytest.fixture(scope="module")
def asked():
    return []


@pytest.fixture(scope="module")
def address(asked):
    app = made_up.application()
    factory = app.state.factory
    factory.sessions.things = sessions
    factory.notifications = Notices()

    def answer(verb):
        async def act(_person, name):
            asked.append((verb, name))
            return made_up.session("lab-start123", "starting")

        return act

    factory.idle = SimpleNamespace(**{verb: answer(verb) for verb in ("keep", "hibernate", "wake")})
    with served(app) as place:
        yield place


@pytest.fixture(scope="module")
def chromium():
    with chromium_with() as browser:
        yield browser


@pytest.fixture
def opened(chromium, address):
    with opened_pages(chromium, address) as open_page:
        yield open_page


def keep_picture(page, name):
    if folder := os.environ.get("CUPOLA_HIBERNATE_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(
    "path", ["sessions", "sessions/lab-7k2m9xq4", "sessions/lab-slept234", "notifications"]
)
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 320)])
def test_nothing_is_in_the_way_of_anybody(opened, axe, path, theme, width):
    page = opened(path, width=width, color_scheme=theme, bypass_csp=True)
    keep_picture(page, f"{path.replace('/', '-')}-{theme}-{width}")
    assert violations(page, axe, "body") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_whoever_is_warned_keeps_the_session_with_one_click(opened, asked):
    page = opened("sessions")
    row = page.locator("#row-lab-7k2m9xq4")
    assert "It is hibernated in 9 min. Nothing went on in it for 11.8 h." in row.inner_text()
    other = page.locator("#row-lab-main2345")
    assert "The platform stops in 50 min." in other.inner_text()
    assert not other.get_by_role("button", name="Keep it running").count()
    row.get_by_role("button", name="Keep it running").click()
    page.wait_for_url("**/sessions/lab-7k2m9xq4?said=kept")
    assert asked[-1] == ("keep", "lab-7k2m9xq4")


def test_hibernate_asks_first_and_wake_does_not(opened, asked):
    page = opened("sessions/lab-7k2m9xq4")
    page.locator("#hibernate").click()
    dialog = page.get_by_role("dialog")
    assert "variables are written down" in dialog.inner_text()
    dialog.get_by_role("button", name="Hibernate it").click()
    page.wait_for_url("**/sessions?said=hibernating")
    assert asked[-1] == ("hibernate", "lab-7k2m9xq4")
    row = page.locator("#row-lab-slept234")
    assert "Hibernated" in row.inner_text()
    row.get_by_role("button", name="Wake").click()
    page.wait_for_function("!location.pathname.endsWith('/sessions')")
    assert asked[-1] == ("wake", "lab-slept234")
