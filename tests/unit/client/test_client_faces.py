from __future__ import annotations

import inspect
import os

import httpx
import pytest

from cupola.client import AsyncClient, Client
from cupola.client import _calls as module
from cupola.client.fake import FakePortal
from cupola.exceptions import CupolaError, NotFoundError, UnavailableError
from cupola.models.base import now
from cupola.models.datalab import Datalab
from cupola.models.session import LaunchRequest, SessionEvent, SessionState

FOR_THE_HUB = {"plan", "report", "aclose"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_both_faces_have_the_same_methods_with_the_same_parameters():
    shared = public(AsyncClient) - FOR_THE_HUB | {"url"}
    assert public(Client) - {"close"} == shared
    for name in shared - {"url"}:
        one, other = (inspect.signature(getattr(kind, name)) for kind in (AsyncClient, Client))
        assert one.parameters == other.parameters, name
        assert inspect.getdoc(getattr(AsyncClient, name)) == inspect.getdoc(getattr(Client, name))


def client_of(handler):
    return AsyncClient("http://portal/services/cupola/api", "t", transport=httpx.MockTransport(handler))


@pytest.mark.asyncio
async def test_a_name_never_leaves_its_part_of_the_address():
    paths = []

    def handler(request):
        paths.append(request.url.raw_path.decode())
        return httpx.Response(404)

    async with client_of(handler) as client:
        for call in (
            client.session,
            client.stop_session,
            client.restart_session,
            client.session_usage,
            client.session_log,
            client.job,
            client.datalab,
            client.volume,
            client.plan,
        ):
            with pytest.raises(NotFoundError):
                await call("../x?y#z")
    assert all("..%2Fx%3Fy%23z" in path for path in paths)


def event(number, state):
    told = SessionEvent(session="lab-1", number=number, time=now(), state=state, message="x", progress=number)
    return f"event: session-event\nid: {number}\ndata: {told.model_dump_json()}\n\n".encode()


@pytest.mark.asyncio
async def test_following_goes_on_after_a_restart_of_the_portal():
    asked = []

    async def first():
        yield event(1, SessionState.REQUESTED)
        yield b": still here\n\n"
        yield event(2, SessionState.STARTING)
        raise httpx.ReadError("gone")

    async def second():
        yield event(3, SessionState.STARTING)

    async def third():
        yield event(4, SessionState.READY)
        pytest.fail("read on after the last event")

    answers = [first, httpx.ConnectError, second, third]

    def handler(request):
        asked.append(request.headers.get("Last-Event-ID"))
        answer = answers.pop(0)
        if answer is httpx.ConnectError:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, content=answer())

    async with client_of(handler) as client:
        numbers = [seen.number async for seen in client.session_events("lab-1")]
    assert numbers == [1, 2, 3, 4]
    assert asked == [None, "2", "2", "3"]


@pytest.mark.asyncio
async def test_following_ends_with_a_sentence_when_the_portal_stays_away_or_tells_an_error():
    def away(request):
        raise httpx.ConnectError("refused", request=request)

    async with client_of(away) as client:
        with pytest.raises(UnavailableError, match="cupola status"):
            await anext(client.job_events("job-1"))

    def problem(_):
        return httpx.Response(200, content=b"event: problem\ndata: It was forgotten.\n\n")

    async with client_of(problem) as client:
        with pytest.raises(CupolaError, match="forgotten"):
            await anext(client.job_events("job-1"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "tries"),
    [(httpx.ConnectError, {"GET": 3, "POST": 3}), (httpx.ReadError, {"GET": 3, "POST": 1})],
)
async def test_only_what_did_no_harm_is_sent_again(failure, tries):
    seen = []

    def handler(request):
        seen.append(request.method)
        raise failure("x", request=request)

    async with client_of(handler) as client:
        with pytest.raises(UnavailableError):
            await client.me()
        with pytest.raises(UnavailableError):
            await client.launch(LaunchRequest(datalab="lab"))
    assert {method: seen.count(method) for method in ("GET", "POST")} == tries


def test_a_loop_that_is_left_early_leaves_no_connection_open(tmp_path):
    portal = FakePortal(tmp_path, datalabs=[Datalab(name="lab", title="Lab", summary="x")])
    with portal.client() as client:
        session = client.launch(LaunchRequest(datalab="lab"))
        for seen in client.session_events(session.id):
            assert seen.state is SessionState.REQUESTED
            break
        portal.advance_session(session.id, SessionState.READY)
        assert [e.number for e in client.session_events(session.id)] == [1, 2]


def test_a_forked_process_may_use_the_client_of_its_parent(tmp_path):
    with FakePortal(tmp_path).client() as client:
        assert client.me().name == "ada"
        answer, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(tell, client.me().name.encode())
            os._exit(0)
        os.close(tell)
        with os.fdopen(answer) as stream:
            assert stream.read() == "ada"
        os.waitpid(child, 0)
        assert client.me().name == "ada"
