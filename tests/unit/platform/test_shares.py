from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from sqlalchemy import update

from cupola.models.base import now
from cupola.platform.services.people import shares as shares_module
from cupola.platform.services.sessions import hub as sessionhub
from cupola.platform.storage.database.tables import shares
from support.fake_hub import ACCESS

pytestmark = pytest.mark.asyncio

PEOPLE = ("maria", "mike", "rita", "olga")


def token(name):
    return {"Authorization": f"token token-of-{name}"}


@pytest.fixture(autouse=True)
def people(hub, monkeypatch):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)
    for name in PEOPLE:
        hub.users.setdefault(name, type(hub.users["paul"])())
        hub.add_token(f"token-of-{name}", name)


class Running:
    """A portal with a team of Maria, Mike and (a reader) Rita, and a session of Maria that runs."""

    def __init__(self, portal):
        self.portal = portal
        self.session = None

    async def set_up(self):
        await self.portal.post(
            "api/teams", headers=token("maria"), json={"name": "mars-crew", "title": "Mars crew"}
        )
        for person, role in (("mike", "member"), ("rita", "reader")):
            body = {"person": person, "role": role}
            made = await self.portal.post(
                "api/teams/mars-crew/invitations", headers=token("maria"), json=body
            )
            await self.portal.post(
                "api/invitations/accept", headers=token(person), json={"id": made.json()["id"]}
            )
        launched = await self.portal.post(
            "api/sessions",
            headers=token("maria"),
            json={"datalab": "lab", "volumes": [], "environment": {"KEY": "own"}},
        )
        self.session = launched.json()["id"]
        await self.until("ready")

    async def until(self, state):
        async with asyncio.timeout(60):
            while (await self.get(f"sessions/{self.session}")).json()["state"] != state:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def get(self, path, person="maria"):
        return await self.portal.get(f"api/{path}", headers=token(person))

    async def share(self, status=201, who="maria", **body):
        answer = await self.portal.post(f"api/sessions/{self.session}/shares", headers=token(who), json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def access(self, person):
        path = f"sessions/{self.session}/access?person={person}"
        return (await self.get(path)).json()["access"]

    async def shared(self, person):
        found = (await self.get("shared", person)).json()["items"]
        return {one["id"]: one["shared_access"] for one in found}

    async def revoke(self, share):
        path = f"api/sessions/{self.session}/shares/{share['id']}"
        return (await self.portal.delete(path, headers=token("maria"))).status_code

    @property
    def service(self):
        return self.portal.app.state.factory.shares


@pytest.fixture
def running(open_portal):
    @contextlib.asynccontextmanager
    async def opened():
        async with open_portal() as portal:
            made = Running(portal)
            await made.set_up()
            yield made

    return opened


def at_hub(hub, session):
    return hub.shares.get(("maria", session), set())


async def test_a_person_gets_what_the_owner_gave_and_nobody_else(running, hub):
    async with running() as r:
        assert await r.access("maria") == "full"
        await r.share(person="mike", access="view")
        assert [await r.access(name) for name in ("mike", "rita", "olga", "paul")] == [
            "view",
            None,
            None,
            None,
        ]
        assert at_hub(hub, r.session) == {("user", "mike")}
        assert await r.shared("mike") == {r.session: "view"}
        assert await r.shared("olga") == {}


async def test_a_visitor_sees_nothing_that_is_the_owners_business(running):
    async with running() as r:
        await r.share(person="mike", access="full")
        seen = (await r.get("shared", "mike")).json()["items"][0]
        assert seen["environment"] == {}
        assert seen["shared_by"] == "maria"
        assert seen["url"].startswith(f"/user/maria/{r.session}/")
        assert (await r.get(f"sessions/{r.session}", "mike")).status_code == 404


async def test_a_team_gets_it_and_its_readers_only_look(running, hub):
    async with running() as r:
        await r.share(team="mars-crew", access="full")
        assert [await r.access(name) for name in ("mike", "rita", "olga")] == ["full", "view", None]
        # To each: the hub gives tokens nothing of what is shared with groups.
        assert at_hub(hub, r.session) == {("user", "mike"), ("user", "rita")}
        await r.portal.delete("api/teams/mars-crew/members/mike", headers=token("maria"))
        assert await r.access("mike") is None
        assert await r.shared("mike") == {}
        assert at_hub(hub, r.session) == {("user", "rita")}


async def test_whoever_joins_later_is_let_in(running, hub):
    async with running() as r:
        await r.share(team="mars-crew", access="view")
        made = await r.portal.post(
            "api/teams/mars-crew/invitations", headers=token("maria"), json={"person": "olga"}
        )
        await r.portal.post("api/invitations/accept", headers=token("olga"), json={"id": made.json()["id"]})
        assert ("user", "olga") in at_hub(hub, r.session)
        assert await r.access("olga") == "view"


async def test_the_freer_of_two_shares_counts_and_ends_alone(running, hub):
    async with running() as r:
        await r.share(team="mars-crew", access="view")
        full = await r.share(person="mike", access="full")
        assert await r.access("mike") == "full"
        assert await r.revoke(full) == 204
        assert await r.access("mike") == "view"
        assert at_hub(hub, r.session) == {("user", "mike"), ("user", "rita")}
        assert await r.revoke(full) == 404


async def test_sharing_again_replaces(running):
    async with running() as r:
        await r.share(person="mike", access="full")
        await r.share(person="mike", access="view")
        assert await r.access("mike") == "view"
        assert len((await r.get(f"sessions/{r.session}/shares")).json()["items"]) == 1


async def test_it_ends_by_itself(running, hub):
    async with running() as r:
        await r.share(person="mike", access="full", hours=1)
        database = r.portal.app.state.factory._database
        async with database.writing() as connection:
            past = now() - timedelta(seconds=1)
            await connection.execute(update(shares).values(expires=past))
        # At once for whoever asks, at the next round of the timer for the hub.
        assert await r.access("mike") is None
        assert await r.shared("mike") == {}
        await r.service.expire()
        assert at_hub(hub, r.session) == set()


async def test_what_the_hub_missed_is_made_good(running, hub):
    async with running() as r:
        share = await r.share(person="mike", access="full")
        hub.down = True
        person = await r.portal.app.state.factory.people.person("token-of-maria")
        await r.service.revoke(person, r.session, share["id"])
        assert at_hub(hub, r.session) == {("user", "mike")}
        hub.down = False
        await r.service.expire()
        assert at_hub(hub, r.session) == set()


async def test_what_a_dead_portal_left_at_the_hub_goes_at_the_next_start(running, open_portal, hub):
    async with running() as r:
        hub.shares[("maria", r.session)] = {("user", "olga")}
    async with open_portal():
        async with asyncio.timeout(60):
            while at_hub(hub, r.session):  # noqa: ASYNC110 - the timer does it
                await asyncio.sleep(0.01)


async def test_nothing_is_shared_when_the_hub_does_not_answer(running, hub):
    async with running() as r:
        await r.get("sessions")
        hub.down = True
        answer = await r.portal.post(
            f"api/sessions/{r.session}/shares", headers=token("maria"), json={"team": "mars-crew"}
        )
        assert answer.status_code == 503
        hub.down = False
        assert await r.access("mike") is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"person": "mike", "team": "mars-crew"}, 422),
        ({"person": "nobody"}, 422),
        ({"person": "../paul"}, 422),
        ({"person": " "}, 422),
        ({"person": "maria"}, 422),
        ({"team": "no-such-team"}, 404),
        ({"team": "../etc"}, 422),
        ({"person": "mike", "hours": 0}, 422),
        ({"person": "mike", "hours": 721}, 422),
        ({"person": "mike", "access": "admin"}, 422),
        ({"person": "mike", "scopes": ["admin:users"]}, 422),
    ],
)
async def test_wrong_wishes(running, hub, body, status):
    async with running() as r:
        await r.share(status, **body)
        assert at_hub(hub, r.session) == set()


@pytest.mark.parametrize("caller", ["mike", "rita", "olga", "paul", None])
async def test_only_the_owner_has_a_say(running, hub, caller):
    """Administrators have none either: it is the owner's account that acts in the session."""
    async with running() as r:
        share = await r.share(person="mike", access="full")
        headers = token(caller) if caller else {}
        root = f"api/sessions/{r.session}"
        answers = [
            await r.portal.get(f"{root}/shares", headers=headers),
            await r.portal.post(f"{root}/shares", headers=headers, json={"person": "olga"}),
            await r.portal.delete(f"{root}/shares/{share['id']}", headers=headers),
            await r.portal.get(f"{root}/access?person=mike", headers=headers),
        ]
        assert {answer.status_code for answer in answers} == {404 if caller else 401}
        assert at_hub(hub, r.session) == {("user", "mike")}


async def test_of_a_stopped_session_nothing_is_left(running):
    async with running() as r:
        await r.share(person="mike", access="full")
        await r.portal.post(f"api/sessions/{r.session}/stop", headers=token("maria"))
        await r.until("stopped")
        assert await r.access("mike") is None
        assert await r.shared("mike") == {}
        await r.share(409, person="mike")


async def test_so_many_shares_and_no_more(running, monkeypatch):
    monkeypatch.setattr(shares_module, "_MOST", 1)
    async with running() as r:
        await r.share(person="mike")
        await r.share(person="mike", access="full")
        await r.share(429, person="rita")


async def test_a_deleted_team_has_no_shares(running, hub):
    async with running() as r:
        await r.share(team="mars-crew", access="full")
        await r.portal.delete("api/teams/mars-crew", headers=token("maria"))
        assert (await r.get(f"sessions/{r.session}/shares")).json()["items"] == []
        assert await r.access("mike") is None
        assert at_hub(hub, r.session) == set()


async def test_a_guest_with_the_sessions_own_token_goes_no_further_than_the_share(open_portal, hub):
    """Whoever has full access to a session can read its token: it must not share, invite, or last longer than it."""
    async with open_portal() as portal:
        running = Running(portal)
        await running.set_up()
        scope = f"access:servers!server=maria/{running.session}"
        hub.add_token("of-the-session", "maria", scopes=(ACCESS, scope))
        stolen = {"Authorization": "token of-the-session"}
        place = f"api/sessions/{running.session}"
        for method, path, body in (
            ("POST", f"{place}/shares", {"person": "mike", "access": "full", "hours": 72}),
            ("DELETE", f"{place}/shares/x", None),
            ("POST", "api/teams", {"name": "others", "title": "Others"}),
            ("POST", "api/teams/mars-crew/invitations", {"person": "olga", "role": "owner"}),
            ("DELETE", "api/teams/mars-crew", None),
            ("POST", "api/invitations/accept", {"id": "x"}),
            ("POST", "teams", {"name": "others", "title": "Others"}),
            ("POST", f"sessions/{running.session}/shares", {"person": "mike"}),
            ("POST", "logout", None),
        ):
            refused = await portal.request(method, path, headers=stolen, json=body)
            assert refused.status_code == 403, path
            assert "A session cannot do this" in refused.text, path
        assert (await portal.get(f"{place}/shares", headers=stolen)).json()["items"] == []
        # Put where browsers have theirs it opens nothing at all.
        portal.cookies.update({"service-cupola": "of-the-session"})
        assert (await portal.get("api/me")).status_code == 401
        portal.cookies.clear()
        # What the library in a session needs, it has.
        renamed = await portal.patch(place, headers=stolen, json={"title": "Craters"})
        assert renamed.status_code == 200
        assert (await portal.get(f"{place}/access?person=mike", headers=stolen)).json()["access"] is None
