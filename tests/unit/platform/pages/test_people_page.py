"""The page People and its REST face, over the hub's real decisions."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio

from cupola.config import Config, MethodSettings, SignInSettings
from cupola.hub.signin.admission import Admission, Standing
from cupola.hub.signin.names import Identity
from cupola.platform.handlers.forgery import FIELD

HTML = {"Accept": "text/html"}


@pytest.fixture
def admission(tmp_path, hub):
    methods = [
        MethodSettings(kind="local"),
        MethodSettings(kind="github", client_id="x", client_secret_variable="X"),
    ]
    listing = tmp_path / "people.txt"
    listing.write_text("github:listed\n")
    sign_in = SignInSettings(methods=methods, allow_list=listing)
    config = Config(state=tmp_path / "hub", owner="maria", compute="docker", sign_in=sign_in)
    found = Admission(config)
    found.prepare()
    found.people.admit("grace")
    found.people.ask(Identity("github", "https://github.com", "7", "<Linus>"), "linus-1")
    hub.admission = found
    return found


@pytest_asyncio.fixture
async def portal(open_portal, admission):
    assert admission
    async with open_portal() as client:
        client.cookies.set("service-cupola", "token-of-paul")
        yield client


async def act(portal, **fields):
    page = await portal.get("people", headers=HTML)
    token = re.search(rf'name="{FIELD}" value="([^"]+)"', page.text)[1]
    return await portal.post("people", data={FIELD: token, **fields}, headers=HTML)


@pytest.mark.asyncio
async def test_an_administrator_sees_who_is_in_and_who_waits(portal):
    page = await portal.get("people", headers=HTML)
    assert page.status_code == 200
    for text in ("grace", "maria", "&lt;Linus&gt;", "linus-1", "let in by an administrator", "people.txt"):
        assert text in page.text
    assert "<Linus>" not in page.text
    # Nobody can throw out the owner.
    assert not re.search(
        r'name="do" value="remove">\s*<input type="hidden" name="name" value="maria"', page.text
    )


@pytest.mark.asyncio
async def test_nobody_else_sees_or_does_anything(portal, admission):
    portal.cookies.set("service-cupola", "token-of-maria")
    for path in ("people", "api/people"):
        assert (await portal.get(path, headers=HTML)).status_code == 403
    headers = {"Authorization": "token token-of-maria"}
    portal.cookies.clear()
    change = {"do": "admin", "name": "maria"}
    assert (await portal.post("api/people", json=change, headers=headers)).status_code == 403
    assert (await portal.post("api/people", json=change)).status_code == 401
    assert not admission.people.find("maria").admin


@pytest.mark.asyncio
async def test_letting_in_and_removing(portal, admission):
    answer = await act(portal, do="approve", method="github", login="<Linus>")
    assert answer.status_code == 303
    assert answer.headers["location"].endswith("/people?said=approve")
    assert admission.standing(admission.people.find("linus-1")) is Standing.INSIDE
    assert (await act(portal, do="admin", name="grace")).status_code == 303
    assert admission.admin(admission.people.find("grace"))
    assert (await act(portal, do="remove", name="grace")).status_code == 303
    assert admission.standing(admission.people.find("grace")) is Standing.OUTSIDE
    assert (await act(portal, do="add", name="grace")).status_code == 303
    assert admission.standing(admission.people.find("grace")) is Standing.INSIDE


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"do": "remove", "name": "maria"}, 409, "owner"),
        ({"do": "remove", "name": "paul"}, 409, "Nobody does this to themselves"),
        ({"do": "remove", "name": "nobody"}, 409, "nobody named"),
        ({"do": "add", "name": "Not A Name"}, 409, "cannot be a user name"),
        ({"do": "approve", "method": "github", "login": "x"}, 409, "has not asked"),
        ({"do": "explode"}, 422, "nothing that can be done"),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_is_said_on_the_page(portal, fields, status, sentence):
    answer = await act(portal, **fields)
    assert answer.status_code == status
    assert sentence in answer.text


@pytest.mark.asyncio
async def test_without_the_pages_own_token_nothing_happens(portal, admission):
    answer = await portal.post("people", data={"do": "remove", "name": "grace"}, headers=HTML)
    assert answer.status_code == 403
    assert admission.standing(admission.people.find("grace")) is Standing.INSIDE


@pytest.mark.asyncio
async def test_programs_do_the_same(portal, admission):
    headers = {"Authorization": "token token-of-paul"}
    portal.cookies.clear()
    found = (await portal.get("api/people", headers=headers)).json()
    assert {person["name"] for person in found["people"]} == {"grace", "maria"}
    changed = await portal.post("api/people", json={"do": "remove", "name": "grace"}, headers=headers)
    assert next(one for one in changed.json()["people"] if one["name"] == "grace")["standing"] == "outside"
    assert admission.people.find("grace").removed
