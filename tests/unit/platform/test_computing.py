from __future__ import annotations

import pytest

from cupola.models.session import Session
from cupola.platform.services.sessions.computing import HOLDS_S, MOST_SESSIONS, ComputingService
from support.fake_hub import ACCESS

PATH = 'mars/du"st & <b>.ipynb'


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def service(clock):
    return ComputingService(clock=clock)


def session(name="lab-1", **more):
    fields = {"id": name, "owner": "ada", "datalab": "lab", "version": "v", "title": "Lab", "state": "ready"}
    made = {"created": "2026-01-01T00:00:00Z", "url": f"/base/user/ada/{name}/lab/tree/a.ipynb"}
    return Session(**{**fields, **made, **more})


def test_what_computes_is_known_until_it_is_told_no_more(service, clock):
    one, other = session(), session("lab-2")
    service.tell(one, [PATH, PATH])
    (known,) = service.of([one, other])["lab-1"]
    assert known.path == PATH
    assert known.address == ("/base/user/ada/lab-1/lab/tree/mars/du%22st%20%26%20%3Cb%3E.ipynb?cupola-job")
    assert service.of([other]) == {}
    assert service.of([session(url=None)]) == {}
    clock.now += HOLDS_S
    assert service.of([one]) == {}
    service.tell(one, [PATH])
    service.tell(one, [])
    assert service.of([one]) == {}


def test_it_does_not_grow_for_ever(service):
    for number in range(MOST_SESSIONS + 5):
        service.tell(session().model_copy(update={"id": f"lab-{number}"}), [PATH])
    assert len(service._told) == MOST_SESSIONS


@pytest.mark.asyncio
async def test_a_session_tells_it_and_whoever_stops_it_reads_it(open_portal, maria, hub):
    hub.users.setdefault("paul", type(next(iter(hub.users.values())))())
    hub.add_token("token-of-paul", "paul")
    async with open_portal() as portal:
        launched = (await portal.post("api/sessions", headers=maria, json={"datalab": "lab"})).json()["id"]
        place = f"api/sessions/{launched}/computing"
        hub.add_token("of-the-session", "maria", scopes=(ACCESS, f"access:servers!server=maria/{launched}"))
        own = {"Authorization": "token of-the-session"}
        assert (await portal.put(place, headers=own, json={"notebooks": [PATH]})).status_code == 204
        foreign = {"Authorization": "token token-of-paul"}
        assert (await portal.put(place, headers=foreign, json={"notebooks": [PATH]})).status_code == 404
        for wrong in (
            "/etc/a.ipynb",
            "../a.ipynb",
            "a/../../hub/a.ipynb",
            "a//b.ipynb",
            "a.txt",
            "a\\b.ipynb",
            "a\n.ipynb",
        ):
            answer = await portal.put(place, headers=maria, json={"notebooks": [wrong]})
            assert answer.status_code == 422, wrong
        found = Session.model_validate((await portal.get(f"api/sessions/{launched}", headers=maria)).json())
        factory = portal.app.state.factory
        found = found.model_copy(update={"url": f"/user/maria/{launched}/lab"})
        assert [one.path for one in factory.computing.of([found])[launched]] == [PATH]
