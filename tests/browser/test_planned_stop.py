"""A planned stop is announced in the Lab, in a real Chromium: what is seen, and what its buttons do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest

from support.axe import violations
from support.pages import CHROMIUM, chromium_with
from support.stop_portal import StopPortal
from support.terminals import unguarded, until

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

SECOND = 1000
EXTENSIONS = Path(__file__).parents[2] / "src" / "cupola" / "lab" / "labextension"
REASON = "Nobody used it for 12 h."

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def portal():
    made = StopPortal()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, portal):
    folder = tmp_path_factory.mktemp("lab")
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    # Its screen is drawn as a picture; for people who hear it, it is text too.
    heard = folder / "settings" / "@jupyterlab" / "terminal-extension" / "plugin.jupyterlab-settings"
    heard.parent.mkdir(parents=True)
    heard.write_text('{"screenReaderMode": true}')
    made = unguarded(
        folder,
        f"--LabApp.extra_labextensions_path={EXTENSIONS}",
        module="jupyterlab",
        JUPYTERLAB_SETTINGS_DIR=str(folder / "settings"),
        **portal.environ,
    )
    try:
        yield made.start()
    finally:
        made.clean()


@pytest.fixture(scope="module")
def chromium():
    with chromium_with() as opened:
        yield opened


@pytest.fixture
def page(chromium, server, portal):
    portal.withdraw()
    portal.wishes.clear()
    portal.refuses.clear()
    opened = chromium.new_page(viewport={"width": 1280, "height": 800})
    opened.set_default_timeout(60 * SECOND)
    opened.goto(f"{server.url}lab?token={server.token}&reset")
    opened.locator(".jp-Launcher").wait_for()
    yield opened
    portal.withdraw()
    opened.close()


def picture(page, name):
    if pictures := os.environ.get("CUPOLA_PICTURES"):
        page.screenshot(path=Path(pictures) / f"{name}.png")


def strip(page):
    return page.locator("section.cupola-stop")


def seconds_of(page):
    minutes, seconds = strip(page).locator("[role=timer]").inner_text().split(":")
    return 60 * int(minutes) + int(seconds)


def test_a_planned_stop_is_announced_counts_down_and_is_put_off(page, portal, axe):
    expect(strip(page)).to_have_count(0)
    portal.announce(600, REASON)
    expect(strip(page)).to_contain_text("This session will be hibernated in")
    expect(strip(page)).to_contain_text(REASON)
    first = seconds_of(page)
    assert 500 < first <= 600
    until(lambda: seconds_of(page) < first)
    expect(strip(page).get_by_role("alert")).to_contain_text("10 minutes")
    picture(page, "planned-stop")
    assert violations(page, axe, "section.cupola-stop") == []
    strip(page).get_by_role("button", name="Keep alive").click()
    expect(strip(page)).to_have_count(0)
    assert portal.wishes == ["keep"]
    expect(page.locator(".Toastify__toast")).to_contain_text("This session stays.")


def test_it_is_withdrawn_by_itself_and_leaves_no_gap(page, portal):
    top = "document.querySelector('#jp-top-panel').getBoundingClientRect().top"
    before = page.evaluate(top)
    portal.announce(600, REASON)
    expect(strip(page)).to_be_visible()
    until(lambda: page.evaluate(top) > before + 20)
    portal.withdraw()
    expect(strip(page)).to_have_count(0)
    until(lambda: page.evaluate(top) == before)


def choose_theme(page, name):
    dark = "Dark" in name
    page.locator(".lm-MenuBar-item", has_text="Settings").click()
    page.locator(".lm-Menu-item", has_text="Theme").first.click()
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.locator(f"body[data-jp-theme-light={'false' if dark else 'true'}]").wait_for(state="attached")


def test_in_the_dark_theme_and_in_a_narrow_window_it_can_be_read(page, portal, axe):
    page.set_viewport_size({"width": 480, "height": 800})
    choose_theme(page, "JupyterLab Dark")
    try:
        portal.announce(45, "The whole platform is going to end for a while: it is moved to a larger machine.",
            kind="maintenance", keepable=False)  # fmt: skip
        expect(strip(page)).to_contain_text("This session will be stopped in")
        expect(strip(page).get_by_role("button", name="Keep alive")).to_have_count(0)
        button = strip(page).get_by_role("button", name="Hibernate now")
        expect(button).to_be_in_viewport(ratio=0.9)
        picture(page, "planned-stop-dark")
        # As high as its lines, and no higher.
        until(lambda: strip(page).bounding_box()["height"] < 120)
        assert violations(page, axe, "section.cupola-stop") == []
    finally:
        page.set_viewport_size({"width": 1280, "height": 800})
        choose_theme(page, "JupyterLab Light")


def test_what_the_portal_refuses_is_said_in_its_words(page, portal):
    portal.refuses["keep"] = 409, "The session is being stopped already; wake it afterwards."
    portal.announce(600, REASON)
    strip(page).get_by_role("button", name="Keep alive").click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("This session cannot be kept")
    expect(dialog).to_contain_text("being stopped already; wake it afterwards")
    dialog.locator("button").last.click()
    expect(strip(page)).to_be_visible()


def test_hibernation_is_in_the_file_menu_and_in_the_palette(page, portal):
    page.locator(".lm-MenuBar-item", has_text="File").click()
    page.locator(".lm-Menu-item[data-command='cupola:hibernate-session']").click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Hibernate this session?")
    picture(page, "hibernate")
    dialog.get_by_role("button", name="Cancel").click()
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill("Hibernate this")
    page.locator(".lm-CommandPalette-item", has_text="Hibernate this session").click()
    assert portal.wishes == []
    dialog.get_by_role("button", name="Hibernate").click()
    expect(page.locator(".Toastify__toast").last).to_contain_text("is being hibernated")
    assert portal.wishes == ["hibernate"]


def open_busy(page, server, name):
    """Open a notebook whose cell runs until somebody makes a file."""
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.2)"
            )
        ]
    )
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, server.home / name)
    page.goto(f"{server.url}lab/tree/{name}?token={server.token}")
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    page.locator(".jp-StatusBar-TextItem", has_text="| Busy").wait_for()


def test_a_notebook_that_computes_is_offered_as_a_job_and_saved_before_the_stop(page, server, portal):
    open_busy(page, server, "long.ipynb")
    told = portal.until(lambda activity: activity.busy)
    assert (told.busy, told.kernels, told.notebooks) == (["long.ipynb"], 1, ["long.ipynb"])
    portal.announce(600, REASON)
    strip(page).get_by_role("button", name="Turn long.ipynb into a job").click()
    dialog = page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Run long.ipynb as a job")
    dialog.get_by_role("button", name="Cancel").click()
    # What was typed and not saved is in the file before the session says that it is ready.
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("\n# typed at the last moment")
    assert "last moment" not in (server.home / "long.ipynb").read_text()
    portal.announce(600, REASON, snapshot="wish-1")
    done = portal.until(lambda activity: activity.snapshot).snapshot
    assert done.wish == "wish-1"
    assert "last moment" in (server.home / "long.ipynb").read_text()
    expect(strip(page)).to_contain_text("This session is being hibernated.")
    expect(strip(page).get_by_role("button")).to_have_count(0)
    (server.home / "go").touch()


def test_a_person_at_the_page_is_seen_and_a_page_alone_is_not(page, portal):
    # While a stop is near it is told soon.
    portal.announce(600, REASON)
    expect(strip(page)).to_be_visible()
    page.mouse.move(100, 100)
    portal.until(lambda activity: activity.idle_seconds < 15)
    portal.until(lambda activity: activity.idle_seconds > 20)
    page.keyboard.press("Shift")
    portal.until(lambda activity: activity.idle_seconds < 15)


def test_when_the_server_has_gone_the_way_back_is_shown(page, server, portal):
    portal.announce(1, REASON)
    expect(strip(page)).to_contain_text("This session is being hibernated.")
    server.end()
    try:
        expect(strip(page)).to_contain_text("This session has been stopped.")
        expect(strip(page).get_by_role("button", name="Open my sessions")).to_be_visible()
        picture(page, "planned-stop-over")
    finally:
        portal.withdraw()
        server.start()
    expect(strip(page)).to_have_count(0)


# -- terminals ------------------------------------------------------------------------------------------------


def screen_of(page):
    """Return the text of the terminal, as its screen has it."""
    rows = page.locator(".jp-Terminal .xterm-accessibility-tree > *").all_inner_texts()
    return "\n".join(row.replace("\xa0", " ").rstrip() for row in rows)


def typed(page, text, pattern):
    page.locator(".jp-Terminal .xterm-helper-textarea").focus()
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    return until(lambda: re.search(pattern, screen_of(page)))


def size_of(page):
    """Return the rows and columns that the shell knows of."""
    size_of.times += 1
    found = typed(
        page, f"clear; echo size-{size_of.times}=$(stty size)", rf"size-{size_of.times}=(\d+) (\d+)"
    )
    return int(found[1]), int(found[2])


size_of.times = 0


def test_a_terminal_in_an_open_page_outlives_its_server_and_shows_each_line_once(page, server):
    page.locator(".jp-LauncherCard", has_text="Terminal").click()
    page.locator(".jp-Terminal .xterm-accessibility-tree").wait_for(state="attached")
    typed(page, "PS1='$ '; clear; echo pid=$$", r"pid=\d+")
    pid = re.search(r"pid=(\d+)", screen_of(page)).group(1)
    wide = size_of(page)
    page.set_viewport_size({"width": 900, "height": 700})
    until(lambda: size_of(page)[1] < wide[1])
    narrow = size_of(page)
    typed(page, "clear; for i in $(seq 20); do echo line=$i; sleep 0.5; done; echo the''end", r"line=3\b")
    server.end()
    server.start()
    until(lambda: "theend" in screen_of(page), 180)
    assert [int(number) for number in re.findall(r"line=(\d+)", screen_of(page))] == list(range(1, 21))
    typed(page, "clear; echo again=$$; stty size", r"again=\d+")
    assert f"again={pid}" in screen_of(page)
    until(lambda: f"{narrow[0]} {narrow[1]}" in screen_of(page))
    picture(page, "terminal")
    # Another page, later, has the same screen.
    page.reload()
    until(lambda: f"again={pid}" in screen_of(page), 180)
