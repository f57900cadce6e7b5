from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime

import httpx
import pytest
import websockets
from tornado.web import HTTPError
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cupola.lab.app.activity import is_input
from cupola.lab.app.door import Visitors
from support.app_session import PREFIX, QUICK, SCOPE, TOOL, AppSession, DoorHub, sign_in


@pytest.fixture
def hub():
    one = DoorHub()
    yield one
    one.stop()


@pytest.fixture
def session(hub, tmp_path):
    one = AppSession(hub, tmp_path).ready()
    yield one
    one.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A session for all who are strangers to it: nothing they do leaves a trace."""
    hub = DoorHub()
    one = AppSession(hub, tmp_path_factory.mktemp("shared"))
    try:
        yield one.ready()
    finally:
        one.close()
        hub.stop()


def cookies(client):
    return {"Cookie": "; ".join(f"{one.name}={one.value}" for one in client.cookies.jar)}


def chat(session, headers, *messages, path="ws"):
    async def go():
        url = session.url.replace("http:", "ws:") + path
        async with websockets.connect(url, additional_headers=headers, proxy=None) as one:
            answers = []
            for message in messages:
                await one.send(message)
                answers.append(await one.recv())
            return answers

    return asyncio.run(go())


def test_a_stranger_is_sent_to_the_sign_in(shared):
    page = shared.get("index.html")
    assert page.status_code == 302
    assert page.headers["location"].startswith(
        "/hub/api/oauth2/authorize?client_id=jupyterhub-user-maria-topcat-1"
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_stranger_can_do_nothing(shared, method):
    assert httpx.request(method, shared.url + "anything").status_code == 403


def test_a_script_of_a_stranger_is_not_sent_to_the_sign_in(shared):
    assert shared.get("a.js", headers={"Sec-Fetch-Mode": "cors"}).status_code == 403


def test_websockets_need_the_sign_in_too(shared):
    with pytest.raises(InvalidStatus) as caught:
        chat(shared, {}, "hello")
    assert caught.value.response.status_code == 403


def test_the_owner_signs_in_and_reaches_the_tool(session, hub):
    client = sign_in(session, hub, "maria", "access:servers!user=maria")
    told = client.get(PREFIX + "a/b?c=d").json()
    assert told["path"] == "a/b"
    assert told["uri"] == "/a/b?c=d"
    assert told["headers"]["X-Forwarded-Prefix"].rstrip("/") == PREFIX.rstrip("/")
    assert client.post(PREFIX + "upload", content=b"x" * 3_000_000).json() == {"got": 3_000_000}
    assert chat(session, cookies(client), "hello", b"\x00\xff") == ["hello", b"\x00\xff"]


def test_the_tool_never_sees_keys_to_the_platform(session, hub):
    hub.visits["guest"] = "full"
    client = sign_in(session, hub, "guest", SCOPE)
    client.cookies.set("mine", "kept", path=PREFIX)
    client.cookies.set("jupyterhub-session-id", "s1", path="/")
    told = client.get(PREFIX).json()["headers"]
    assert told["Cookie"] == "mine=kept"
    told = session.get(headers={"Authorization": "token token-of-guest"}).json()["headers"]
    assert "token-of-guest" not in json.dumps(told)


def test_who_is_signed_in_but_not_invited_gets_403(session, hub):
    client = sign_in(session, hub, "paul", "access:servers!user=paul")
    page = client.get(PREFIX)
    assert page.status_code == 403
    assert "you are signed in as paul, and this session is not shared with you" in page.text
    with pytest.raises(InvalidStatus) as caught:
        chat(session, cookies(client), "hello")
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("access", "sentence"),
    [
        (None, "this session is not shared with you"),
        ("view", "this tool cannot be looked at without using it; ask maria for full access"),
    ],
)
def test_the_hubs_word_is_not_enough_for_a_visitor(session, hub, access, sentence):
    hub.visits["guest"] = access
    client = sign_in(session, hub, "guest", SCOPE)
    page = client.get(PREFIX)
    assert page.status_code == 403
    assert sentence in page.text


def test_a_service_of_the_hub_is_no_owner(session, hub):
    token = hub.person("maria", SCOPE)
    hub.people[token]["kind"] = "service"
    assert session.get(headers={"Authorization": f"token {token}"}).status_code == 403


def test_a_page_of_another_site_changes_nothing(session, hub):
    client = sign_in(session, hub, "maria", "access:servers!user=maria")
    evil = {"Origin": "https://evil.example"}
    assert client.post(PREFIX + "upload", content=b"x", headers=evil).status_code == 403
    with pytest.raises(InvalidStatus):
        chat(session, cookies(client) | evil, "hello")
    ours = {"Origin": session.address}
    assert client.post(PREFIX + "upload", content=b"x", headers=ours).status_code == 200
    assert chat(session, cookies(client) | ours, "hello") == ["hello"]


def test_what_lies_outside_the_prefix_does_not_exist(shared):
    assert httpx.get(shared.address + "/").status_code == 404
    assert httpx.get(shared.address + "/user/maria/other/").status_code == 404


def test_a_redirect_of_the_tool_stays_below_the_prefix(session, hub):
    client = sign_in(session, hub, "maria", SCOPE)
    assert client.get(PREFIX + "moved").headers["location"] == PREFIX + "elsewhere"


def test_a_tool_that_knows_its_prefix_gets_whole_paths(hub, tmp_path):
    command = [sys.executable, str(TOOL), "{port}", "{prefix}"]
    session = AppSession(hub, tmp_path, command).ready()
    try:
        client = sign_in(session, hub, "maria", SCOPE)
        assert client.get(PREFIX + "a").json()["uri"] == PREFIX + "a"
        assert chat(session, cookies(client), "hello") == ["hello"]
    finally:
        session.stop()
        session.close()


class SignIn:
    """The hub's OAuth, of a hub that can be away."""

    down = False

    def get_token(self, _door):
        return "t"

    async def get_user(self, _door, *, sync):
        assert not sync
        if self.down:
            raise HTTPError(500)
        return {"name": "maria"}


def test_who_was_let_in_goes_on_while_the_hub_restarts():
    visitors = Visitors(SignIn(), None)
    assert asyncio.run(visitors.identify(None)) == {"name": "maria"}
    visitors.sign_in.down = True
    assert asyncio.run(visitors.identify(None)) == {"name": "maria"}
    visitors._known["t"] = (time.monotonic() - 10_000, {"name": "maria"})
    with pytest.raises(HTTPError, match="the platform does not answer"):
        asyncio.run(visitors.identify(None))


def test_who_is_shut_out_loses_the_open_websocket(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(AppSession, "PROGRAM", QUICK)
    session = AppSession(hub, tmp_path).ready()
    try:
        hub.visits["guest"] = "full"
        client = sign_in(session, hub, "guest", SCOPE)

        async def go():
            url = session.url.replace("http:", "ws:") + "ws"
            async with websockets.connect(url, additional_headers=cookies(client), proxy=None) as one:
                await one.send("hello")
                assert await one.recv() == "hello"
                del hub.people["token-of-guest"]
                with pytest.raises(ConnectionClosed) as caught:
                    await asyncio.wait_for(one.recv(), 60)
                return caught.value.rcvd

        end = asyncio.run(go())
        assert (end.code, end.reason) == (4403, "access to this session has ended")
        assert client.get(PREFIX).status_code == 302
    finally:
        session.close()


def last_reported(hub):
    token, body = hub.reports[-1]
    assert token == "token token-of-the-session"
    assert body["servers"]["topcat-1"]["last_activity"] == body["last_activity"]
    return datetime.fromisoformat(body["last_activity"]).timestamp()


def test_the_hub_learns_when_the_session_was_last_used(hub, tmp_path):
    session = AppSession(hub, tmp_path, JUPYTERHUB_ACTIVITY_INTERVAL="0.1").ready()
    try:
        client = sign_in(session, hub, "maria", SCOPE)
        client.get(PREFIX)

        def quiet():
            """Wait for two more reports and return what the last one says."""
            seen = len(hub.reports)
            session.until(lambda: len(hub.reports) >= seen + 2)
            return last_reported(hub)

        idle = quiet()
        assert quiet() == idle  # nobody did anything: the time stands still
        before = time.time()
        chat(session, cookies(client), b"\x04 a key", path="rfb")
        assert quiet() >= before - 0.001
    finally:
        session.close()


@pytest.mark.parametrize(
    ("path", "message", "used"),
    [
        ("/user/m/s/rfb", b"\x03 a picture, please", False),
        ("/user/m/s/rfb", b"\xf8 a fence", False),
        ("/user/m/s/rfb", b"\x04 a key", True),
        ("/user/m/s/rfb", b"\x05 the pointer", True),
        ("/user/m/s/rfb", b"", False),
        ("/user/m/s/ws", b"\x03", True),
        ("/user/m/s/rfb", "text", True),
    ],
)
def test_pictures_that_a_viewer_asks_for_are_no_use_of_the_tool(path, message, used):
    assert is_input(path, message) is used
