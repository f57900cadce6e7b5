"""A team works in a shared session, each in a Chromium of their own."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from support.people import GUESTS, link_of

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
SECOND = 1000
OUT_WITHIN = 60
"""Seconds after which whoever is shut out must be out: the promise."""

START_KERNEL = """async (address) => {
  const token = document.cookie.match(/_xsrf=([^;]+)/)?.[1] ?? "";
  const options = {method: "POST", headers: {"X-XSRFToken": token}, body: "{}"};
  const answer = await fetch(address, options);
  return {status: answer.status, message: (await answer.json()).message};
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(900),
]


@pytest.fixture
def place(new_platform):
    path = os.pathsep.join([str(GUESTS), os.environ.get("PYTHONPATH", "")])
    one = new_platform(more={"PYTHONPATH": path})
    one.start()
    return one


@pytest.fixture
def people(place):
    """Ada, Mike and Olga, each signed in in a browser of their own."""
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        pages = []
        for name in ("ada", "mike", "olga"):
            page = browser.new_context(viewport={"width": 1200, "height": 850}).new_page()
            page.set_default_timeout(90 * SECOND)
            page.goto(place.first_link if name == "ada" else link_of(place, name))
            page.wait_for_url("**/services/cupola/")
            pages.append(page)
        yield pages
        browser.close()


def test_a_team_in_one_session(place, people):
    ada, mike, olga = people
    root = f"{place.address}/services/cupola"
    make_team(ada, mike, root)
    write_notebook(place)
    lab = start_lab(ada, root)
    session = lab.rstrip("/").split("/")[-2]
    refused = olga.goto(lab)
    if olga.get_by_role("button", name="Open the session").count():
        with olga.expect_navigation() as going:
            olga.get_by_role("button", name="Open the session").click()
        refused = going.value
    assert refused.status == 403

    share(ada, root, session, "full", team="mars-crew")
    ada.goto(f"{lab}/tree/shared.ipynb")
    ada.locator(".jp-Notebook .cm-content").first.wait_for()
    mike.goto(f"{root}/sessions")
    mike.locator(f"#visit-{session}").click()
    enter(mike, lab)
    mike.goto(f"{lab}/tree/shared.ipynb")
    edit_run_and_save(mike, "6 * 7")
    mike.locator(".jp-OutputArea-output", has_text="42").wait_for()
    wait_until(lambda: "6 * 7" in notebook_of(place).read_text(), "the member's edit is saved")

    # Whoever saves second is asked: nothing is lost in silence.
    edit_run_and_save(ada, "'mine'")
    ada.get_by_text(re.compile("has changed on disk|File Changed", re.IGNORECASE)).first.wait_for()
    assert "6 * 7" in notebook_of(place).read_text()

    look_on(place, ada, olga, lab, session)
    shut_out(ada, mike, root, lab, session)


def make_team(ada, mike, root):
    ada.goto(f"{root}/teams")
    ada.locator("#team-title").fill("Mars crew")
    ada.get_by_role("button", name="Make the team").click()
    ada.get_by_role("button", name="Invite", exact=True).click()
    link = ada.get_by_role("region", name="Invitation link").inner_text().strip()
    mike.goto(link)
    mike.locator("#join").click()
    mike.get_by_role("heading", name="Mars crew").wait_for()
    mike.get_by_text("You are in the team.").wait_for()


def notebook_of(place):
    return place.paths.home("ada") / "shared.ipynb"


def write_notebook(place):
    cell = {
        "cell_type": "code",
        "id": "one",
        "source": "",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook_of(place).parent.mkdir(parents=True, exist_ok=True)
    content = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    notebook_of(place).write_text(json.dumps(content))


def start_lab(ada, root):
    ada.goto(root + "/")
    ada.get_by_role("button", name=re.compile("^play", re.IGNORECASE)).first.click()
    ada.wait_for_url(re.compile(r"/user/.*/lab"), timeout=180 * SECOND)
    return re.match(r".*/lab(?=[/?]|$)", ada.url)[0]


def share(ada, root, session, access, **wish):
    ada.goto(f"{root}/sessions/{session}/shares")
    if wish.get("team"):
        ada.locator("#team").select_option(wish["team"])
    ada.locator("#who").fill(wish.get("who", ""))
    ada.locator(f"input[name=access][value={access}]").check()
    ada.locator("#share").click()
    ada.get_by_text("The session is shared.").wait_for()


def enter(page, lab):
    """Say yes where the hub asks whether to go to somebody else's session."""
    page.wait_for_url(re.compile(r"oauth2/authorize|/lab"))
    if "oauth2/authorize" in page.url:
        page.get_by_role("button", name="Open the session").click()
    page.wait_for_url(lab + "**")


def edit_run_and_save(page, code):
    editor = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(code)
    page.get_by_text("| Idle").wait_for()
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Control+s")


def look_on(place, ada, olga, lab, session):
    """Whoever may only look sees the notebook, starts no kernel and reaches none."""
    share(ada, f"{place.address}/services/cupola", session, "view", who="olga")
    olga.goto(lab)
    enter(olga, lab)
    olga.goto(f"{lab}/tree/shared.ipynb")
    olga.locator(".jp-Notebook .cm-content", has_text="6 * 7").wait_for()
    before = notebook_of(place).read_text()
    refused = olga.evaluate(START_KERNEL, f"{lab.removesuffix('/lab')}/api/kernels")
    assert refused["status"] == 403
    assert "ask ada for full access" in refused["message"]
    # The notebook's own kernel runs already; nobody who only looks gets through to it.
    playwright.expect(olga.get_by_text("| Idle")).to_have_count(0)
    assert notebook_of(place).read_text() == before


def shut_out(ada, mike, root, lab, session):
    ada.goto(f"{root}/sessions/{session}/shares")
    ada.locator("#revoke-mars-crew").click()
    ada.get_by_text("The share has ended.").wait_for()
    path = f"{lab.removesuffix('/lab')}/api/contents"
    ask = f"() => fetch({path!r}).then(answer => answer.status)"
    wait_until(lambda: mike.evaluate(ask) in {401, 403}, "the member is out", OUT_WITHIN)


def wait_until(question, what, seconds=60):
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"this did not happen in {seconds} s: {what}"
        time.sleep(0.5)
