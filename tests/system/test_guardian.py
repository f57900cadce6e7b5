"""Kernels below guardians and a session below its keeper: what is killed, restarted or too full, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import uuid
from pathlib import Path

import httpx
import nbformat
import psutil
import pytest
from websockets.sync.client import connect

from cupola.lab.guardian.folder import KernelFolder
from support.disks import command, needs
from support.guarded import PATIENCE, GuardedServer, Page, text_of
from support.kept import KeptSession

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

LINES = [str(number) for number in range(80)]
COUNTS = """
import os, time
for number in range(80):
    print('line', number, flush=True)
    time.sleep(0.1)
    while number == 60 and not os.path.exists('go'):
        time.sleep(0.1)
"""


@pytest.fixture
def session(tmp_path):
    made = KeptSession(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.clean()


def lines_of(server, kernel):
    return re.findall(r"line (\d+)\n", server.printed(kernel))


def kernel_of(server, kernel):
    answer = server.get(f"api/kernels/{kernel}")
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- the server dies ------------------------------------------------------------------------------------------


def test_a_cell_goes_on_over_two_crashes_of_the_server(session):
    kernel = session.open_notebook("python3")
    page = Page(session, kernel)
    assert page.run("kept = 42", "c0") == ""
    pid = session.record(kernel)["kernel"]
    before = session.get("api/sessions").json()
    running = page.execute(COUNTS, "c1")
    queued = page.execute("print('then', kept)", "c2")
    session.until(lambda: len(lines_of(session, kernel)) > 3, "it does not begin")
    page.close()
    session.kill_server()
    now = session.get("api/sessions").json()
    assert [(one["id"], one["kernel"]["id"], one["path"]) for one in now] == [
        (one["id"], one["kernel"]["id"], one["path"]) for one in before
    ]
    assert kernel_of(session, kernel)["execution_state"] == "busy"
    session.kill_server()
    assert kernel_of(session, kernel)["execution_state"] == "busy"
    # However long servers took to start, the cell was running all that time.
    (session.folder / "go").touch()
    page = Page(session, kernel, page.session.session)
    page.execute(COUNTS, "c1", running)
    assert re.findall(r"line (\d+)", text_of(page.until_idle(running, again=True))) == LINES
    page.execute("print('then', kept)", "c2", queued)
    assert text_of(page.until_idle(queued, again=True)) == "then 42\n"
    assert page.run("kept + 1", "c3") == "43"
    assert lines_of(session, kernel) == LINES
    assert session.record(kernel)["kernel"] == pid
    assert session.record(kernel)["epoch"] == 1
    page.close()


def test_an_adopted_kernel_is_interrupted_restarted_and_ended(session):
    kernel = session.open_notebook("python3")
    # Where other programs look for it, such as `jupyter console --existing`.
    pid = session.until(lambda: session.record(kernel).get("kernel"), "nobody guards it")
    runtime = session.until(lambda: psutil.Process(pid).environ().get("JUPYTER_RUNTIME_DIR"), "it has none")
    usual = Path(runtime) / f"kernel-{kernel}.json"
    assert usual.resolve() == session.runtime / "kernels" / kernel / "connection.json"
    session.kill_server()
    page = Page(session, kernel)
    running = page.execute("import time\nprint('begun', flush=True)\ntime.sleep(1000)", "c1")
    session.until(lambda: "begun" in session.printed(kernel), "it does not begin")
    assert session.post(f"api/kernels/{kernel}/interrupt").status_code == 204
    assert "KeyboardInterrupt" in text_of(page.until_idle(running))
    guardian, old = session.record(kernel)["guardian"], session.record(kernel)["kernel"]
    assert psutil.pid_exists(guardian)
    assert session.post(f"api/kernels/{kernel}/restart").status_code == 200
    # The page's connection stays, and the same wire reaches the new kernel.
    assert page.run("'old' in dir()", "c2") == "False"
    assert session.record(kernel)["epoch"] == 2
    assert not psutil.pid_exists(old)
    page.close()
    assert session.delete(f"api/kernels/{kernel}").status_code == 204
    folder = KernelFolder(session.runtime / "kernels" / kernel)
    session.until(lambda: not folder.alive, "it does not end")
    assert folder.record()["ended"] == "asked"
    assert not usual.is_symlink()
    assert [one["type"] for one in session.journal(kernel) if one["type"] in {"start", "end"}] == [
        "start",
        "end",
    ] * 2
    assert session.get("api/sessions").json() == []


def test_what_a_restarted_kernel_says_at_once_is_heard(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    for number in range(8):
        assert server.post(f"api/kernels/{kernel}/restart").status_code == 200
        assert page.run("'old' in dir()", f"c{number}") == "False"
        assert page.run("old = 1\nold", f"d{number}") == "1"
    page.close()


def test_a_kernel_that_dies_is_started_again_also_when_it_was_adopted(session):
    kernel = session.open_notebook("python3")
    session.kill_server()
    page = Page(session, kernel)
    assert page.run("1", "c0") == "1"
    os.kill(session.record(kernel)["kernel"], signal.SIGKILL)
    session.until(lambda: session.record(kernel).get("epoch") == 2, "nobody starts it again")
    assert page.run("2", "c1") == "2"
    (end,) = [one for one in session.journal(kernel) if one["type"] == "end"]
    assert end["signal"] == signal.SIGKILL
    page.close()


def test_a_kernel_that_was_started_again_does_not_go_on_starting_in_pages(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.execute("import time\ntime.sleep(1000)", "c0")
    states = (
        one["content"]["execution_state"] for _, one in page.hear() if one["header"]["msg_type"] == "status"
    )
    assert "busy" in states
    os.kill(server.record(kernel)["kernel"], signal.SIGKILL)
    assert "starting" in states
    # Nobody has asked it for anything.
    assert next(states) == "idle"
    page.close()


def test_a_client_that_speaks_json_hears_only_json(server):
    kernel = server.open_notebook("python3")
    with connect(server.websocket(kernel), open_timeout=PATIENCE) as socket:

        def ask(kind, content, channel):
            header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "json", "username": "ada"}
            parts = {"parent_header": {}, "metadata": {}, "content": content, "buffers": []}
            socket.send(json.dumps({"header": header, **parts, "channel": channel}))
            return header["msg_id"]

        def until_said(name, state):
            while True:
                said = json.loads(socket.recv(timeout=PATIENCE))
                if (said["parent_header"].get("msg_id"), said["content"].get("execution_state")) == (
                    name,
                    state,
                ):
                    return said

        cell = ask("execute_request", {"code": "import time\ntime.sleep(1000)", "silent": False}, "shell")
        until_said(cell, "busy")
        beside = ask("kernel_info_request", {}, "control")
        until_said(beside, "idle")
        # Said by the server: the cell runs on.
        assert until_said(cell, "busy")["channel"] == "iopub"


def test_a_guardian_that_is_killed_takes_its_kernel_along_and_another_pair_begins(session):
    kernel = session.open_notebook("python3")
    page = Page(session, kernel)
    assert page.run("1", "c0") == "1"
    before = session.record(kernel)
    os.kill(before["guardian"], signal.SIGKILL)
    session.until(lambda: session.record(kernel).get("epoch") == 2, "nobody starts it again")
    assert page.run("2", "c1") == "2"
    assert not psutil.pid_exists(before["kernel"])
    page.close()


# -- questions ------------------------------------------------------------------------------------------------


def test_a_question_is_answered_over_a_crash_of_the_server(session):
    kernel = session.open_notebook("python3")
    page = Page(session, kernel)
    asks = page.execute("print('hello', input('who? '))", "c1")
    session.until(
        lambda: any(one["type"] == "input_request" for one in session.journal(kernel)), "it does not ask"
    )
    page.close()
    session.kill_server()
    page = Page(session, kernel)
    page.execute("print('hello', input('who? '))", "c1", asks)
    for channel, message in page.hear():
        if channel == "stdin":
            assert message["content"]["prompt"] == "who? "
            break
    page.ask("input_reply", {"value": "ada", "status": "ok"}, channel="stdin")
    assert "hello ada" in text_of(page.until_idle(asks))
    page.close()


# -- the end of the session -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["told", "shut down"])
def test_the_end_of_a_session_ends_its_kernels_in_good_order(session, way):
    kernel = session.open_notebook("python3")
    page = Page(session, kernel)
    page.run("kept = list(range(10))", "c0")
    page.close()
    if way == "told":
        assert session.stop() == 0
    else:
        assert session.post("api/shutdown").status_code == 200
        assert session.process.wait(60) == 0
    assert session.left() == []
    assert session.journal(kernel)[-1]["type"] == "end"
    index = json.loads((session.runtime / "kernels" / kernel / "variables" / "index.json").read_text())
    assert "kept" in [one["name"] for one in index["variables"]]
    assert "ended" not in session.record(kernel)


def test_the_variables_come_back_with_the_next_session_but_not_after_a_restart(session):
    kernel = session.open_notebook("python3")
    page = Page(session, kernel)
    page.run("kept = list(range(3))", "c0")
    page.close()
    session.stop()
    session.start()
    again = session.open_notebook("python3")
    assert again != kernel
    page = Page(session, again)
    assert page.run("kept", "c1") == "[0, 1, 2]"
    assert session.post(f"api/kernels/{again}/restart").status_code == 200
    assert page.run("'kept' in dir()", "c2") == "False"
    page.close()


def test_the_variables_of_a_kernel_that_was_culled_come_back_and_it_is_told(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.run("kept = list(range(3))", "c0")
    folder = KernelFolder(server.runtime / "kernels" / kernel)
    index = folder.variables / "index.json"
    server.until(lambda: index.exists() and "kept" in index.read_text(), "it is not stored")
    page.close()
    # Only the next server culls: a kernel that nobody has connected to yet would be culled, too.
    server.kill()
    settings = server.folder / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('{"MappingKernelManager": {"cull_idle_timeout": 1, "cull_interval": 1}}')
    server.start()
    server.until(lambda: not folder.alive, "nobody ends it")
    server.until(lambda: server.get("api/sessions").json() == [], "its notebook has none any more")
    assert folder.record()["ended"] == "culled"
    server.kill()
    settings.unlink()
    server.start()
    again = server.open_notebook("python3")
    page = Page(server, again)
    assert page.run("kept", "c1") == "[0, 1, 2]"
    assert server.get("cupola/api/guardian?path=a.ipynb").json()["lost"]["kernel"] == kernel
    page.close()


def test_a_session_whose_keeper_is_killed_is_left_by_its_server(session):
    kernel = session.open_notebook("python3")
    server = session.server
    os.kill(session.process.pid, signal.SIGKILL)
    session.process.wait()
    session.until(
        lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "it does not end"
    )
    # What is left has the session's mark: the hub's driver ends it.
    assert {one.pid for one in session.left()} >= {session.record(kernel)["kernel"]}


def test_switched_off_there_is_neither_keeper_nor_guardian(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_GUARDIAN", "0")
    session = KeptSession(tmp_path)
    # Variables of this kind are taken out of a session's environment.
    monkeypatch.setattr(
        KeptSession,
        "environment",
        property(lambda self: {**GuardedServer.environment.fget(self), "CUPOLA_GUARDIAN": "0"}),
    )
    try:
        session.start()
        kernel = session.open_notebook("python3")
        assert session.kernels() == []
        assert [one.pid for one in session.left() if one.ppid() == os.getpid()] == [session.process.pid]
        page = Page(session, kernel)
        assert page.run("1 + 1", "c0") == "2"
        page.close()
        assert session.stop() == 0
        assert session.left() == []
    finally:
        session.clean()


# -- two, damaged, full ---------------------------------------------------------------------------------------


def test_of_two_servers_of_a_session_the_second_takes_up_nothing(session, tmp_path):
    kernel = session.open_notebook("python3")
    other = KeptSession(tmp_path, session=session.session)
    try:
        other.start()
        assert other.get("api/kernels").json() == []
        assert [one["id"] for one in session.get("api/kernels").json()] == [kernel]
        assert "another server of this session runs" in other.log.read_text()
        other.process.kill()
        other.process.wait()
    finally:
        if other.process.poll() is None:
            other.process.kill()
            other.process.wait()
    # The first one goes on, and has its kernel after a crash too.
    session.kill_server()
    assert [one["id"] for one in session.get("api/kernels").json()] == [kernel]


def test_a_damaged_list_of_sessions_is_moved_aside_and_kernels_go_on(server):
    kernel = server.open_notebook("python3")
    server.kill()
    place = server.runtime / "sessions" / f"{server.session}.db"
    place.write_bytes(b"no database at all" * 500)
    server.start()
    assert [one["id"] for one in server.get("api/kernels").json()] == [kernel]
    assert server.get("api/sessions").json() == []
    assert place.with_suffix(".damaged").exists()


def test_a_list_of_another_version_is_moved_aside(server):
    server.kill()
    place = server.runtime / "sessions" / f"{server.session}.db"
    place.unlink()
    with sqlite3.connect(place) as old:
        old.execute("CREATE TABLE session (session_id, path, kernel_id)")
    old.close()
    server.start()
    assert server.open_notebook("python3")


def started(server):
    """Return a kernel that has read its connection file."""
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.run("1", "c")
    page.close()
    return kernel


def test_a_damaged_connection_file_is_read_from_its_copy(server):
    kernel = started(server)
    server.kill()
    folder = server.runtime / "kernels" / kernel
    (folder / "connection.json").write_text("{")
    server.start()
    page = Page(server, kernel)
    assert page.run("1 + 1", "c0") == "2"
    page.close()


def test_a_kernel_that_nobody_can_reach_is_left_alone_and_told(server):
    kernel = started(server)
    other = server.open_notebook("python3", "b.ipynb")
    server.kill()
    for name in ("connection.json", "launch.json"):
        (server.runtime / "kernels" / kernel / name).write_text("{")
    server.start()
    assert [one["id"] for one in server.get("api/kernels").json()] == [other]
    assert f"kernel {kernel} runs on, but cannot be taken up" in server.log.read_text()
    assert KernelFolder(server.runtime / "kernels" / kernel).alive


def test_a_kernel_that_cannot_be_started_is_told_to_whoever_asked(tmp_path):
    spec = tmp_path / "jupyter" / "kernels" / "broken"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/nowhere/kernel", "{connection_file}"], "display_name": "x", "language": "x"})
    )
    server = GuardedServer(tmp_path, str(tmp_path / "jupyter"))
    try:
        server.start()
        asked = {"path": "a.ipynb", "type": "notebook", "name": "a.ipynb", "kernel": {"name": "broken"}}
        answer = server.post("api/sessions", asked)
        assert answer.status_code == 500
        assert "/nowhere/kernel" in answer.text
    finally:
        server.clean()


def fill(place):
    with contextlib.suppress(OSError), place.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_in_a_full_home_kernels_start_and_run_as_without_guardians(tmp_path):
    needs("mount")
    home = tmp_path / "home"
    home.mkdir()
    mounted = command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(home), check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    session = KeptSession(home)
    try:
        session.start()
        first = session.open_notebook("python3")
        fill(home / "large")
        page = Page(session, first)
        assert page.run("1 + 1", "c0") == "2"
        other = session.open_notebook("python3", "b.ipynb")
        page.close()
        page = Page(session, other)
        assert page.run("import os; os.remove('large'); 1 + 2", "c1") == "3"
        page.close()
        assert session.get("api/sessions").status_code == 200
    finally:
        session.clean()
        command("umount", "-l", str(home), check=False)


def test_a_dashboards_kernel_ends_with_its_server(session):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, session.folder / "board.ipynb")
    head = {"Authorization": f"token {session.token}"}
    shown = httpx.get(
        f"{session.url}voila/render/board.ipynb", headers=head, follow_redirects=True, timeout=120
    )
    assert shown.status_code == 200, shown.text[-500:]
    assert "42" in shown.text
    assert session.kernels() == []
    started = [one for one in session.left() if "ipykernel_launcher" in one.cmdline()]
    assert len(started) == 1
    session.kill_server()
    session.until(lambda: not started[0].is_running(), "nobody ends it")
    assert session.get("api/kernels").json() == []


def test_what_runs_elsewhere_is_left_alone(server):
    kernel = server.open_notebook("python3")
    server.kill()
    record = server.runtime / "kernels" / kernel / "kernel.json"
    true = json.loads(record.read_text())
    record.write_text(json.dumps({**true, "guardian": os.getpid()}))
    server.start()
    assert server.get("api/kernels").json() == []
    assert f"kernel {kernel} runs elsewhere" in server.log.read_text()
    record.write_text(json.dumps(true))


def test_folders_of_kernels_that_ended_long_ago_are_deleted(server):
    kernel = server.open_notebook("python3")
    assert server.delete(f"api/kernels/{kernel}").status_code == 204
    server.kill()
    folder = server.runtime / "kernels" / kernel
    young = folder.with_name("young")
    shutil.copytree(folder, young)
    for place in (folder, *folder.rglob("*")):
        os.utime(place, (0, 0))
    server.start()
    server.until(lambda: not folder.exists(), "it is not deleted")
    assert young.exists()
    assert Path(server.runtime / "kernels").is_dir()
