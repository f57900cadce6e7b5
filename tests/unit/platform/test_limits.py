"""Sessions with limits: sizes, GPUs, capacity, restarts and ends, as the portal decides them for containers."""

from __future__ import annotations

import asyncio
import json

import pytest

from cupola.config import Config
from cupola.models.containers import SessionNetwork
from cupola.platform.services.sessions import hub as sessionhub
from support.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio

DIGEST = "sha256:" + "b2" * 32
AWAY = "sha256:" + "c3" * 32
INTERNAL = {"Authorization": "Bearer internal-token"}
GIB = 1024


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path, cores=4) as engine:
        engine.images.append(DIGEST)
        yield engine


@pytest.fixture
def config(tmp_path, engine):
    config = Config.model_validate(
        {
            "state": str(tmp_path / "state"),
            "owner": "maria",
            "compute": "docker",
            "sample_archive": False,
            "profile": {"sessions": 40, "cores": 3, "memory_mib": 8 * GIB, "gpus": 2},
            "profiles": [{"name": "small", "people": ["paul"], "cores": 0.5, "memory_mib": GIB, "gpus": 0}],
            "docker": {"host": engine.host, "gpus": 2, "overcommit": 2, "cores": 1.5, "memory_mib": 2 * GIB},
            "prices": {"currency": "EUR", "core_hour": 1, "gib_hour": 0.5},
        }
    )
    for digest in (DIGEST, AWAY):
        add_image(config, digest)
    network = SessionNetwork(
        key=config.paths.key,
        host=engine.host,
        name="n",
        bridge="b",
        gateway="10.9.0.1",
        subnet="10.9.0.0/16",
        door=4000,
    )
    config.paths.network.parent.mkdir(parents=True, exist_ok=True)
    config.paths.network.write_text(network.model_dump_json())
    return config


def add_image(config, digest):
    place = config.paths.images / "lab" / digest.removeprefix("sha256:")[:12]
    place.mkdir(parents=True)
    version = {"digest": digest, "label": "2026.11", "created": "2026-11-01T00:00:00Z", "ready": True}
    (place / "version.json").write_text(json.dumps(version))


def size(cores=1.0, memory_mib=GIB, gpus=0):
    return {"cores": cores, "memory_mib": memory_mib, "gpus": gpus}


async def ask(portal, headers, **wish):
    return await portal.post("api/sessions", headers=headers, json={"datalab": "lab", **wish})


async def launch(portal, headers, **wish):
    answer = await ask(portal, headers, **wish)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def until(portal, session, headers, *states):
    async with asyncio.timeout(60):
        while True:
            found = (await portal.get(f"api/sessions/{session}", headers=headers)).json()
            if found["state"] in states:
                return found
            await asyncio.sleep(0.01)


async def plan_of(portal, session):
    answer = await portal.get(f"internal/sessions/{session}/plan", headers=INTERNAL)
    assert answer.status_code == 200, answer.text
    return answer.json()["container"]


async def report(portal, session, **fields):
    answer = await portal.post(f"internal/sessions/{session}/reports", headers=INTERNAL, json=fields)
    assert answer.status_code == 200, answer.text


OUT_OF_MEMORY = {
    "cause": "out-of-memory",
    "exit_code": 137,
    "signal": "SIGKILL",
    "peak_memory_mib": 2040,
    "memory_limit_mib": 2048,
    "log": ["about to allocate", "Killed"],
}


async def die(portal, hub, session):
    """Let a running session run out of memory."""
    await report(portal, session, state="stopped", message="It ended.", end=OUT_OF_MEMORY)
    hub.users["maria"].servers.pop(session, None)


async def test_a_session_gets_what_it_asks_for_or_the_usual_size_and_it_is_in_the_plan(open_portal, maria):
    async with open_portal() as portal:
        wish = size(2, 3 * GIB, 1)
        asked = await launch(portal, maria, resources=wish, environment={"A": "1"}, title="  Dust \n storms ")
        assert (asked["resources"], asked["title"]) == (wish, "Dust storms")
        plan = await plan_of(portal, asked["id"])
        assert (plan["resources"], plan["gpus"], plan["image"]) == (wish, [0], DIGEST)
        assert plan["environment"]["A"] == "1"
        usual = await launch(portal, maria)
        assert usual["resources"] == size(1.5, 2 * GIB)
        assert (await plan_of(portal, usual["id"]))["resources"] == size(1.5, 2 * GIB)


async def test_the_usual_size_is_lowered_to_a_small_profile_and_told(open_portal):
    paul = {"Authorization": "token token-of-paul"}
    async with open_portal() as portal:
        assert (await portal.get("api/me", headers=paul)).json()["profile"]["name"] == "small"
        session = await launch(portal, paul)
        assert session["resources"] == size(0.5, GIB)
        assert session["notices"] == [
            "Lowered from 1.5 cores to 0.5 cores, the most that you may have here.",
            "Lowered from 2 GiB to 1 GiB, the most that you may have here.",
        ]


@pytest.mark.parametrize(
    ("wish", "status", "sentence"),
    [
        ({"resources": size(cores=3.5)}, 429, "your profile default allows 3 cores"),
        ({"resources": size(memory_mib=8 * GIB + 1)}, 429, "your profile default allows 8 GiB"),
        ({"resources": size(gpus=3)}, 429, "your profile default allows 2 GPUs"),
        ({"resources": size(cores=0.01)}, 422, "at least"),
        ({"resources": size(memory_mib=1)}, 422, "at least"),
        ({"version": AWAY}, 409, "in no registry"),
        ({"version": "sha256:0"}, 404, "has no version sha256:0"),
        ({"volumes": ["nothing"]}, 404, "There is no volume 'nothing'"),
        ({"environment": {"LD_PRELOAD": "x.so"}}, 422, "The variable LD_PRELOAD cannot be set"),
    ],
)
async def test_what_cannot_be_had_is_refused_with_the_way_out(  # noqa: PLR0913, PLR0917 - a table
    open_portal, hub, maria, wish, status, sentence
):
    async with open_portal() as portal:
        answer = await ask(portal, maria, **wish)
        assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
        assert (await portal.get("api/sessions", headers=maria)).json()["items"] == []
        assert not hub.calls("POST", "/servers/")


async def test_memory_is_promised_once_also_by_two_portals_at_once(open_portal, maria):
    async with open_portal() as one, open_portal() as two:
        wish = {"resources": size(0.5, 4 * GIB)}
        answers = await asyncio.gather(*(ask(portal, maria, **wish) for portal in (one, two) * 5))
        assert sorted(answer.status_code for answer in answers) == [202] * 4 + [429] * 6
        refused = next(answer.json()["detail"] for answer in answers if answer.status_code == 429)
        assert refused.startswith("This session wants 4 GiB of memory and 0 MiB are free now: choose less")
        capacity = (await one.get("api/capacity", headers=maria)).json()
        assert (capacity["free_memory_mib"], capacity["total_memory_mib"]) == (0, 16 * GIB)
        assert (capacity["free_cores"], capacity["total_cores"], capacity["most_cores"]) == (6, 8, 4)


async def test_a_core_is_promised_as_often_as_the_operator_says(open_portal, maria):
    async with open_portal() as portal:
        answers = [await ask(portal, maria, resources=size(2, 512)) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [202] * 4 + [429]
        assert "wants 2 cores and 0 cores are free now" in answers[-1].json()["detail"]


async def test_each_gpu_belongs_to_one_session_until_that_ends(open_portal, maria):
    async with open_portal() as portal:
        wish = {"resources": size(0.5, 512, 1)}
        answers = await asyncio.gather(*(ask(portal, maria, **wish) for _ in range(6)))
        got = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        gpus = {session: (await plan_of(portal, session))["gpus"] for session in got}
        assert sorted(gpus.values()) == [[0], [1]]
        assert "wants 1 GPU and 0 GPUs are free now" in next(
            answer.json()["detail"] for answer in answers if answer.status_code == 429
        )
        first = next(session for session in got if gpus[session] == [0])
        await until(portal, first, maria, "ready")
        await portal.post(f"api/sessions/{first}/stop", headers=maria)
        await until(portal, first, maria, "stopped")
        again = await launch(portal, maria, resources=size(0.5, 512, 1))
        assert (await plan_of(portal, again["id"]))["gpus"] == [0]


async def test_a_session_that_ran_out_of_memory_says_so_and_is_restarted_bigger(open_portal, hub, maria):
    async with open_portal() as portal:
        wish = {"resources": size(1, 2 * GIB), "environment": {"A": "1"}, "clean": True, "title": "Mosaic"}
        session = (await launch(portal, maria, **wish))["id"]
        await until(portal, session, maria, "ready")
        await die(portal, hub, session)
        ended = await until(portal, session, maria, "failed")
        assert "more memory than the 2 GiB it may have (it had 1.99 GiB)" in ended["reason"]
        assert ended["end"]["log"] == ["about to allocate", "Killed"]
        portal.cookies.update({"service-cupola": "token-of-maria"})
        page = (await portal.get("sessions", headers={"Accept": "text/html"})).text
        assert "Bigger means 1 core, 4 GiB." in page
        assert 'name="memory_mib" value="4096"' in page
        portal.cookies.clear()
        answer = await portal.post(
            f"api/sessions/{session}/restart", headers=maria, json={"resources": size(1, 4 * GIB)}
        )
        new = answer.json()
        assert (answer.status_code, new["resources"]) == (202, size(1, 4 * GIB))
        assert new["id"] != session
        for name in ("version", "title", "clean", "environment", "volumes"):
            assert new[name] == ended[name], name
        await until(portal, new["id"], maria, "ready")


async def test_a_program_killed_in_a_session_that_goes_on_is_told_and_a_bigger_one_offered(
    open_portal, maria
):
    async with open_portal() as portal:
        session = (await launch(portal, maria, resources=size(1, 2 * GIB)))["id"]
        lost = {"cause": "out-of-memory", "signal": "SIGKILL", "memory_limit_mib": 2 * GIB}
        await until(portal, session, maria, "ready")
        for _ in range(2):
            await report(portal, session, state="ready", message="A program in it was ended", end=lost)
        seen = (await portal.get(f"api/sessions/{session}", headers=maria)).json()
        assert (seen["state"], seen["end"]) == ("ready", None)
        [notice] = seen["notices"]
        assert "used up all of the 2 GiB that it may have" in notice
        portal.cookies.update({"service-cupola": "token-of-maria"})
        for path in ("sessions", f"sessions/{session}"):
            page = (await portal.get(path, headers={"Accept": "text/html"})).text
            assert "used up all of the 2 GiB" in page
            assert "Bigger means 1 core, 4 GiB." in page
            assert f'id="bigger-{session}"' in page
        assert page.count("<span>A program in it") == 2, "each of the two is among what happened"
        portal.cookies.clear()
        await report(portal, session, state="stopped", message="Stopped", end={"cause": "asked"})
        await report(portal, session, state="ready", message="too late", end=lost)
        ended = (await portal.get(f"api/sessions/{session}", headers=maria)).json()
        assert (ended["state"], ended["notices"]) == ("stopped", [notice])


async def test_a_reason_that_comes_late_is_kept_all_the_same(open_portal, hub, maria):
    hub.mode = "refused"
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "failed")
        await report(portal, session, state="failed", message="x", end={"cause": "no-image"})
        found = (await portal.get(f"api/sessions/{session}", headers=maria)).json()
        assert "choose another version" in found["reason"]
        await report(portal, session, state="failed", message="x", end={"cause": "lost"})
        assert (await portal.get(f"api/sessions/{session}", headers=maria)).json()["end"] == found["end"]


async def test_a_hundred_restarts_at_once_make_one_session(open_portal, hub, maria):
    async with open_portal() as one, open_portal() as two:
        session = (await launch(one, maria, resources=size(1, 2 * GIB, 2)))["id"]
        await until(one, session, maria, "ready")
        answers = await asyncio.gather(
            *(portal.post(f"api/sessions/{session}/restart", headers=maria) for portal in (one, two) * 50)
        )
        assert {answer.status_code for answer in answers} <= {202, 409}
        [new] = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        await until(one, new, maria, "ready")
        assert (await until(one, session, maria, "stopped"))["reason"] == "Restarted by maria."
        assert set(hub.users["maria"].servers) == {new}
        assert len(hub.calls("POST", f"/servers/{new}$")) == 1
        # Both GPUs passed from one to the other: it began when the other had ended.
        assert (await plan_of(one, new))["gpus"] == [0, 1]
        verbs = [(verb, path.rpartition("/")[2]) for verb, path in hub.log if "/servers/" in path]
        assert verbs.index(("DELETE", session)) < verbs.index(("POST", new))


async def test_who_stops_a_session_cannot_restart_it_in_the_same_moment(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        paths = [f"api/sessions/{session}/{deed}" for deed in ("stop", "restart") * 50]
        answers = await asyncio.gather(*(portal.post(path, headers=maria) for path in paths))
        assert {answer.status_code for answer in answers} <= {202, 409}
        items = (await portal.get("api/sessions", headers=maria)).json()["items"]
        assert len(items) <= 2
        await until(portal, session, maria, "stopped")
        for item in items:
            await until(portal, item["id"], maria, "ready", "stopped")
        left = {item["id"] for item in items} - {session}
        assert set(hub.users["maria"].servers) == left


async def test_a_session_that_ended_is_restarted_as_often_as_its_successor_ended(open_portal, maria):
    async with open_portal() as portal:
        first = (await launch(portal, maria))["id"]
        found = set()
        for _ in range(3):
            answers = [await portal.post(f"api/sessions/{first}/restart", headers=maria) for _ in range(2)]
            [new] = {answer.json()["id"] for answer in answers}
            found.add(new)
            await until(portal, new, maria, "ready")
            await portal.post(f"api/sessions/{new}/stop", headers=maria)
            await until(portal, new, maria, "stopped")
        assert len(found) == 3


async def test_a_restart_that_is_refused_leaves_the_old_one_running(open_portal, hub, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        await until(portal, session, maria, "ready")
        await launch(portal, maria, resources=size(0.5, 8 * GIB))
        await launch(portal, maria, resources=size(0.5, 5 * GIB))
        wish = {"resources": size(1, 4 * GIB)}
        answer = await portal.post(f"api/sessions/{session}/restart", headers=maria, json=wish)
        assert answer.status_code == 429
        assert (await portal.get(f"api/sessions/{session}", headers=maria)).json()["state"] == "ready"
        assert not hub.calls("DELETE", session)
        # Its own memory is its to take along.
        wish = {"resources": size(1, 3 * GIB)}
        answer = await portal.post(f"api/sessions/{session}/restart", headers=maria, json=wish)
        assert answer.status_code == 202


async def test_what_it_uses_costs_and_prints_is_told(open_portal, engine, config, maria):
    async with open_portal() as portal:
        session = (await launch(portal, maria, resources=size(2, 2 * GIB)))["id"]
        await until(portal, session, maria, "ready")
        assert (await portal.get(f"api/sessions/{session}/usage", headers=maria)).status_code == 409
        engine.containers["c1"] = (config.paths.key, session)
        engine.stats["c1"] = {
            "memory_stats": {"usage": 700 * 2**20},
            "cpu_stats": {"cpu_usage": {"total_usage": 1}},
        }
        async with asyncio.timeout(60):
            # What was seen before is remembered for two seconds.
            while (  # noqa: ASYNC110 - there is no event for it
                answer := await portal.get(f"api/sessions/{session}/usage", headers=maria)
            ).is_error:
                await asyncio.sleep(0.1)
        assert answer.json()["memory_mib"] == 700
        found = (await portal.get(f"api/sessions/{session}", headers=maria)).json()
        assert found["usage"]["memory_mib"] == 700
        assert 0 <= found["cost"] < 0.1
        renamed = await portal.patch(
            f"api/sessions/{session}", headers=maria, json={"title": " New\n title "}
        )
        assert renamed.json()["title"] == "New title"
        empty = await portal.patch(f"api/sessions/{session}", headers=maria, json={"title": " "})
        assert empty.status_code == 422
        await portal.post(f"api/sessions/{session}/stop", headers=maria)
        await until(portal, session, maria, "stopped")
        log = await portal.get(f"api/sessions/{session}/log", headers=maria)
        assert (log.status_code, log.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (await portal.get(f"api/sessions/{session}", headers=maria)).json()["title"] == "New title"


async def test_others_can_do_nothing_with_a_session(open_portal, maria):
    paul = {"Authorization": "token token-of-paul"}
    async with open_portal() as portal:
        session = (await launch(portal, maria))["id"]
        for method, path, body in [
            ("PATCH", "", {"title": "x"}),
            ("POST", "/restart", None),
            ("GET", "/usage", None),
            ("GET", "/log", None),
        ]:
            answer = await portal.request(method, f"api/sessions/{session}{path}", headers=paul, json=body)
            assert answer.status_code == 404, path
