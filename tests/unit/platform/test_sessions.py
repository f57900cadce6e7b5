from __future__ import annotations

import asyncio
import contextlib

import pytest

from cupola.models.session import SessionState
from cupola.platform.services.sessions import hub as sessionhub

pytestmark = pytest.mark.asyncio

LAB = {"datalab": "lab"}
INTERNAL = {"Authorization": "Bearer internal-token"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The pauses between two questions to the hub, as short as they can be."""
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)


async def follow(portal, session, headers):
    async with portal.stream("GET", f"api/sessions/{session}/events", headers=headers) as answer:
        return [line async for line in answer.aiter_lines() if line.startswith("data:")]


async def at_hub(hub, session):
    async with asyncio.timeout(60):
        while session not in hub.users["maria"].servers:  # noqa: ASYNC110 - a real hub has no event for it either
            await asyncio.sleep(0.01)


async def until(portal, session, headers, *states):
    async with asyncio.timeout(60):
        while True:
            found = (await portal.get(f"api/sessions/{session}", headers=headers)).json()
            if found["state"] in states:
                return found
            await asyncio.sleep(0.01)


async def launch(portal, headers, **more):
    answer = await portal.post("api/sessions", headers=headers, json={**LAB, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def test_the_spawners_reports_are_shown_in_order_and_ready_ends_them(open_portal, hub, maria):
    hub.mode = "slow"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        following = asyncio.create_task(follow(portal, session, maria))
        plan = await portal.get(f"internal/sessions/{session}/plan", headers=INTERNAL)
        assert plan.json()["owner"] == "maria"
        for progress, message in [(30, "Starting"), (60, "Loading Jupyter"), (40, "Late")]:
            report = {"state": "starting", "message": message, "progress": progress}
            answer = await portal.post(f"internal/sessions/{session}/reports", headers=INTERNAL, json=report)
            assert answer.status_code == 200
            assert answer.json()["id"] == session
        await at_hub(hub, session)
        hub.finish("maria", session)
        lines = await following
        assert '"number":1' in lines[0]
        assert '"progress":60' in lines[-2]  # it never goes back
        assert '"state":"ready"' in lines[-1]
        assert '"progress":100' in lines[-1]


async def test_a_lost_connection_goes_on_where_it_was(open_portal, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        everything = await follow(portal, session, maria)
        rest = await follow(portal, session, {**maria, "Last-Event-ID": "1"})
        assert rest == everything[1:]


async def test_three_of_ten_simultaneous_launches_get_a_session(open_portal, hub, maria):
    async with open_portal() as portal:
        answers = await asyncio.gather(
            *(portal.post("api/sessions", headers=maria, json=LAB) for _ in range(10))
        )
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [202] * 3 + [429] * 7
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "https://cupola.invalid/problems/limit"
        assert "stop one first" in refused.json()["detail"]
        for answer in answers:
            if answer.status_code == 202:
                await until(portal, answer.json()["id"], maria, "ready")
        assert len(hub.users["maria"].servers) == 3


async def test_two_portals_on_one_database_keep_the_limit_together(open_portal, maria):
    async with open_portal() as one, open_portal() as two:
        answers = await asyncio.gather(
            *(portal.post("api/sessions", headers=maria, json=LAB) for portal in (one, two) * 4)
        )
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5


async def test_a_double_click_launches_once(open_portal, hub, maria):
    async with open_portal() as portal:
        headers = {**maria, "Idempotency-Key": "click-1"}
        answers = await asyncio.gather(
            *(portal.post("api/sessions", headers=headers, json=LAB) for _ in range(5))
        )
        assert len({answer.json()["id"] for answer in answers}) == 1
        await until(portal, answers[0].json()["id"], maria, "ready")
        assert len(hub.calls("POST", "/servers/")) == 1


async def test_others_see_nothing_of_a_session(open_portal, maria):
    paul = {"Authorization": "token token-of-paul"}
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        for method, path in [("GET", ""), ("POST", "/stop"), ("DELETE", ""), ("GET", "/events")]:
            answer = await portal.request(method, f"api/sessions/{session}{path}", headers=paul)
            assert answer.status_code == 404
        assert (await portal.get("api/sessions", headers=paul)).json()["items"] == []


async def test_stop_then_forget(open_portal, hub, maria, config):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        kernel = config.paths.frozen / session / "kernel"
        kernel.mkdir(parents=True)
        await until(portal, session, maria, "ready")
        assert (await portal.delete(f"api/sessions/{session}", headers=maria)).status_code == 409
        stopping = await asyncio.gather(
            *(portal.post(f"api/sessions/{session}/stop", headers=maria) for _ in range(3))
        )
        assert {answer.status_code for answer in stopping} == {202}
        ended = await until(portal, session, maria, "stopped")
        assert ended["reason"] == "Stopped by maria."
        assert ended["url"] is None
        assert hub.users["maria"].servers == {}
        assert kernel.exists()
        assert (await portal.delete(f"api/sessions/{session}", headers=maria)).status_code == 204
        assert (await portal.get(f"api/sessions/{session}", headers=maria)).status_code == 404
        assert not (config.paths.frozen / session).exists(), "what was frozen of it goes too"


async def test_a_session_that_starts_can_be_stopped(open_portal, hub, maria):
    hub.mode = "slow"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await at_hub(hub, session)
        await portal.post(f"api/sessions/{session}/stop", headers=maria)
        assert (await until(portal, session, maria, "stopped", "failed"))["state"] == "stopped"
        plan = await portal.get(f"internal/sessions/{session}/plan", headers=INTERNAL)
        assert plan.status_code == 409


async def test_the_spawners_reason_is_the_one_shown(open_portal, hub, maria):
    hub.mode = "slow"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await at_hub(hub, session)
        report = {"state": "failed", "message": "The disk is full: delete something.", "progress": 100}
        await portal.post(f"internal/sessions/{session}/reports", headers=INTERNAL, json=report)
        hub.finish("maria", session, failure="500 Internal Error")
        failed = await until(portal, session, maria, "failed")
        assert failed["reason"] == "The disk is full: delete something."
        # A failed session takes no place of the person's.
        hub.mode = "quick"
        for _ in range(3):
            await launch(portal, maria)


async def test_what_the_hub_refuses_fails_with_its_reason(open_portal, hub, maria):
    hub.mode = "refused"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        assert "did not decide" in (await until(portal, session, maria, "failed"))["reason"]
        assert hub.calls("DELETE", session)


async def test_a_busy_hub_is_asked_again(open_portal, hub, maria):
    hub.mode = "busy"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        assert len(hub.calls("POST", session)) == 2


async def test_a_hub_that_comes_back_while_a_session_starts(open_portal, hub, maria):
    async with open_portal() as portal:
        await portal.get("api/me", headers=maria)
        hub.down = True
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "starting")
        hub.down = False
        await until(portal, session, maria, "ready")


async def test_a_person_the_hub_forgot_is_made_known_or_told(open_portal, hub, maria):
    async with open_portal() as portal:
        await portal.get("api/me", headers=maria)
        del hub.users["maria"]
        await until(portal, (await launch(portal, maria))["id"], maria, "ready")
        del hub.users["maria"]
        hub.may_create = False
        failed = await until(portal, (await launch(portal, maria))["id"], maria, "failed")
        assert "sign in again" in failed["reason"]


@pytest.mark.parametrize(
    ("wish", "answered"),
    [
        ({"datalab": "nothing"}, (404, "There is no datalab 'nothing'")),
        ({"datalab": "lab", "version": "sha256:0"}, (404, "has no version sha256:0")),
        ({"datalab": "lab", "volumes": ["nothing"]}, (404, "There is no volume 'nothing'")),
        ({"datalab": "lab", "nonsense": 1}, (422, "nonsense")),
        ({"datalab": "../../etc"}, (422, "datalab")),
        ({}, (422, "datalab")),
    ],
)
async def test_a_wrong_wish_is_refused_with_a_sentence(open_portal, hub, maria, wish, answered):
    status, sentence = answered
    async with open_portal() as portal:
        answer = await portal.post("api/sessions", headers=maria, json=wish)
        assert answer.status_code == status
        assert sentence in answer.json()["detail"]
        assert (await portal.get("api/sessions", headers=maria)).json()["items"] == []
        assert not hub.calls("POST", "/servers/")


async def test_pages_of_sessions_fit_together_while_new_ones_come(open_portal, maria):
    async with open_portal() as portal:
        made = []
        for number in range(7):
            session = (await launch(portal, maria, title=f"number {number}"))["id"]
            made.append(session)
            await until(portal, session, maria, "ready")
            await portal.post(f"api/sessions/{session}/stop", headers=maria)
            await until(portal, session, maria, "stopped")
        found, cursor = [], None
        while True:
            params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
            page = (await portal.get("api/sessions", headers=maria, params=params)).json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
            await launch(portal, maria)
        assert found == made[::-1]
        for cursor in ("nonsense", "ab!", "MTIzfHg"):
            answer = await portal.get("api/sessions", headers=maria, params={"cursor": cursor})
            assert answer.status_code == 422


# -- restarts ------------------------------------------------------------------------------------------------


async def test_a_running_session_is_found_again(open_portal, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
    async with open_portal() as portal:
        await portal.app.state.factory.sessions.reconcile()
        found = (await portal.get(f"api/sessions/{session}", headers=maria)).json()
        assert found["state"] == "ready"
        assert found["last_activity"].startswith("2026-11-21T10:00:00")


async def test_what_ended_while_the_portal_was_away_is_closed_with_a_reason(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
    hub.users["maria"].servers.clear()
    async with open_portal() as portal:
        closed = await until(portal, session, maria, "stopped")
        assert "ended" in closed["reason"]


async def test_a_start_that_was_under_way_is_followed_to_its_end(open_portal, hub, maria):
    hub.mode = "slow"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await at_hub(hub, session)
    async with open_portal() as portal:
        hub.finish("maria", session)
        await until(portal, session, maria, "ready")


async def test_a_hub_that_was_restarted_meanwhile_looks_first(open_portal, hub, maria):
    hub.mode = "slow"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await at_hub(hub, session)
    hub.users["maria"].servers[session].pending = "check"
    async with open_portal() as portal:
        while len(hub.calls("POST", session)) < 3:  # noqa: ASYNC110 - it is asked again and again
            await asyncio.sleep(0.01)
        hub.finish("maria", session)
        await until(portal, session, maria, "ready")


async def test_a_launch_that_the_hub_never_heard_of_is_made_up_for(open_portal, hub, maria):
    async with open_portal() as portal:
        await portal.get("api/me", headers=maria)
        hub.down = True
        answer = await portal.post("api/sessions", headers=maria, json=LAB)
        session = answer.json()["id"]
        # What a kill -9 between the row and the hub leaves behind.
        await portal.app.state.factory.sessions.aclose()
    hub.down = False
    async with open_portal() as portal:
        ended = await until(portal, session, maria, "ready", "failed")
        row = await portal.app.state.factory.sessions._store.get(session)
        assert row.session.state is SessionState(ended["state"])
        assert ended["state"] == "ready" or "restarted" in ended["reason"]


async def test_a_stop_that_was_under_way_is_finished(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        hub.down = True
        await portal.post(f"api/sessions/{session}/stop", headers=maria)
    hub.down = False
    async with open_portal() as portal:
        await until(portal, session, maria, "stopped")
        assert hub.users["maria"].servers == {}


async def test_an_ended_session_that_still_runs_is_stopped(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        report = {"state": "failed", "message": "It died.", "progress": 100}
        await portal.post(f"internal/sessions/{session}/reports", headers=INTERNAL, json=report)
        assert session in hub.users["maria"].servers
        hub.users["maria"].servers["made-by-hand"] = type(hub.users["maria"].servers[session])(ready=True)
        await portal.app.state.factory.sessions.reconcile()
        assert list(hub.users["maria"].servers) == ["made-by-hand"]


async def test_a_hub_that_does_not_answer_closes_nothing(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        hub.down = True
        with contextlib.suppress(Exception):
            await portal.app.state.factory.sessions.reconcile()
        assert (await until(portal, session, maria, "ready", "stopped"))["state"] == "ready"
