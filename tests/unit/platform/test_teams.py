from __future__ import annotations

import asyncio
import os
import stat
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from cupola.models.base import now
from cupola.platform.services.sessions import hub as sessionhub
from cupola.platform.storage.database.tables import invitations
from cupola.platform.storage.files.teams import let_members_write

pytestmark = pytest.mark.asyncio

PEOPLE = ("maria", "mike", "rita", "olga")
"""Owner, member, reader and somebody else; ``paul`` of the fake hub is an administrator."""


def token(name):
    return {"Authorization": f"token token-of-{name}"}


@pytest.fixture(autouse=True)
def people(hub, monkeypatch):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)
    for name in PEOPLE:
        hub.users.setdefault(name, type(hub.users["paul"])())
        hub.add_token(f"token-of-{name}", name)


async def make_team(portal, name="mars-crew", **members):
    made = await portal.post("api/teams", headers=token("maria"), json={"name": name, "title": "Mars crew"})
    assert made.status_code == 201, made.text
    for person, role in members.items():
        body = {"person": person, "role": role}
        invited = await portal.post(f"api/teams/{name}/invitations", headers=token("maria"), json=body)
        assert invited.status_code == 201, invited.text
        await accept(portal, person, id=invited.json()["id"])
    return made.json()


async def full_team(portal):
    return await make_team(portal, mike="member", rita="reader")


async def accept(portal, person, status=200, **which):
    answer = await portal.post("api/invitations/accept", headers=token(person), json=which)
    assert answer.status_code == status, answer.text
    return answer.json()


async def link_of(portal, **more):
    made = await portal.post("api/teams/mars-crew/invitations", headers=token("maria"), json=more)
    assert made.status_code == 201, made.text
    return made.json()


async def roles(portal, name="mars-crew"):
    team = (await portal.get(f"api/teams/{name}", headers=token("paul"))).json()
    return {member["person"]: member["role"] for member in team["members"]}


async def run_session(portal, person, team):
    """Launch a session of `person` that mounts the volume of `team`."""
    body = {"datalab": "lab", "volumes": [team]}
    made = await portal.post("api/sessions", headers=token(person), json=body)
    assert made.status_code == 202, made.text
    return await until(portal, person, made.json()["id"], "ready")


async def until(portal, person, session, *states):
    async with asyncio.timeout(60):
        while True:
            found = (await portal.get(f"api/sessions/{session}", headers=token(person))).json()
            if found["state"] in states:
                return found
            await asyncio.sleep(0.01)


class TestWhoMayDoWhat:
    """Every route, for each role."""

    # What owner, member, reader, administrator, somebody else and nobody get.
    TABLE = (
        ("GET", "teams/mars-crew", None, (200, 200, 200, 200, 404, 401)),
        ("PATCH", "teams/mars-crew", {"title": "Other"}, (200, 403, 403, 200, 404, 401)),
        ("GET", "teams/mars-crew/members", None, (200, 200, 200, 200, 404, 401)),
        ("PATCH", "teams/mars-crew/members/rita", {"role": "member"}, (200, 403, 403, 200, 404, 401)),
        ("DELETE", "teams/mars-crew/members/dora", None, (204, 403, 403, 204, 404, 401)),
        ("GET", "teams/mars-crew/invitations", None, (200, 403, 403, 200, 404, 401)),
        ("POST", "teams/mars-crew/invitations", {}, (201, 403, 403, 201, 404, 401)),
        ("DELETE", "teams/mars-crew/invitations/{invitation}", None, (204, 403, 403, 204, 404, 401)),
        ("DELETE", "teams/mars-crew", None, (204, 403, 403, 204, 404, 401)),
        ("POST", "invitations/accept", {"id": "{invitation}"}, (404, 404, 404, 404, 404, 401)),
        ("DELETE", "invitations/{invitation}", None, (404, 404, 404, 404, 404, 401)),
    )
    CALLERS = ("maria", "mike", "rita", "paul", "olga", None)

    @pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]} {row[1]}")
    async def test_table(self, open_portal, hub, row):
        method, path, body, expected = row
        hub.users["dora"] = hub.users["vera"] = type(hub.users["paul"])()
        hub.add_token("token-of-dora", "dora")
        for caller, status in zip(self.CALLERS, expected, strict=True):
            async with open_portal() as portal:
                name = portal.app.state.factory.config.paths
                if not name.team("mars-crew").exists():
                    await make_team(portal, mike="member", rita="reader", dora="member")
                elif (await portal.get("api/teams/mars-crew", headers=token("paul"))).status_code == 404:
                    name.team("mars-crew").rmdir()
                    await make_team(portal, mike="member", rita="reader", dora="member")
                invited = (await link_of(portal, person="vera"))["id"]
                before = (await portal.get("api/teams/mars-crew", headers=token("paul"))).json()
                answer = await portal.request(
                    method,
                    "api/" + path.format(invitation=invited),
                    headers=token(caller) if caller else {},
                    json=body and {key: str(value).format(invitation=invited) for key, value in body.items()},
                )
                assert answer.status_code == status, f"{caller}: {answer.text}"
                after = (await portal.get("api/teams/mars-crew", headers=token("paul"))).json()
                if status >= 400:
                    assert after == before
                # As it was, for the next caller.
                if "members" in after:
                    if not any(member["person"] == "dora" for member in after["members"]):
                        invited = (await link_of(portal, person="dora", role="member"))["id"]
                        await accept(portal, "dora", id=invited)
                    await portal.patch(
                        "api/teams/mars-crew/members/rita", headers=token("maria"), json={"role": "reader"}
                    )


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "",
            "..",
            "a/b",
            "../etc",
            "Mars",
            "-a",
            "a-",
            "a--b",
            "a b",
            "a\0b",
            "x" * 41,
            "mars\n",
            "марс",
            ".hidden",
        ],
    )
    async def test_that_escape_are_refused(self, open_portal, name):
        async with open_portal() as portal:
            body = {"name": name, "title": "T"}
            answer = await portal.post("api/teams", headers=token("maria"), json=body)
            assert answer.status_code == 422
            assert (await portal.get("api/teams", headers=token("maria"))).json()["items"] == []

    @pytest.mark.parametrize("name", ["home", "sample-archive", "mars-archive", "staff", "mars-crew"])
    async def test_that_are_taken_are_refused(self, open_portal, hub, name):
        """Volumes of the platform, a group of the hub that others look after, another team."""
        hub.groups["staff"] = ["paul"]
        async with open_portal() as portal:
            await make_team(portal)
            body = {"name": name, "title": "T"}
            answer = await portal.post("api/teams", headers=token("olga"), json=body)
            assert answer.status_code == 409
        assert hub.groups["staff"] == ["paul"]

    async def test_of_a_deleted_team_is_free_when_its_files_are_gone(self, open_portal, config):
        async with open_portal() as portal:
            await make_team(portal)
            folder = config.paths.team("mars-crew")
            (folder / "secret.txt").write_text("of the first team")
            answer = await portal.delete("api/teams/mars-crew", headers=token("maria"))
            assert answer.status_code == 204
            assert (folder / "secret.txt").exists()
            body = {"name": "mars-crew", "title": "Thieves"}
            assert (await portal.post("api/teams", headers=token("olga"), json=body)).status_code == 409
            (folder / "secret.txt").unlink()
            folder.rmdir()
            assert (await portal.post("api/teams", headers=token("olga"), json=body)).status_code == 201

    async def test_a_person_owns_so_many_teams_and_no_more(self, open_portal, monkeypatch):
        monkeypatch.setattr("cupola.platform.services.people.teams._MOST_TEAMS", 2)
        async with open_portal() as portal:
            for name in ("one", "two"):
                await make_team(portal, name)
            body = {"name": "three", "title": "T"}
            assert (await portal.post("api/teams", headers=token("maria"), json=body)).status_code == 429


class TestOwners:
    async def test_the_last_one_stays(self, open_portal):
        async with open_portal() as portal:
            await full_team(portal)
            mine = "api/teams/mars-crew/members/maria"
            for caller in ("maria", "paul"):
                demoted = await portal.patch(mine, headers=token(caller), json={"role": "member"})
                removed = await portal.delete(mine, headers=token(caller))
                assert (demoted.status_code, removed.status_code) == (409, 409)
            await portal.patch(
                "api/teams/mars-crew/members/mike", headers=token("maria"), json={"role": "owner"}
            )
            assert (await portal.delete(mine, headers=token("maria"))).status_code == 204
            assert await roles(portal) == {"mike": "owner", "rita": "reader"}

    async def test_two_that_leave_at_once_leave_one(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal, mike="owner")
            answers = await asyncio.gather(
                *(
                    portal.delete(f"api/teams/mars-crew/members/{name}", headers=token(name))
                    for name in ("maria", "mike")
                )
            )
            assert sorted(answer.status_code for answer in answers) == [204, 409]
            assert len(await roles(portal)) == 1

    async def test_a_member_or_reader_leaves(self, open_portal):
        async with open_portal() as portal:
            await full_team(portal)
            for name in ("mike", "rita"):
                gone = await portal.delete(f"api/teams/mars-crew/members/{name}", headers=token(name))
                assert gone.status_code == 204
            assert await roles(portal) == {"maria": "owner"}


class TestInvitations:
    async def test_link_lets_everybody_in_once(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal)
            link = (await link_of(portal, role="reader"))["link"]
            secret = link.rpartition("/")[2]
            assert len(secret) >= 43
            for name in ("mike", "olga"):
                await accept(portal, name, token=secret)
            assert await roles(portal) == {"maria": "owner", "mike": "reader", "olga": "reader"}
            await portal.delete("api/teams/mars-crew/members/mike", headers=token("maria"))
            # Whoever was removed does not come back by the same link.
            await accept(portal, "mike", 404, token=secret)
            assert "mike" not in await roles(portal)

    async def test_link_raises_nobody(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal, rita="reader")
            secret = (await link_of(portal, role="owner"))["link"].rpartition("/")[2]
            await accept(portal, "rita", token=secret)
            await accept(portal, "maria", token=secret)
            assert await roles(portal) == {"maria": "owner", "rita": "reader"}

    async def test_only_a_hash_of_the_link_is_kept(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal)
            secret = (await link_of(portal))["link"].rpartition("/")[2]
            listed = (await portal.get("api/teams/mars-crew/invitations", headers=token("maria"))).text
            assert secret not in listed
            async with portal.app.state.factory._database.reading() as connection:
                rows = (await connection.execute(select(invitations))).mappings().all()
            assert secret not in repr(rows)
            assert len(rows) == 1

    @pytest.mark.parametrize("how", ["withdrawn", "expired", "guessed", "endless", "of the hash"])
    async def test_link_that_does_not_work(self, open_portal, how):
        async with open_portal() as portal:
            await make_team(portal)
            invitation = await link_of(portal)
            secret = invitation["link"].rpartition("/")[2]
            database = portal.app.state.factory._database
            status = 404
            if how == "withdrawn":
                path = f"api/teams/mars-crew/invitations/{invitation['id']}"
                assert (await portal.delete(path, headers=token("maria"))).status_code == 204
            elif how == "expired":
                async with database.writing() as connection:
                    past = now() - timedelta(seconds=1)
                    await connection.execute(update(invitations).values(expires=past))
            elif how == "guessed":
                secret = secret[:-1] + ("A" if secret[-1] != "A" else "B")
            elif how == "endless":
                secret, status = "A" * 101, 422
            else:
                async with database.reading() as connection:
                    row = (await connection.execute(select(invitations))).mappings().one()
                secret = row["token_hash"]
            await accept(portal, "olga", status, token=secret)
            assert await roles(portal) == {"maria": "owner"}

    async def test_by_name_is_for_that_person_once(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal)
            invitation = await link_of(portal, person="mike")
            assert invitation["link"] is None
            await accept(portal, "olga", 404, id=invitation["id"])
            seen = (await portal.get("api/invitations", headers=token("mike"))).json()["items"]
            assert [one["team"] for one in seen] == ["mars-crew"]
            await accept(portal, "mike", id=invitation["id"])
            await portal.delete("api/teams/mars-crew/members/mike", headers=token("maria"))
            await accept(portal, "mike", 404, id=invitation["id"])

    async def test_by_name_can_be_turned_down(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal)
            invitation = await link_of(portal, person="mike")
            path = f"api/invitations/{invitation['id']}"
            assert (await portal.delete(path, headers=token("olga"))).status_code == 404
            assert (await portal.delete(path, headers=token("mike"))).status_code == 204
            await accept(portal, "mike", 404, id=invitation["id"])

    @pytest.mark.parametrize("name", ["nobody", "../paul", "mike/servers", " "])
    async def test_of_whom_nobody_knows(self, open_portal, name):
        async with open_portal() as portal:
            await make_team(portal)
            answer = await portal.post(
                "api/teams/mars-crew/invitations", headers=token("maria"), json={"person": name}
            )
            assert answer.status_code == 422
            assert "link" in answer.json()["detail"]

    async def test_whoever_was_asked_twice_has_the_later_role(self, open_portal):
        async with open_portal() as portal:
            await make_team(portal)
            first = await link_of(portal, person="mike", role="owner")
            second = await link_of(portal, person="mike", role="reader")
            await accept(portal, "mike", 404, id=first["id"])
            await accept(portal, "mike", id=second["id"])
            assert (await roles(portal))["mike"] == "reader"


class TestHubAndSessions:
    async def test_group_follows_the_team(self, open_portal, hub):
        async with open_portal() as portal:
            await full_team(portal)
            assert sorted(hub.groups["mars-crew"]) == ["maria", "mike", "rita"]
            await portal.delete("api/teams/mars-crew/members/mike", headers=token("maria"))
            assert sorted(hub.groups["mars-crew"]) == ["maria", "rita"]
            await portal.delete("api/teams/mars-crew", headers=token("maria"))
            assert "mars-crew" not in hub.groups

    async def test_what_the_hub_missed_is_made_good(self, open_portal, hub):
        async with open_portal() as portal:
            await full_team(portal)
            teams = portal.app.state.factory.teams
            hub.down = True
            person = await portal.app.state.factory.people.person("token-of-maria")
            await teams.remove(person, "mars-crew", "mike")
            hub.down = False
            hub.groups["mars-crew"].append("olga")
            hub.groups["forgotten"], hub.properties["forgotten"] = ["olga"], {"cupola": "team"}
            hub.groups["staff"] = ["paul"]
            await teams.reconcile()
        assert sorted(hub.groups["mars-crew"]) == ["maria", "rita"]
        assert "forgotten" not in hub.groups
        assert hub.groups["staff"] == ["paul"]

    async def test_a_folder_for_the_team_alone(self, open_portal, config):
        async with open_portal() as portal:
            await make_team(portal)
        folder = config.paths.team("mars-crew")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770
        if not let_members_write(folder):
            pytest.skip(f"the file system of {folder} keeps no access lists")
        before = os.umask(0o077)
        try:
            (folder / "made").mkdir()
            (folder / "made" / "file").write_text("")
        finally:
            os.umask(before)
        assert stat.S_IMODE((folder / "made").stat().st_mode) == 0o2770
        assert stat.S_IMODE((folder / "made" / "file").stat().st_mode) == 0o660

    async def test_no_link_is_followed_for_the_folder(self, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "team").symlink_to(tmp_path / "other")
        with pytest.raises(Exception, match="cannot be set up"):
            let_members_write(tmp_path / "team")

    @pytest.mark.parametrize(
        ("how", "stopped"),
        [("remove", "mike"), ("leave", "mike"), ("reader", "mike"), ("delete", "all")],
    )
    async def test_sessions_that_mount_too_much_end_with_a_reason(self, open_portal, how, stopped):
        async with open_portal() as portal:
            await full_team(portal)
            mine = await run_session(portal, "maria", "mars-crew")
            theirs = await run_session(portal, "mike", "mars-crew")
            readers = await run_session(portal, "rita", "mars-crew")
            member = "api/teams/mars-crew/members/mike"
            if how == "remove":
                await portal.delete(member, headers=token("maria"))
            elif how == "leave":
                await portal.delete(member, headers=token("mike"))
            elif how == "reader":
                await portal.patch(member, headers=token("maria"), json={"role": "reader"})
            else:
                await portal.delete("api/teams/mars-crew", headers=token("maria"))
            ended = await until(portal, "mike", theirs["id"], "stopped")
            assert "mars-crew" in ended["reason"]
            for person, session in (("maria", mine), ("rita", readers)):
                if stopped == "all":
                    await until(portal, person, session["id"], "stopped")
                else:
                    assert (await until(portal, person, session["id"], "ready"))["reason"] is None

    async def test_a_portal_that_died_before_it_stopped_them_does_it_later(self, open_portal, monkeypatch):
        async with open_portal() as portal:
            await full_team(portal)
            theirs = await run_session(portal, "mike", "mars-crew")
            watch = portal.app.state.factory.teams._watch

            async def die():
                raise asyncio.CancelledError

            monkeypatch.setattr(watch, "enforce", die)
            person = await portal.app.state.factory.people.person("token-of-maria")
            with pytest.raises(asyncio.CancelledError):
                await portal.app.state.factory.teams.remove(person, "mars-crew", "mike")
        async with open_portal() as portal:
            await until(portal, "mike", theirs["id"], "stopped")
