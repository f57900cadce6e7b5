from __future__ import annotations

import pytest
import pytest_asyncio

from cupola.config import ProfileSettings
from cupola.exceptions import NotAllowedError, NotSignedInError, UnavailableError
from cupola.platform.services.people import people
from cupola.platform.services.people.people import PeopleService, Profiles
from cupola.platform.storage.hub.client import HubClient
from support.fake_hub import ACCESS

pytestmark = pytest.mark.asyncio


@pytest.fixture
def now():
    return [0.0]


@pytest_asyncio.fixture
async def service(settings, hub, now):
    client = HubClient(settings, hub.transport())
    yield PeopleService(
        hub=client,
        access_scopes=settings.access_scopes,
        profiles=Profiles(ProfileSettings(cores=2, memory_mib=1024)),
        clock=lambda: now[0],
    )
    await client.aclose()


async def test_the_hub_is_asked_once_in_fifteen_seconds(service, hub, now):
    assert (await service.person("token-of-paul")).admin
    now[0] = 14
    await service.person("token-of-paul")
    assert len(hub.calls("GET", "^/user$")) == 1
    now[0] = 16
    await service.person("token-of-paul")
    assert len(hub.calls("GET", "^/user$")) == 2


async def test_a_revoked_token_ends(service, hub, now):
    await service.person("token-of-paul")
    del hub.tokens["token-of-paul"]
    now[0] = 31
    with pytest.raises(NotSignedInError):
        await service.person("token-of-paul")


async def test_a_token_without_our_scope_opens_nothing(service, hub):
    hub.add_token("narrow", "maria", scopes=("self",))
    with pytest.raises(NotAllowedError):
        await service.person("narrow")


async def test_a_program_is_no_person(service, hub):
    hub.add_token("program", "culler", kind="service", scopes=(ACCESS,))
    with pytest.raises(NotAllowedError, match="culler"):
        await service.person("program")


@pytest.mark.parametrize("token", ["", "nonsense", "ünïcode", "line\nbreak", "x" * 5000])
async def test_nonsense_is_nobody(service, token):
    with pytest.raises(NotSignedInError):
        await service.person(token)


async def test_a_hub_that_is_not_there_is_no_sign_out(service, hub):
    hub.down = True
    with pytest.raises(UnavailableError):
        await service.person("token-of-maria")


async def test_what_is_remembered_is_bounded(service, hub, monkeypatch):
    monkeypatch.setattr(people, "_MOST", 10)
    for number in range(30):
        hub.add_token(f"t{number}", "maria")
        await service.person(f"t{number}")
    assert len(service._known) == 10


OWN = "access:servers!server=paul/lab-1"


@pytest.mark.parametrize(
    ("scopes", "session"),
    [
        ((ACCESS, OWN, "users:activity!user=paul"), True),
        ((ACCESS, OWN, "access:servers!user=paul"), False),
        ((ACCESS, OWN, "access:servers"), False),
        ((ACCESS, OWN, "access:servers!user=paula"), True),
        ((ACCESS,), False),
    ],
)
async def test_a_session_is_its_owner_without_their_powers(service, hub, scopes, session):
    hub.add_token("some", "paul", scopes=scopes)
    assert await service.is_session("some") is session
    person = await service.person("some")
    assert person.name == "paul"
    assert person.admin is not session
