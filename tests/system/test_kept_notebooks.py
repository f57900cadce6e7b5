"""Files of notebooks with a real server and real kernels: no page is there, a page says what it saved, too much text."""

import json
import urllib.parse

import httpx
import nbformat
import pytest

from support.guarded import GuardedServer, Page

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path):
    made = GuardedServer(tmp_path)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("", id=name) for name in ("one", "two")]
    )
    (tmp_path / "a.ipynb").write_text(nbformat.writes(notebook))
    try:
        made.start()
        yield made
    finally:
        made.clean()


def outputs(server, name="one"):
    """What the file says."""
    cells = nbformat.reads((server.folder / "a.ipynb").read_text(), as_version=4).cells
    return next(cell for cell in cells if cell.id == name).outputs


def text(server, name="one"):
    return "".join(output.get("text", "") for output in outputs(server, name))


def told(server):
    """What the server says of the file to a page that asks whether it has changed."""
    found = server.get("api/contents/a.ipynb?content=0&hash=1").json()
    return found["hash"], found["last_modified"]


def test_a_file_that_no_page_has_open_gets_what_is_computed_also_by_the_next_server(server):
    before = told(server)
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.execute(
        "import time, os\nfor number in range(4):\n    print(number, flush=True)\n"
        "    while not os.path.exists(f'go{number}'):\n        time.sleep(0.05)",
        "one",
    )
    last = page.execute("print('second')", "two")
    server.until(lambda: "0\n" in server.printed(kernel), "it does not begin")
    page.close()
    server.until(lambda: text(server) == "0\n", "the file has no outputs")
    (server.folder / "go0").touch()
    server.until(lambda: text(server) == "0\n1\n", "the file does not follow")
    server.kill()
    for number in (1, 2, 3):
        (server.folder / f"go{number}").touch()
    server.until(lambda: "second" in server.printed(kernel), "the kernel did not go on")
    server.start()
    server.until(lambda: text(server, "two") == "second\n", "the next server does not write it")
    assert text(server) == "0\n1\n2\n3\n"
    # A page that was open all the time finds that nobody else has changed the file.
    assert told(server) == before
    executions = server.get("cupola/api/guardian?path=a.ipynb").json()["executions"]
    assert {one["id"]: one["settled"] for one in executions}[last] == ""


def test_a_notebook_that_was_moved_while_there_was_no_server_has_its_kernel_and_its_outputs(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    assert page.run("kept = 42", "one") == ""
    page.execute(
        "import time, os\nprint('begun', flush=True)\nwhile not os.path.exists('go'):\n    time.sleep(0.05)\nprint('done')",
        "two",
    )
    server.until(lambda: "begun" in server.printed(kernel), "it does not begin")
    page.close()
    server.kill()
    (server.folder / "sub").mkdir()
    (server.folder / "a.ipynb").rename(server.folder / "sub" / "b.ipynb")
    (server.folder / "go").touch()
    server.until(lambda: "done" in server.printed(kernel), "it does not end")
    server.start()
    # As a page does: the file first, then its kernel.
    cells = server.get("api/contents/sub/b.ipynb").json()["content"]["cells"]
    assert cells[1]["outputs"][0]["text"] == "begun\ndone\n"
    assert server.open_notebook("python3", "sub/b.ipynb") == kernel
    (session,) = server.get("api/sessions").json()
    assert (session["path"], session["name"]) == ("sub/b.ipynb", "b.ipynb")
    page = Page(server, kernel)
    assert page.run("kept", "one") == "42"
    page.close()
    assert not (server.folder / "a.ipynb").exists()


def test_a_page_says_what_it_has_saved(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    first = page.execute("print('x')", "one")
    page.until_idle(first)
    # What was shown is cleared, and saved so.
    content = server.get("api/contents/a.ipynb").json()["content"]
    content["cells"][0].update(outputs=[], execution_count=None)
    model = {"type": "notebook", "format": "json", "content": content}
    answer = httpx.put(
        f"{server.url}api/contents/a.ipynb", json=model, headers={"Authorization": f"token {server.token}"}
    )
    assert answer.status_code == 200, answer.text
    assert server.get("api/contents/a.ipynb").json()["content"]["cells"][0]["outputs"]
    assert server.post("cupola/api/guardian/saved?path=a.ipynb", {"ids": [first, "none"]}).status_code == 200
    assert not server.get("api/contents/a.ipynb").json()["content"]["cells"][0]["outputs"]
    for path, said in [("", {"ids": []}), ("?path=a.ipynb", {"ids": [1]}), ("?path=a.ipynb", {})]:
        assert server.post(f"cupola/api/guardian/saved{path}", said).status_code == 400
    page.close()


def test_of_too_much_text_the_notebook_has_a_part_and_all_of_it_is_a_click_away(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.execute("for number in range(30_000):\n    print('line', number)\nprint('<b>end</b>')", "one")
    server.until(lambda: "<b>end</b>" in server.printed(kernel), "it does not end")
    page.close()
    server.until(lambda: len(outputs(server)) == 3, "the file has no outputs")
    first, cut, last = outputs(server)
    assert first["text"].startswith("line 0\n")
    assert last["text"].endswith("<b>end</b>\n")
    assert "left out" in cut["data"]["text/plain"]
    link = cut["data"]["text/html"].split('href="')[1].split('"')[0].replace("&amp;", "&")
    assert link.startswith("/user/ada/")
    answer = httpx.get(
        urllib.parse.urljoin(server.url, link), headers={"Authorization": f"token {server.token}"}
    )
    assert answer.text == "".join(f"line {number}\n" for number in range(30_000)) + "<b>end</b>\n"
    assert answer.headers["content-type"].startswith("text/plain")
    for asked in (
        "kernel=../x&id=1",
        f"kernel={kernel}&id=..%2F..%2Fkernel",
        f"kernel={kernel}&id=unknown",
        "id=1",
    ):
        assert server.get(f"cupola/api/guardian/text?{asked}").status_code in {400, 404}
    assert httpx.get(urllib.parse.urljoin(server.url, link)).status_code == 403


def test_a_notebook_of_a_kernel_that_is_lost_has_all_that_it_said(server):
    kernel = server.open_notebook("python3")
    page = Page(server, kernel)
    page.execute("import time\nprint('before', flush=True)\ntime.sleep(1000)", "one")
    server.until(lambda: "before" in server.printed(kernel), "it does not begin")
    page.close()
    # As with its container: all that belongs to the session goes at once, and another one has the same home.
    server.clean()
    server.session += "-next"
    server.start()
    assert (
        server.get("api/contents/a.ipynb").json()["content"]["cells"][0]["outputs"][0]["text"] == "before\n"
    )
    server.until(lambda: text(server) == "before\n", "the file has no outputs")

    def state():
        executions = server.get("cupola/api/guardian?path=a.ipynb").json()["executions"]
        return executions[0]["state"] == "lost"

    server.until(state, "the execution is not lost")
    assert json.loads((server.runtime / "documents.json").read_text())
