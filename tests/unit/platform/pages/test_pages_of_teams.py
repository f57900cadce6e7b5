"""The pages of teams and shares over the real services, with a hub in memory."""

from __future__ import annotations

import re
from html import unescape

import pytest

from cupola.platform.services.sessions import hub as sessionhub

pytestmark = pytest.mark.asyncio

HTML = {"Accept": "text/html"}
ROOT = "/services/cupola/"


@pytest.fixture(autouse=True)
def people(hub, monkeypatch):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)
    for name in ("mike", "olga"):
        hub.users[name] = type(hub.users["paul"])()
        hub.add_token(f"token-of-{name}", name)


class Browser:
    """Somebody's browser: pages, and the forms on them."""

    def __init__(self, portal, name):
        self.portal = portal
        self.options = {"headers": {**HTML, "Cookie": f"service-cupola=token-of-{name}"}}

    async def open(self, path, status=200):
        answer = await self.portal.get(path, **self.options)
        assert answer.status_code == status, answer.text
        return answer.text

    async def send(self, page, action, status=303, **values):
        """Fill in the form of `page` that goes to `action`, and return where it leads, or the page it gives."""
        forms = re.findall(r"<form.*?</form>", page, re.DOTALL)
        form = next(form for form in forms if f'action="{ROOT}{action}"' in form)
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
        for name in values:
            assert f'name="{name}"' in form
        answer = await self.portal.post(action, data={**fields, **values}, **self.options)
        assert answer.status_code == status, answer.text
        return answer.headers.get("location", "").removeprefix(ROOT) or answer.text


async def test_from_an_empty_page_to_a_team_of_two_and_back(open_portal, config):
    async with open_portal() as portal:
        maria, mike = Browser(portal, "maria"), Browser(portal, "mike")
        page = await maria.open("teams")
        assert "You are in no team yet" in page
        where = await maria.send(page, "teams", title="Mars Crew 3", name="", description="<b>Dunes</b>")
        assert where == "teams/mars-crew-3?said=made"
        page = await maria.open(where)
        assert "<b>Dunes" not in page
        shown = await maria.send(
            page, "teams/mars-crew-3/invitations", 200, invited="", role="member", days="3"
        )
        link = unescape(re.search(r"http://[^\s<\"]+/invitations/[\w-]+", shown)[0])
        path = "invitations/" + link.rpartition("/")[2]
        # Looking at it changes nothing, however often.
        for _ in range(2):
            invitation = await mike.open(path)
        assert "maria invites you as" in invitation
        assert await mike.send(invitation, path) == "teams/mars-crew-3?said=joined"
        assert "in this team already" in await mike.open(path)
        page = await maria.open("teams/mars-crew-3")
        assert "mike" in page
        assert link not in page
        await maria.send(page, "teams/mars-crew-3/members/mike/role", role="reader")
        gone = await mike.send(await mike.open("teams/mars-crew-3"), "teams/mars-crew-3/leave")
        assert gone == "teams?said=left"
        await mike.open("teams/mars-crew-3", 404)
        page = await maria.open("teams/mars-crew-3")
        said = await maria.send(page, "teams/mars-crew-3/delete", 200)
        assert str(config.paths.team("mars-crew-3")) in said


async def test_whoever_is_asked_by_name_finds_it_and_answers(open_portal):
    async with open_portal() as portal:
        maria, mike = Browser(portal, "maria"), Browser(portal, "mike")
        await maria.send(await maria.open("teams"), "teams", title="Mars", name="mars")
        page = await maria.open("teams/mars")
        await maria.send(page, "teams/mars/invitations", invited="mike", role="reader", days="3")
        page = await mike.open("teams")
        assert "maria invites you to Mars" in page
        decline = re.search(r"teams/invitations/\w+/decline", page)[0]
        assert await mike.send(page, decline) == "teams?said=declined"
        page = await maria.open("teams/mars")
        await maria.send(page, "teams/mars/invitations", invited="mike", role="reader", days="3")
        page = await mike.open("teams")
        accept = re.search(r"teams/invitations/\w+/accept", page)[0]
        assert await mike.send(page, accept) == "teams/mars?said=joined"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"title": "", "name": "mars"}, "needs a title"),
        ({"title": "Mars", "name": "../mars"}, "small letters"),
        ({"title": "日本", "name": ""}, "small letters"),
        ({"title": "Home", "name": "home"}, "taken"),
    ],
)
async def test_a_form_that_cannot_be_taken_comes_back_filled_in(open_portal, form, words):
    async with open_portal() as portal:
        maria = Browser(portal, "maria")
        page = await maria.send(await maria.open("teams"), "teams", 422, **form)
        assert words in page
        assert f'value="{form["title"]}"' in page


async def test_a_member_sees_no_buttons_of_owners(open_portal):
    async with open_portal() as portal:
        maria, mike = Browser(portal, "maria"), Browser(portal, "mike")
        await maria.send(await maria.open("teams"), "teams", title="Mars", name="mars")
        await maria.send(
            await maria.open("teams/mars"), "teams/mars/invitations", invited="mike", role="member", days="3"
        )
        page = await mike.open("teams")
        await mike.send(page, re.search(r"teams/invitations/\w+/accept", page)[0])
        page = await mike.open("teams/mars")
        for action in ("invitations", "delete", "describe", "members/maria/remove", "members/mike/role"):
            assert f"teams/mars/{action}" not in page
        assert "teams/mars/leave" in page
        assert "teams/mars/leave" not in await maria.open("teams/mars")


async def test_a_session_is_shared_and_taken_back_on_its_page(open_portal, hub):
    async with open_portal() as portal:
        maria, mike = Browser(portal, "maria"), Browser(portal, "mike")
        headers = {"Authorization": "token token-of-maria"}
        launched = await portal.post("api/sessions", headers=headers, json={"datalab": "lab", "volumes": []})
        session = launched.json()["id"]
        for _ in range(1000):
            page = await maria.open(f"sessions/{session}/shares")
            if "Let somebody in" in page:
                break
        action = f"sessions/{session}/shares"
        wrong = await maria.send(page, action, 422, who="nobody", access="view", hours="1")
        assert "Nobody here is called" in wrong
        where = await maria.send(page, action, who="mike", access="view", hours="1")
        assert where == f"sessions/{session}/shares?said=shared"
        assert 'hx-get="/services/cupola/shared/live"' in await mike.open("sessions")
        seen = await mike.open("shared/live")
        assert session in seen
        assert "look" in seen
        page = await maria.open(where)
        revoke = re.search(rf"sessions/{session}/shares/\w+/revoke", page)[0]
        assert await maria.send(page, revoke) == f"sessions/{session}/shares?said=revoked"
        assert session not in await mike.open("shared/live")
        assert hub.shares[("maria", session)] == set()
        await mike.open(f"sessions/{session}/shares", 404)
