"""The launch wizard and the pages of sessions in a real Chromium, over made-up models."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cupola.models.resources import Resources
from cupola.models.volume import Volume, VolumeKind
from support import made_up
from support.pages import CHROMIUM, chromium_with, opened_pages, served

playwright = pytest.importorskip("playwright.sync_api")

WIZARD = "datalabs/lab"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
]


@pytest.fixture(scope="module")
def app():
    return made_up.application()


@pytest.fixture(scope="module")
def address(app):
    with served(app) as place:
        yield place


@pytest.fixture
def asked(app):
    """What the pages asked of the service, in this test alone."""
    app.state.factory.sessions.asked.clear()
    return app.state.factory.sessions.asked


@pytest.fixture(scope="module")
def chromium():
    with chromium_with() as browser:
        yield browser


@pytest.fixture
def opened(chromium, address):
    """Return a function that opens a page; whatever Chromium complains about fails the test."""
    with opened_pages(chromium, address) as open_page:
        yield open_page


def choose(page):
    """Fill in the wizard as a person does."""
    page.get_by_role("radio", name="2026.10").check()
    page.get_by_role("group", name=re.compile("^Cores")).get_by_role("radio", name="4", exact=True).check()
    page.get_by_role("radio", name="8 GiB").check()
    page.get_by_role("checkbox", name="A folder without metadata").check()
    page.locator("#more > summary").click()
    page.get_by_label("Title").fill("Dust storms")
    page.get_by_label("Name of variable 1").fill("GDAL_CACHEMAX")
    page.get_by_label("Value of variable 1").fill("512")
    page.get_by_role("checkbox", name="Start clean").check()


@pytest.mark.parametrize("scripts", [True, False])
def test_every_choice_reaches_the_service_with_and_without_scripts(opened, asked, scripts):
    page = opened(WIZARD, java_script_enabled=scripts)
    choose(page)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/starting")
    [(_, request, key)] = asked
    assert len(key) >= 8
    assert request.version == made_up.OLDER
    assert request.resources == Resources(cores=4, memory_mib=8192)
    assert request.volumes == ["sample-archive", "bare"]
    assert (request.title, request.clean) == ("Dust storms", True)
    assert request.environment == {"GDAL_CACHEMAX": "512"}


def test_the_link_carries_the_choices_and_launches_nothing_by_itself(opened, asked):
    page = opened(WIZARD)
    choose(page)
    page.get_by_role("button", name="Link with these choices").click()
    page.wait_for_url("**/launch?**")
    link = page.locator("#link pre").inner_text()
    assert "cores=4&memory_mib=8192" in link
    assert "env=GDAL_CACHEMAX" in link
    assert "512" not in link.replace("8192", "")
    assert asked == []
    page.goto(page.url.partition("/services/")[0] + link[link.index("/services/") :])
    playwright.expect(page.get_by_role("radio", name="2026.10")).to_be_checked()
    playwright.expect(page.get_by_role("checkbox", name="A folder without metadata")).to_be_checked()
    playwright.expect(page.get_by_label("Title")).to_have_value("Dust storms")
    playwright.expect(page.get_by_label("Name of variable 1")).to_have_value("GDAL_CACHEMAX")
    playwright.expect(page.get_by_label("Value of variable 1")).to_have_value("")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/starting")
    [(_, request, _)] = asked
    assert request.resources == Resources(cores=4, memory_mib=8192)
    assert request.environment == {}


def test_a_link_of_somebody_with_more_is_lowered_and_told(opened):
    page = opened("launch?datalab=lab&cores=64&memory_mib=999999&gpus=4&volumes=bare,secret")
    for note in ("from 64 cores to 8 cores", "to 16 GiB", "from 4 GPUs to 0 GPUs", "no volume secret"):
        playwright.expect(page.get_by_role("status").filter(has_text=note)).to_be_visible()
    # What is chosen for the person is not all free now, which is told too.
    playwright.expect(page.get_by_text("What is chosen is not free now")).to_be_visible()


def test_what_is_not_free_cannot_be_picked_and_gpus_say_why_not(opened):
    page = opened(WIZARD)
    playwright.expect(page.get_by_role("radio", name="16 GiB")).to_be_disabled()
    playwright.expect(page.get_by_text("11 GiB of 64 GiB free now")).to_be_visible()
    gpus = page.get_by_role("group", name=re.compile("^GPUs"))
    playwright.expect(gpus).to_contain_text("Your profile default has no GPUs")
    playwright.expect(gpus.get_by_role("radio", name="1")).to_be_disabled()


def test_a_session_that_ran_out_of_memory_is_restarted_bigger_with_one_button(opened, asked):
    page = opened("sessions/lab-big23456")
    playwright.expect(page.get_by_text("more memory than the 4 GiB it may have")).to_be_visible()
    playwright.expect(page.get_by_text("Killed")).to_be_visible()
    page.get_by_role("button", name="Restart bigger").click()
    page.wait_for_url("**/starting")
    assert asked == [("restart", "lab-big23456", Resources(cores=2, memory_mib=8192))]


def test_a_session_is_renamed_and_restarted_after_a_question(opened, asked):
    page = opened("sessions/lab-7k2m9xq4")
    page.locator("#rename > summary").click()
    page.get_by_label("Title").fill("Dust")
    page.locator("#rename button").click()
    playwright.expect(page.get_by_text("The session has its new title.")).to_be_visible()
    page.get_by_role("button", name="Restart", exact=True).click()
    page.get_by_role("button", name="Restart it").click()
    page.wait_for_url("**/starting")
    assert asked == [("rename", "lab-7k2m9xq4", "Dust"), ("restart", "lab-7k2m9xq4", None)]


def test_a_product_leads_to_the_version_that_made_it_or_says_that_it_is_gone(opened, tmp_path):
    item = tmp_path / "item.json"
    for digest, note in (
        (made_up.OLDER, "exactly the version"),
        ("sha256:" + "0" * 64, "is gone: chosen is"),
    ):
        item.write_text(
            f'{{"properties": {{"cupola:version": "{digest}", "created": "2026-10-20T10:00:00Z"}}}}'
        )
        page = opened("launch")
        page.get_by_label("The product's item").set_input_files(item)
        page.get_by_role("button", name="Find the version").click()
        page.wait_for_url("**/launch?product=**")
        playwright.expect(page.get_by_text(note)).to_be_visible()


def test_many_volumes_are_searched_and_what_is_chosen_stays_in_sight(opened, app):
    many = [
        Volume(
            name=f"volume-{number}",
            title=f"Volume {number}",
            kind=VolumeKind.ARCHIVE,
            source=Path("/x"),
            mission="Mars Express" if number % 3 == 0 else "Rosetta",
        )
        for number in range(12)
    ]
    service = app.state.factory.volumes
    before, service.things = service.things, lambda: many
    try:
        page = opened("launch?datalab=lab&volumes=volume-1")
        page.get_by_label("Search").fill("mars express")
        playwright.expect(page.get_by_text("4 of 12 fit")).to_be_visible()
        seen = page.locator(".options .option:visible")
        playwright.expect(seen).to_have_count(5)
        playwright.expect(seen.filter(has_text="Volume 1").first).to_be_visible()
    finally:
        service.things = before


def test_another_row_for_a_variable_is_one_press_away(opened):
    page = opened(WIZARD)
    page.locator("#more > summary").click()
    page.get_by_role("button", name="Add a row").click()
    playwright.expect(page.get_by_label("Name of variable 3")).to_be_focused()


def test_the_button_is_in_sight_from_the_start(opened):
    for width in (1280, 320):
        page = opened(WIZARD, width=width)
        playwright.expect(page.locator("#play")).to_be_in_viewport()


@pytest.mark.skipif("CUPOLA_PICTURES" not in os.environ, reason="pictures are taken by `make pictures`")
@pytest.mark.parametrize(
    ("name", "path", "options"),
    [
        ("wizard", WIZARD, {"color_scheme": "light"}),
        ("sessions", "sessions", {"color_scheme": "light"}),
        ("session-out-of-memory", "sessions/lab-big23456", {"color_scheme": "dark"}),
        ("phone-wizard", WIZARD, {"width": 390, "color_scheme": "dark"}),
    ],
)
def test_pictures_of_launching(opened, name, path, options):
    page = opened(path, **options)
    page.evaluate("document.fonts.ready")
    page.screenshot(path=Path(os.environ["CUPOLA_PICTURES"]) / f"{name}.png", full_page=True)
