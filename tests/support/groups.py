"""What people do in a browser on a platform for groups: make a team, share a session, write and run a notebook, stop."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager

from websockets.sync.client import connect

from support.kernels import run_in

SECOND = 1000


def wait_until(question, what, seconds=120):
    """Wait until `question` says yes; return what it said."""
    end = time.monotonic() + seconds
    while not (said := question()):
        assert time.monotonic() < end, f"this did not happen in {seconds} s: {what}"
        time.sleep(0.25)
    return said


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


def play(page, root):
    """Press the Lab's play button in the catalogue; return the address of the session's Lab."""
    page.goto(root + "/")
    page.locator("form:has(input[name=datalab][value=lab]) button").first.click()
    return arrived(page)


def arrived(page):
    """Wait until a session that starts has opened; return the address of its Lab."""
    page.wait_for_url(re.compile(r"/user/[^/]+/[^/]+/lab"), timeout=180 * SECOND)
    page.locator("#jp-main-dock-panel").wait_for()
    return re.match(r".*/lab(?=[/?]|$)", page.url)[0]


def id_of(lab):
    return lab.split("/")[-2]


def ask(page, lab, method, path, content=None):
    """Ask a session's own server with the cookies of a page; the answer's status and what it said."""
    return send(page, method, f"{lab.removesuffix('/lab')}/{path}", content)


def send(page, method, address, content=None):
    """Ask for an address as scripts of a page do, redirects not followed; the answer's status and what it said."""
    cookies = sorted(page.context.cookies(address), key=lambda one: len(one["path"]))
    token = [one["value"] for one in cookies if one["name"] == "_xsrf"][-1:]
    answer = page.context.request.fetch(
        address, method=method, data=content, headers={"X-XSRFToken": "".join(token)}, max_redirects=0
    )
    told = "json" in answer.headers.get("content-type", "")
    return answer.status, answer.json() if told else answer.text()


def put_notebook(page, lab, name):
    """Make a notebook with one empty cell."""
    cell = {"cell_type": "code", "id": "one", "source": "", "metadata": {}, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = {
        "cells": [{**cell, "execution_count": None}],
        "metadata": kernel,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    wish = {"type": "notebook", "format": "json", "content": content}
    status, said = ask(page, lab, "PUT", f"api/contents/{name}", wish)
    assert status in {200, 201}, said


def open_notebook(page, lab, name):
    page.goto(f"{lab}/tree/{name}?reset")  # and nothing that was open before
    page.locator(".jp-Notebook .cm-content:visible").first.wait_for()


def write_and_run(page, code):
    editor = page.locator(".jp-Notebook .jp-CodeCell .cm-content:visible").first
    page.get_by_text("| Idle").wait_for()
    editor.click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")


@contextmanager
def cells_in(page, lab):
    """Start a kernel in a session that a page has open; yield what runs a cell and returns what it printed, its error with it."""
    status, kernel = ask(page, lab, "POST", "api/kernels", {"name": "python3"})
    assert status == 201, kernel
    session = lab.removesuffix("/lab")
    cookies = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies(session + "/"))
    with connect(
        f"{session}/api/kernels/{kernel['id']}/channels".replace("http", "ws", 1),
        additional_headers={"Cookie": cookies},
        origin=re.match(r"https?://[^/]+", session)[0],
        max_size=None,
        open_timeout=90,
    ) as socket:
        yield lambda code: run_in(socket, code).strip()


def portal(page, root, method, path, **content):
    """Ask the portal with the cookies of a page, as its scripts do; what it said."""
    token = next(one["value"] for one in page.context.cookies(root + "/") if one["name"] == "cupola-csrf")
    answer = page.context.request.fetch(
        f"{root}/api/{path}", method=method, data=content or None, headers={"X-CSRF-Token": token}
    )
    assert answer.ok, answer.text()
    return answer.json()


def launch(page, root, path="sessions", **wish):
    """Launch a Lab, or with another `path` one that takes the place of another, without looking at it; its address."""
    session = portal(page, root, "POST", path, **wish)["id"]

    def opened():
        seen = portal(page, root, "GET", f"sessions/{session}")
        assert seen["state"] not in {"failed", "stopped"}, seen["reason"]
        return seen["url"]

    place = wait_until(opened, "the session is ready", 180)
    lab = re.match(r"https?://[^/]+", root)[0] + re.match(r".*/lab(?=[/?]|$)", place)[0]
    page.context.request.get(lab)  # signs in there
    return lab


def stop(page, root, lab):
    """Stop a session, and wait until it has ended."""
    portal(page, root, "POST", f"sessions/{id_of(lab)}/stop")
    wait_until(
        lambda: portal(page, root, "GET", f"sessions/{id_of(lab)}")["state"] == "stopped", "the session ends"
    )
