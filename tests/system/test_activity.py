"""A real Jupyter server tells a portal what goes on in it, and does what comes before a planned stop."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest
from websockets.sync.client import connect

from support.kernels import run_in
from support.stop_portal import StopPortal
from support.terminals import guarded, unguarded, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def portal():
    made = StopPortal()
    yield made
    made.close()


@pytest.fixture
def server(tmp_path, portal):
    made = unguarded(tmp_path, **portal.environ)
    try:
        yield made.start()
    finally:
        made.clean()


def notebook(server, path):
    """Open a notebook with a kernel, as the Lab does; return the kernel's websocket."""
    (server.home / path).parent.mkdir(parents=True, exist_ok=True)
    (server.home / path).write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
    kernel = server.ask("POST", "api/sessions", json=body)["kernel"]["id"]
    address = f"ws://127.0.0.1:{server.port}/api/kernels/{kernel}/channels?token={server.token}&session_id={uuid.uuid4().hex}"
    return connect(address, max_size=None)


def execute(socket, code):
    """Send a cell and wait for nothing."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": uuid.uuid4().hex}
    header |= {"username": "test", "date": "2026-01-01T00:00:00Z", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    socket.send(json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}))  # fmt: skip


def test_what_computes_is_told_while_it_does(server, portal):
    portal.until(lambda activity: not activity.computes)
    with notebook(server, "work/long.ipynb") as socket:
        portal.until(lambda activity: activity.notebooks == ["work/long.ipynb"])
        execute(socket, "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)")
        told = portal.until(lambda activity: activity.kernels == 1)
        assert told.busy == ["work/long.ipynb"]
        assert told.idle_seconds < 60
        (server.home / "work" / "go").touch()
        (server.home / "go").touch()
        portal.until(lambda activity: not activity.computes)


def test_a_program_in_a_terminal_is_told_also_after_the_server_was_killed(server, portal):
    name = server.ask("POST", "api/terminals")["name"]
    screen = server.screen(name)
    screen.type("sleep 1000 &\r")
    portal.until(lambda activity: activity.terminals == 1)
    server.end()
    server.start()
    portal.until(lambda activity: activity.terminals == 1)
    again = server.screen(name)
    again.type("kill %1\r")
    portal.until(lambda activity: activity.terminals == 0)
    screen.close()
    again.close()


def test_processor_time_of_kernels_and_terminals_is_told(server, portal):
    before = portal.until(lambda activity: activity.cpu_seconds is not None).cpu_seconds
    screen = server.screen(server.ask("POST", "api/terminals")["name"])
    screen.type("timeout 6 sh -c 'while :; do :; done'\r")
    portal.until(lambda activity: activity.cpu_seconds > before + 1)
    screen.close()


def stop(server, **query):
    return server.ask("GET", "cupola/api/guardian/stop", params=query)


def test_a_planned_stop_reaches_who_asks_at_once_and_is_put_off(server, portal):
    assert stop(server) is None
    portal.announce(600, "Nobody used it for 12 h.")
    plan = until(lambda: stop(server, wait=20, idle=3, page="page-1"))
    assert (plan["reason"], plan["kind"], plan["keepable"]) == ("Nobody used it for 12 h.", "hibernate", True)
    assert 0 < plan["seconds"] <= 600
    assert server.ask("POST", "cupola/api/guardian/stop", json={"wish": "keep"}) == {"wish": "keep"}
    assert portal.wishes == ["keep"]
    assert stop(server) is None


@pytest.mark.parametrize(
    ("refused", "status", "said"),
    [
        ((409, "It is being stopped already."), 409, "It is being stopped already."),
        ((500, "Traceback"), 503, "The platform does not answer now"),
        ((404, None), 404, "The platform refuses this"),
    ],
)
def test_what_the_portal_refuses_is_passed_on_and_its_own_errors_are_not(
    server, portal, refused, status, said
):
    portal.refuses["hibernate"] = refused
    with pytest.raises(httpx.HTTPStatusError) as caught:
        server.ask("POST", "cupola/api/guardian/stop", json={"wish": "hibernate"})
    assert caught.value.response.status_code == status
    assert said in caught.value.response.json()["problem"]


def test_wrong_wishes_are_refused_and_the_portal_hears_nothing(server, portal):
    for body in ({}, {"wish": "stop"}, {"wish": 7}):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            server.ask("POST", "cupola/api/guardian/stop", json=body)
    for query in ({"wait": "x"}, {"idle": "-1"}, {"idle": "inf"}, {"wait": "nan"}):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            stop(server, **query)
    assert portal.wishes == []
    assert httpx.get(f"{server.url}cupola/api/guardian/stop").status_code == 403


def test_the_variables_are_written_down_when_the_portal_wishes_it(tmp_path, portal):
    server = guarded(tmp_path, **portal.environ)
    try:
        server.start()
        with notebook(server, "a.ipynb") as socket:
            run_in(socket, "x = 41\ny = [1, 2, 3]\nz = (one for one in y)")
            portal.announce(60, "Nobody used it for 12 h.", snapshot="wish-1")
            told = portal.until(lambda activity: activity.snapshot)
        assert told.guardian
        assert (told.snapshot.wish, told.snapshot.kernels) == ("wish-1", 1)
        assert told.snapshot.kept >= 2
        assert told.snapshot.left >= 1
        folders = [
            one for one in (server.home / ".cupola" / "kernels").iterdir() if (one / "variables").is_dir()
        ]
        index = json.loads((folders[0] / "variables" / "index.json").read_text())
        assert {"x", "y"} <= {one["name"] for one in index["variables"]}
    finally:
        server.clean()


def test_a_server_that_is_no_session_tells_nobody_and_says_so(tmp_path):
    server = unguarded(tmp_path).start()
    try:
        assert stop(server) is None
        with pytest.raises(httpx.HTTPStatusError) as caught:
            server.ask("POST", "cupola/api/guardian/stop", json={"wish": "keep"})
        assert "no session of the platform" in caught.value.response.json()["problem"]
    finally:
        server.clean()
