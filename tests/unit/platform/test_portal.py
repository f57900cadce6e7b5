from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from fastapi.routing import APIRoute

from cupola.client import AsyncClient
from cupola.exceptions import ConflictError, NotFoundError, NotSignedInError, StartError
from cupola.models.session import LaunchRequest, SessionReport, SessionState
from cupola.platform.app import create_app
from cupola.platform.handlers import streams
from cupola.platform.storage.hub.settings import HubSettings
from support.fake_hub import PREFIX

pytestmark = pytest.mark.asyncio

OPEN_TO_ALL = {("GET", "health"), ("GET", "oauth_callback")}
PAGE = {"Accept": "text/html"}


def all_routes(routes, prefix=""):
    """Yield method and path of each route, also of those in routers in routers."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from all_routes(inner.routes, prefix + route.include_context.prefix)
        elif isinstance(route, APIRoute):
            for method in route.methods:
                yield method, prefix + route.path


async def test_nobody_gets_in_anywhere_but_where_everybody_may(open_portal):
    async with open_portal() as portal:
        found = {(method, path.removeprefix(PREFIX)) for method, path in all_routes(portal.app.routes)}
        assert ("POST", "api/sessions") in found
        assert ("GET", "internal/sessions/{session}/plan") in found
        for method, path in sorted(found - OPEN_TO_ALL):
            address = re.sub(r"{[^}]*}", "1", path)
            for headers in ({}, {"Authorization": "token nonsense"}, {"Cookie": "service-cupola=nonsense"}):
                answer = await portal.request(method, address, headers=headers)
                wanted = 403 if path.startswith("internal/") else 401
                assert answer.status_code == wanted, (method, path, headers)


@pytest.mark.parametrize(
    "token", [None, "token-of-paul", "portal-token", "internal-toke", "internal-token2", "ü"]
)
async def test_only_the_internal_token_opens_the_internal_addresses(open_portal, token):
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
    async with open_portal() as portal:
        assert (await portal.get("internal/sessions/lab-1/plan", headers=headers)).status_code == 403
        report = {"state": "ready", "message": "x"}
        answer = await portal.post("internal/sessions/lab-1/reports", headers=headers, json=report)
        assert answer.status_code == 403


async def test_the_internal_token_is_no_person(open_portal):
    async with open_portal() as portal:
        answer = await portal.get("api/me", headers={"Authorization": "Bearer internal-token"})
        assert answer.status_code == 401


async def test_every_answer_carries_the_security_headers(open_portal, maria):
    async with open_portal() as portal:
        for path, headers in [("health", {}), ("api/me", maria), ("api/me", {}), ("nothing", PAGE)]:
            answer = await portal.get(path, headers=headers)
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"


async def test_errors_are_problems_for_programs_and_pages_for_people(open_portal, maria, hub):
    async with open_portal() as portal:
        answer = await portal.get("api/datalabs/nothing", headers=maria)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": "https://cupola.invalid/problems/not-found",
            "title": "Not found",
            "status": 404,
            "detail": "There is no datalab 'nothing': the catalogue shows which there are.",
            "instance": PREFIX + "api/datalabs/nothing",
        }
        page = await portal.get("no/<script>/such-page", headers=PAGE)
        assert page.status_code == 404
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>/such" not in page.text
        assert (await portal.put("api/me", headers=maria)).status_code == 405
        assert (await portal.get("api/me")).headers["www-authenticate"].startswith("Bearer")
        hub.down = True
        answer = await portal.get("api/me", headers={"Authorization": "token fresh"})
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("/unavailable")


async def test_what_we_did_not_expect_tells_nothing_of_our_inside(open_portal, maria, monkeypatch):
    async with open_portal() as portal:
        monkeypatch.setattr(portal.app.state.factory, "catalogue", None)
        answer = await portal.get("api/datalabs", headers=maria)
        assert answer.status_code == 500
        assert "NoneType" not in answer.text
        assert answer.json()["type"].endswith("/error")
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_body_that_is_too_large_is_refused(open_portal, maria):
    async def flood():
        for _ in range(97):
            yield b" " * 2**20

    async with open_portal() as portal:
        headers = {**maria, "Content-Type": "application/json"}
        answer = await portal.post("api/sessions", headers=headers, content=flood())
        assert answer.status_code == 413
        assert answer.json()["type"].endswith("/limit")


async def test_the_description_of_the_api_is_whole(open_portal):
    async with open_portal() as portal:
        document = (await portal.get("api/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "Problem" in document["components"]["schemas"]
    for path, methods in document["paths"].items():
        assert path.startswith(PREFIX + "api/")
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert "application/problem+json" in operation["responses"]["4XX"]["content"]
    names = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(names) == len(set(names))


async def test_a_silent_stream_shows_that_it_lives(monkeypatch):
    monkeypatch.setattr(streams, "_HEARTBEAT_S", 0.01)
    ended = []

    async def never():
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ended.append(True)

    lines = streams._lines("thing", never(), None)
    assert [await anext(lines) for _ in range(3)][1:] == [": still here\n\n"] * 2
    await lines.aclose()
    assert ended == [True]


async def test_an_error_in_a_stream_is_told():
    async def broken():
        yield SessionReport(state=SessionState.READY, message="x")
        raise NotFoundError("It was\nforgotten.")

    lines = [line async for line in streams._lines("thing", broken(), None)]
    assert lines[-1] == "event: problem\ndata: It was forgotten.\n\n"


async def test_without_a_hub_the_portal_does_not_start(config):
    with pytest.raises(StartError, match="cupola up"):
        create_app(config)


@pytest.mark.parametrize("scopes", ["[]", "{}", "nonsense", "[1]"])
async def test_nobody_is_let_in_by_a_missing_scope(scopes):
    names = ("API_URL", "API_TOKEN", "CLIENT_ID", "SERVICE_PREFIX", "SERVICE_URL")
    environment = {f"JUPYTERHUB_{name}": "x" for name in names} | {"CUPOLA_INTERNAL_TOKEN": "x"}
    with pytest.raises(StartError):
        HubSettings.from_environment({**environment, "JUPYTERHUB_OAUTH_ACCESS_SCOPES": scopes})


async def test_secrets_are_not_shown(settings):
    assert "portal-token" not in repr(settings)
    assert "internal-token" not in repr(settings)


async def test_the_client_and_the_portal_understand_each_other(open_portal):
    async with open_portal() as portal:
        transport = httpx.ASGITransport(portal.app)
        root = f"http://cupola.test{PREFIX}api"
        async with AsyncClient(root, "token-of-maria", transport=transport) as client:
            assert (await client.me()).name == "maria"
            assert "lab" in [datalab.name for datalab in await client.datalabs()]
            assert (await client.volume("mars-archive")).unavailable is None
            session = await client.launch(LaunchRequest(datalab="lab", title="First"))
            events = [event async for event in client.session_events(session.id)]
            assert events[-1].state is SessionState.READY
            assert (
                await client.session(session.id)
            ).url == f"/user/maria/{session.id}/lab/tree/examples/tour.ipynb"
            with pytest.raises(ConflictError):
                await client.delete_session(session.id)
            with pytest.raises(NotFoundError):
                await client.datalab("nothing")
        async with AsyncClient(root, "internal-token", transport=transport) as hub:
            assert (await hub.plan(session.id)).session == session.id
            await hub.report(
                session.id, SessionReport(state=SessionState.STOPPED, message="It ended by itself.")
            )
        async with AsyncClient(root, "nonsense", transport=transport) as nobody:
            with pytest.raises(NotSignedInError):
                await nobody.me()
            ended = await portal.get(
                f"api/sessions/{session.id}", headers={"Authorization": "token token-of-maria"}
            )
            assert ended.json()["reason"] == "It ended by itself."
