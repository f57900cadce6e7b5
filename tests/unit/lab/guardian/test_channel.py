"""The websocket of a kernel with a guardian: a real server, real kernels, pages that come, go and come back."""

import os
import threading
import time
import uuid

import pytest

from cupola.lab.guardian.journal.execution import Execution, State
from cupola.lab.guardian.pages.channel import _is_missed
from support.guarded import GuardedServer, Page, text_of

SLOW = "import time\nfor i in range({n}):\n    print('line', i, flush=True)\n    time.sleep(0.2)"
COMMON = ("stream", "display_data", "execute_result", "error")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = GuardedServer(tmp_path_factory.mktemp("home"))
    server.start()
    yield server
    server.clean()


@pytest.fixture
def notebook(server):
    """Return the kernel of a new notebook, and its path."""
    path = f"{uuid.uuid4().hex}.ipynb"
    return server.open_notebook("python3", path), path


@pytest.fixture
def open_page(server):
    pages = []

    def open_one(kernel, session=""):
        pages.append(Page(server, kernel, session))
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()


def kinds(messages):
    return [message["header"]["msg_type"] for message in messages]


def first(page, kind, parent):
    """Return the first message of a kind that answers a request."""
    for _, message in page.hear():
        if message["header"]["msg_type"] == kind and message["parent_header"].get("msg_id") == parent:
            return message
    raise AssertionError


def told(server, path):
    answer = server.get(f"cupola/api/guardian?path={path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_execution_is_told_again_and_executed_once(notebook, open_page):
    page = open_page(notebook[0])
    name = page.execute("print('a'); n = globals().get('n', 0) + 1; n", "c1")
    assert text_of(page.until_idle(name)) == "a\n1"
    again = open_page(notebook[0])
    again.execute("print('a'); n = globals().get('n', 0) + 1; n", "c1", name)
    messages = again.until_idle(name)
    assert text_of(messages) == "a\n1"
    reply = next(one for one in messages if one["header"]["msg_type"] == "execute_reply")
    assert (reply["content"]["status"], reply["content"]["execution_count"]) == ("ok", 1)
    # What the page shows goes, and stays until the first of it comes.
    assert kinds(messages).index("clear_output") < kinds(messages).index("stream")
    assert again.run("n", "c2") == "1"


def test_two_pages_that_take_up_the_same_execute_it_once(notebook, open_page):
    one, other = open_page(notebook[0]), open_page(notebook[0])
    name = uuid.uuid4().hex
    code = SLOW.format(n=5) + "\nm = globals().get('m', 0) + 1\nm"
    one.execute(code, "c1", name)
    other.execute(code, "c1", name)
    lines = "".join(f"line {i}\n" for i in range(5)) + "1"
    assert text_of(one.until_idle(name)) == lines
    assert text_of(other.until_idle(name)) == lines
    assert one.run("m", "c2") == "1"


def test_what_comes_to_a_page_in_the_midst_has_no_doubles_and_no_gaps(notebook, open_page):
    page = open_page(notebook[0])
    name = page.execute(SLOW.format(n=15), "c1")
    first(page, "stream", name)
    # The page itself asks again, as after a short cut.
    page.execute(SLOW.format(n=15), "c1", name)
    messages = page.until_idle(name)
    start = max(at for at, kind in enumerate(kinds(messages)) if kind == "clear_output")
    assert text_of(messages[start:]) == "".join(f"line {i}\n" for i in range(15))


def test_all_that_a_server_says_is_of_the_kernels_session(notebook, open_page):
    page = open_page(notebook[0])
    name = page.execute("print('a')", "c1")
    heard = {message["header"]["session"] for message in page.until_idle(name)}
    again = open_page(notebook[0])
    again.execute("print('a')", "c1", name)
    assert {message["header"]["session"] for message in again.until_idle(name)} == heard


def test_a_busy_kernel_is_no_reason_to_wait(server, notebook, open_page):
    kernel, _ = notebook
    page = open_page(kernel)
    name = page.execute("input('go on?')", "c1")
    first(page, "input_request", name)
    new = open_page(kernel)
    info = first(new, "kernel_info_reply", new.ask("kernel_info_request", {}))
    assert info["content"]["language_info"]["name"] == "python"
    comms = first(new, "comm_info_reply", new.ask("comm_info_request", {"target_name": "jupyter.widget"}))
    assert comms["content"]["comms"] == {}
    assert told(server, notebook[1])["executions"][0]["state"] == "running"


def beside(page, name):
    """Return the states that a page hears of when the kernel does something beside a cell, as its debugger does."""
    states, wanted = [], page.ask("kernel_info_request", {}, channel="control")
    last = None
    for channel, message in page.hear():
        parent = message["parent_header"].get("msg_id")
        if message["header"]["msg_type"] == "status" and parent in {wanted, last, name}:
            states.append((parent == name, message["content"]["execution_state"]))
        if channel == "control" and parent == wanted:
            # What follows comes before the answer to the next question.
            last = page.ask("kernel_info_request", {}, channel="control")
        elif channel == "control" and parent == last:
            return states
    raise AssertionError


@pytest.mark.parametrize("asked", ["notebook", "console"])
def test_what_a_kernel_does_beside_a_cell_does_not_make_it_idle(notebook, open_page, asked):
    page = open_page(notebook[0])
    name = page.execute("input()", "c1") if asked == "notebook" else page.execute_in_console("input()")
    question = first(page, "input_request", name)
    for one in (page, open_page(notebook[0])):
        states = beside(one, name)
        assert (True, "busy") in states[states.index((False, "idle")) :]
    answer(page, question["header"], "on")
    page.until_idle(name)
    assert (True, "busy") not in beside(page, name)


def test_widgets_of_a_busy_kernel_are_told_from_the_journal(notebook, open_page):
    kernel, _ = notebook
    page = open_page(kernel)
    code = "from ipywidgets import IntProgress, Image\nb = IntProgress(max=9); i = Image(value=b'\\x00\\xff'); b.value = 4\ninput()"
    first(page, "input_request", page.execute(code, "c1"))
    new = open_page(kernel)
    name = uuid.uuid4().hex
    target = {"comm_id": name, "target_name": "jupyter.widget.control", "data": {}}
    new.ask("comm_open", target)
    new.ask("comm_msg", {"comm_id": name, "data": {"method": "request_states"}})
    for _, message in new.hear():
        if message["content"].get("comm_id") == name:
            break
    data = message["content"]["data"]
    assert data["method"] == "update_states"
    models = {model["model_name"]: model["state"] for model in data["states"].values()}
    assert models["IntProgressModel"]["value"] == 4
    assert [path[1:] for path in data["buffer_paths"]] == [["state", "value"]]


def answer(page, question, value):
    message = page.session.msg("input_reply", {"status": "ok", "value": value}, parent=question)
    from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

    page.socket.send(serialize_msg_to_ws_v1(message, "stdin", page.session.pack))


def test_a_question_is_asked_in_each_page_and_answered_once(notebook, open_page):
    kernel, _ = notebook
    one = open_page(kernel)
    code = "x = input('first?')\ny = input('second?')\nprint(x, y)"
    name = one.execute(code, "c1")
    mine = first(one, "input_request", name)
    other = open_page(kernel)
    other.execute(code, "c1", name)
    theirs = first(other, "input_request", name)
    assert theirs["content"] == {"prompt": "first?", "password": False}
    answer(other, theirs["header"] | {"session": other.session.session}, "a")
    first(one, "cupola_answered", name)
    second = first(other, "input_request", name)
    # Typed into the box that was about to go: not the answer to the next question.
    answer(one, mine["header"], "late")
    answer(other, second["header"], "b")
    assert text_of(other.until_idle(name)).endswith("a b\n")


def test_a_question_outlives_the_server_and_is_not_asked_again_once_answered(server, notebook, open_page):
    kernel, _ = notebook
    page = open_page(kernel)
    code = "import getpass, time\nx = getpass.getpass('secret?')\nprint(x)\nwhile not globals().get('stop'): time.sleep(0.1)"
    name = page.execute(code, "c1")
    first(page, "input_request", name)
    server.kill()
    server.start()
    page = open_page(kernel)
    page.execute(code, "c1", name)
    question = first(page, "input_request", name)
    assert question["content"] == {"prompt": "secret?", "password": True}
    answer(page, question["header"], "hush")
    first(page, "stream", name)
    server.kill()
    server.start()
    page = open_page(kernel)
    page.execute(code, "c1", name)
    heard = first(page, "stream", name)
    assert heard["content"]["text"] == "hush\n"
    server.post(f"api/kernels/{kernel}/interrupt")
    assert "input_request" not in kinds(page.until_idle(name))


def test_a_console_is_left_alone(server, notebook, open_page):
    kernel, path = notebook
    page = open_page(kernel)
    name = page.execute_in_console("print(input('?'))")
    question = first(page, "input_request", name)
    answer(page, question["header"], "typed")
    assert text_of(page.until_idle(name)) == "typed\n"
    assert told(server, path)["executions"] == []


def test_a_flood_loses_its_middle_and_neither_its_end_nor_its_word(notebook, open_page):
    page = open_page(notebook[0])
    name = page.execute("for i in range(60000):\n    print('line', i)", "c1")
    messages = page.until_idle(name)
    start = max(at for at, kind in enumerate(kinds(messages)) if kind == "clear_output")
    text = text_of(messages[start:])
    assert "line 0\n" in text
    assert text.rstrip().endswith("line 59999")
    assert len(text) < 1 << 21
    assert "rate exceeded" not in text_of(messages)


def test_what_cannot_be_noted_is_executed_all_the_same(server, notebook, open_page):
    kernel, _ = notebook
    page = open_page(kernel)
    page.run("1", "c1")
    requests = server.runtime / "kernels" / kernel / "requests.jsonl"
    requests.rename(requests.with_suffix(".kept"))
    requests.mkdir()  # it cannot be written, whoever we are
    name = page.execute("print('all the same')", "c2")
    messages = page.until_idle(name)
    assert text_of(messages) == "all the same\n"
    requests.rmdir()
    requests.with_suffix(".kept").rename(requests)


def test_several_pages_that_come_and_go_leave_nothing_behind(server, notebook, open_page):
    kernel, _ = notebook
    page = open_page(kernel)
    name = page.execute(SLOW.format(n=8), "c1")

    def come_and_go():
        visitor = Page(server, kernel)
        visitor.execute("", "c1", name)
        visitor.close()

    visitors = [threading.Thread(target=come_and_go) for _ in range(5)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert text_of(page.until_idle(name)) == "".join(f"line {i}\n" for i in range(8))
    assert page.run("'on'", "c2") == "'on'"


def test_the_news_of_an_absence_and_that_they_were_read(server, notebook, open_page):
    kernel, path = notebook
    open_page(kernel).run("1", "c1")
    assert told(server, path)["away"] is None
    assert server.post(f"cupola/api/guardian/seen?path={path}", {}).status_code == 200
    assert server.post("cupola/api/guardian/seen", {}).status_code == 400
    assert server.post(f"cupola/api/guardian/seen?path={path}&what=x", {}).status_code == 400
    assert server.get("cupola/api/guardian").json() == {"on": True, "away": []}


def test_what_is_kept_of_variables(server, notebook, open_page):
    kernel, path = notebook
    open_page(kernel).run("kept = 41", "c1")
    answer = server.post("cupola/api/guardian/snapshot", {"kernel": kernel})
    assert answer.status_code == 200, answer.text
    assert "kept" in answer.json()["kept"]["variables"]
    assert "kept" in told(server, path)["kernel"]["kept"]["variables"]
    assert server.post("cupola/api/guardian/snapshot", {"kernel": "none"}).status_code == 404


def test_a_kernel_that_was_killed_is_told_of(server, notebook, open_page):
    kernel, path = notebook
    page = open_page(kernel)
    first(page, "stream", page.execute("print(1, flush=True)\ninput()", "c1"))
    record = server.record(kernel)
    os.kill(record["guardian"], 9)
    os.kill(record["kernel"], 9)
    end = time.monotonic() + 120
    while not (lost := told(server, path)["lost"]):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert lost["why"] == "container"
    assert lost["cells"] == ["c1"]


def test_what_should_have_come_long_ago_was_missed():
    long_ago, just_now = time.time() - 60, time.time()
    running = Execution("x", state=State.RUNNING, count=1, started=long_ago)
    assert _is_missed(running, heard=False)
    assert not _is_missed(running, heard=True)
    assert not _is_missed(Execution("x", state=State.RUNNING, count=1, started=just_now), heard=False)
    done = Execution("x", state=State.DONE, count=1, started=long_ago, ended=long_ago)
    assert _is_missed(done, heard=True)
    assert not _is_missed(
        Execution("x", state=State.DONE, count=1, started=long_ago, ended=just_now), heard=True
    )
    assert not _is_missed(Execution("x", state=State.ABORTED, ended=long_ago), heard=False), "it never began"
