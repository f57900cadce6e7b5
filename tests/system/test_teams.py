"""Teams and shared sessions on a real platform: real sign-in, hub, proxy, Jupyter servers and kernels."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cupola.monitor.kernel import Kernel
from support.people import GUESTS, people
from support.platform import OWNER, Platform

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

PATIENCE = 120
OUT_WITHIN = 60
"""Seconds after which whoever is shut out must be out: the promise."""
NOTEBOOK = {
    "type": "notebook",
    "format": "json",
    "content": {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    one = Platform(
        tmp_path_factory.mktemp("teams"),
        more={"PYTHONPATH": os.pathsep.join([str(GUESTS), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        one.start()
        yield one
    finally:
        one.clean()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_of_them(place):
    async with people(place, OWNER, "mike", "olga") as found:
        ada, mike, olga = found
        await ada.call("POST", "/teams", 201, name="mars-crew", title="Mars crew")
        link = (await ada.call("POST", "/teams/mars-crew/invitations", 201, role="member"))["link"]
        await mike.call("POST", "/invitations/accept", 200, token=link.rpartition("/")[2])
        session = await ada.call("POST", "/sessions", 202, datalab="lab")
        async with asyncio.timeout(PATIENCE):
            while session["state"] != "ready":
                await asyncio.sleep(0.2)
                session = await ada.call("GET", f"/sessions/{session['id']}", 200)
                assert session["state"] != "failed", session["reason"]
        assert (await ada.open_lab(session)).status_code == 200
        yield ada, mike, olga, session


@pytest_asyncio.fixture(loop_scope="module")
async def crew(all_of_them):
    ada, _, _, session = all_of_them
    yield all_of_them
    for share in (await ada.call("GET", f"/sessions/{session['id']}/shares", 200))["items"]:
        await ada.call("DELETE", f"/sessions/{session['id']}/shares/{share['id']}", 204)


async def kernel_of(guest, session):
    """Start a kernel and connect to it; the answer's status where that is refused."""
    made = await guest.in_session(session, "POST", "api/kernels", json={"name": "python3"})
    if made.status_code != 201:
        return made
    return await connect(guest, session, made.json()["id"])


async def connect(guest, session, kernel):
    visitor = guest.visitor
    prefix = f"/user/{OWNER}/{session['id']}/"
    cookies = "; ".join(f"{name}={value}" for name, value in visitor._cookies(prefix))
    address = f"{visitor.address}{prefix}api/kernels/{kernel}/channels".replace("http", "ws", 1)
    return await Kernel.connect(address, cookies=cookies, origin=visitor.address)


async def listen(kernel):
    async with asyncio.timeout(OUT_WITHIN):
        while True:
            await kernel._socket.recv()


async def test_a_member_edits_runs_and_saves_in_the_shared_session(crew):
    ada, mike, olga, session = crew
    assert (await mike.open_lab(session)).status_code == 403
    await ada.call("POST", f"/sessions/{session['id']}/shares", 201, team="mars-crew", access="full")
    shared = await mike.call("GET", "/shared", 200)
    assert [(one["id"], one["shared_by"]) for one in shared["items"]] == [(session["id"], OWNER)]
    opened = await mike.open_lab(session)
    assert opened.status_code == 200, f"{opened.url}: {opened.text[-3000:]}"
    assert opened.url.path == f"/user/{OWNER}/{session['id']}/lab"
    notebook = json.loads(json.dumps(NOTEBOOK))
    cell = {"cell_type": "code", "source": "6 * 7", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["content"]["cells"].append({**cell, "id": "one"})
    saved = await mike.in_session(session, "PUT", "api/contents/shared.ipynb", json=notebook)
    assert saved.status_code == 201, saved.text
    kernel = await kernel_of(mike, session)
    async with asyncio.timeout(PATIENCE):
        outcome = await kernel.run("print(6 * 7)")
    assert outcome.text.strip() == "42"
    await kernel.close()
    seen = await ada.in_session(session, "GET", "api/contents/shared.ipynb")
    assert seen.json()["content"]["cells"][0]["source"] == "6 * 7"
    assert (await olga.open_lab(session)).status_code == 403


async def test_whoever_may_look_changes_and_runs_nothing(crew):
    ada, _, olga, session = crew
    made = await ada.in_session(session, "PUT", "api/contents/seen.ipynb", json=NOTEBOOK)
    assert made.status_code in {200, 201}
    kernels = await ada.in_session(session, "POST", "api/kernels", json={"name": "python3"})
    running = kernels.json()["id"]
    await ada.call("POST", f"/sessions/{session['id']}/shares", 201, person="olga", access="view")
    assert (await olga.open_lab(session)).status_code == 200
    assert (await olga.in_session(session, "GET", "api/contents/seen.ipynb")).status_code == 200
    assert (await olga.in_session(session, "GET", "api/kernels")).status_code == 200
    refused = [
        await olga.in_session(session, "PUT", "api/contents/seen.ipynb", json=NOTEBOOK),
        await olga.in_session(session, "PATCH", "api/contents/seen.ipynb", json={"path": "gone.ipynb"}),
        await olga.in_session(session, "DELETE", "api/contents/seen.ipynb"),
        await olga.in_session(session, "POST", "api/contents", json={"type": "notebook"}),
        await olga.in_session(session, "POST", "api/kernels", json={"name": "python3"}),
        await olga.in_session(session, "POST", f"api/kernels/{running}/interrupt"),
        await olga.in_session(session, "DELETE", f"api/kernels/{running}"),
        await olga.in_session(
            session, "POST", "api/sessions", json={"path": "seen.ipynb", "type": "notebook"}
        ),
        await olga.in_session(session, "GET", "api/terminals"),
        await olga.in_session(session, "POST", "api/terminals"),
        await olga.in_session(session, "POST", "api/shutdown"),
        await olga.in_session(session, "GET", "nbconvert/html/seen.ipynb"),
        await olga.in_session(session, "GET", "cupola/tiles/0/WebMercatorQuad/0/0/0.png"),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert "ask ada for full access" in refused[0].json()["message"]
    with pytest.raises(InvalidStatus) as refusal:
        await connect(olga, session, running)
    assert refusal.value.response.status_code == 403
    async with asyncio.timeout(PATIENCE):
        kernel = await connect(ada, session, running)
        assert (await kernel.run("print('mine')")).text.strip() == "mine"
    await kernel.close()


async def test_whoever_is_shut_out_is_out_within_the_minute(crew):
    ada, mike, _, session = crew
    share = await ada.call("POST", f"/sessions/{session['id']}/shares", 201, person="mike", access="full")
    assert (await mike.open_lab(session)).status_code == 200
    theirs, hers = await kernel_of(mike, session), await kernel_of(ada, session)
    async with asyncio.timeout(PATIENCE):
        assert (await theirs.run("print(1)")).text.strip() == "1"
    await ada.call("DELETE", f"/sessions/{session['id']}/shares/{share['id']}", 204)
    begun = time.monotonic()
    with pytest.raises(ConnectionClosed):
        await listen(theirs)
    async with asyncio.timeout(OUT_WITHIN - (time.monotonic() - begun)):
        while (await mike.in_session(session, "GET", "api/contents")).status_code != 403:  # noqa: ASYNC110 - a browser asks again and again too
            await asyncio.sleep(1)
    with pytest.raises(InvalidStatus):
        await connect(mike, session, "0" * 8)
    async with asyncio.timeout(PATIENCE):
        assert (await hers.run("print('still here')")).text.strip() == "still here"
    await hers.close()


async def test_whoever_leaves_the_team_is_out_and_can_be_let_in_again(crew):
    ada, mike, _, session = crew
    await ada.call("POST", f"/sessions/{session['id']}/shares", 201, team="mars-crew", access="full")
    assert (await mike.open_lab(session)).status_code == 200
    await mike.call("DELETE", "/teams/mars-crew/members/mike", 204)
    async with asyncio.timeout(OUT_WITHIN):
        while (await mike.in_session(session, "GET", "api/contents")).status_code != 403:  # noqa: ASYNC110 - a browser asks again and again too
            await asyncio.sleep(1)
    asked = await ada.call("POST", "/teams/mars-crew/invitations", 201, person="mike")
    await mike.call("POST", "/invitations/accept", 200, id=asked["id"])
    async with asyncio.timeout(OUT_WITHIN):
        while (await mike.open_lab(session)).status_code != 200:  # noqa: ASYNC110 - a browser asks again and again too
            await asyncio.sleep(1)
