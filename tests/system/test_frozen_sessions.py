"""A session sleeps and wakes: its kernels are frozen where they can be, and everybody hears where they cannot."""

from __future__ import annotations

import socket

import psutil
import pytest

from cupola.hub.drivers.criu import Criu
from cupola.hub.drivers.frozen import FrozenSession
from cupola.lab.guardian.folder import KernelFolder
from cupola.processes import marked_with
from support.guarded import Page

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def first_of(server):
    return psutil.Process(server.process.pid)


def alive(server, kernel):
    return KernelFolder(server.runtime / "kernels" / kernel).alive


def test_what_can_be_frozen_goes_on_and_what_cannot_ends_in_order(criu, server, tmp_path):
    """A kernel that somebody outside speaks with by a Unix socket cannot be frozen; the others of its session can."""
    sleeper = server.open_notebook("python3", "a.ipynb")
    talker = server.open_notebook("python3", "b.ipynb")
    assert Page(server, sleeper).run("half = iter(range(9)); first = next(half)", "a") == ""
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(address)
        outside.listen()
        said = f"import socket\nline = socket.socket(socket.AF_UNIX)\nline.connect({address!r})"
        assert Page(server, talker).run(said, "b") == ""
        held, _ = outside.accept()
        session = FrozenSession(server.session, server.runtime, tmp_path / "frozen", criu)
        why = session.freeze(first_of(server))
        held.close()

    assert why == {sleeper: "", talker: "a program outside it is connected to it by a Unix socket"}
    server.process.wait()
    assert marked_with("CUPOLA_SESSION", server.session) == []
    assert not alive(server, sleeper)
    assert not alive(server, talker)
    assert server.journal(talker)[-1]["type"] == "end"
    assert server.journal(sleeper)[-1]["type"] != "end"

    assert session.thaw().said == {sleeper: ""}
    assert not (tmp_path / "frozen").exists()
    server.start()
    assert [one["id"] for one in server.get("api/kernels").json()] == [sleeper]
    assert Page(server, sleeper).run("print(first, next(half))", "after") == "0 1\n"
    assert session.thaw().said == {}


def test_a_session_goes_on_where_nothing_can_be_frozen(server, tmp_path):
    """Its driver then ends it as ever, and snapshots bring the variables back."""
    kernel = server.open_notebook("python3")
    assert Page(server, kernel).run("print(0)", "first") == "0\n"
    session = FrozenSession(server.session, server.runtime, tmp_path / "frozen", Criu("no-such-program"))
    assert session.freeze(first_of(server)) == {kernel: "the program no-such-program is not installed"}
    assert Page(server, kernel).run("print(1 + 1)", "a") == "2\n"
    assert session.thaw().said == {}


def test_a_kernel_of_another_session_is_left_alone(criu, server, tmp_path):
    """A home has the folders of all its sessions, and what they say was written by whoever uses it."""
    kernel = server.open_notebook("python3")
    assert Page(server, kernel).run("print(0)", "first") == "0\n"
    session = FrozenSession("another", server.runtime, tmp_path / "frozen", criu)
    assert session.freeze(first_of(server)) == {}
    assert Page(server, kernel).run("print(1 + 1)", "a") == "2\n"
