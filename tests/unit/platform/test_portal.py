from __future__ import annotations

import pytest

pytestmark = pytest.mark.asyncio


async def test_the_portal_lives_and_knows_who_asks(open_portal, maria):
    async with open_portal() as portal:
        assert (await portal.get("health")).json() == {"status": "ok"}
        me = (await portal.get("api/me", headers=maria)).json()
        assert me["name"] == "maria"
        assert me["teams"] == ["mars"]
        assert me["profile"] == {"sessions": 3, "cores": 2, "memory_mib": 4096}
        lab = (await portal.get("api/datalabs/lab", headers=maria)).json()
        assert lab["unavailable"] is None
        launched = await portal.post("api/sessions", headers=maria, json={"datalab": "lab"})
        assert launched.status_code == 202
        async with portal.stream(
            "GET", f"api/sessions/{launched.json()['id']}/events", headers=maria
        ) as answer:
            events = [line async for line in answer.aiter_lines() if line.startswith("data:")]
        assert '"state":"ready"' in events[-1]
        session = (await portal.get(f"api/sessions/{launched.json()['id']}", headers=maria)).json()
        assert session["url"] == f"/user/maria/{session['id']}/lab/tree/examples/tour.ipynb"


async def test_every_address_but_the_few_open_ones_wants_a_sign_in(open_portal):
    open_to_all = {"health", "oauth_callback", "static"}
    seen = set()
    async with open_portal() as portal:
        for route in portal.app.routes:
            print(type(route), getattr(route, "path", None))
