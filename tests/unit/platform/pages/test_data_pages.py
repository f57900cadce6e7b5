from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from cupola.models.volume import Volume, VolumeKind
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.handlers.pages.datasearch import Search, Wish
from support import made_up

BASE = "http://cupola.test" + made_up.PREFIX
COOKIE = {"service-cupola": "token-of-ada"}
NEW = {
    "name": "dust",
    "title": "Dust maps",
    "place": "bucket",
    "endpoint": "https://s3.example.org",
    "bucket": "dust-maps",
    "keys": "yes",
    "key_id": "KEYID",
    "key_secret": "canary-secret",
    "tags": "dust, maps,dust",
    "visibility": "owner",
}

pytestmark = pytest.mark.asyncio


@pytest.fixture
def app():
    return made_up.application()


@pytest_asyncio.fixture
async def browser(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Accept": "text/html"}
    async with httpx.AsyncClient(
        transport=transport, base_url=BASE, headers=headers, cookies=COOKIE
    ) as client:
        yield client


@pytest.fixture
def asked(app):
    return app.state.factory.volumes.asked


async def test_a_volume_says_where_it_is_and_how_to_open_it(browser):
    text = (await browser.get("data/sample-archive")).text
    assert "~/volumes/sample-archive/tour.ipynb" in text
    assert "cupola.open(&#34;sentinel-2-l2a&#34;)" in text
    assert "The Cupola developers (2026)" in text
    assert "lab-7k2m9xq4" in text
    assert "Change" not in text.partition("<aside")[2]
    gone = (await browser.get("data/mars-archive")).text
    assert "There is no folder /archive/mars" in gone
    assert "Open it in a notebook" not in gone


async def test_a_volume_of_somebody_can_be_changed_approved_and_not_obeyed(browser):
    text = (await browser.get("data/hst-acs")).text
    assert "at least 1.2 TiB" in text
    assert "1,204 folders" in text
    assert "<script>alert" not in text
    for deed in ("change", "remove", "approve", "measure", "example"):
        assert f"data/hst-acs/{deed}" in text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=HUBBLE+acs", ["hst-acs"]),
        ("q=b11", ["sample-archive"]),
        ("body=Mars", ["sample-archive"]),
        ("mission=Hubble+Space+Telescope", ["hst-acs"]),
        ("kind=home", ["home"]),
        ("q=ultraviolet&kind=home", []),
    ],
)
async def test_what_is_looked_for_is_found(browser, query, names):
    text = (await browser.get(f"data?{query}")).text
    assert re.findall(r'<h2><a href="[^"]*data/([a-z-]+)">', text) == names
    assert ("No volume fits" in text) == (not names)


async def test_500_volumes_come_in_pages_that_keep_what_is_looked_for():
    many = [
        Volume(name=f"v{number}", title=f"V {number}", kind=VolumeKind.ARCHIVE, source=Path("/"), body="Mars")
        for number in range(500)
    ]
    seen, page = [], 1
    while True:
        search = Search.of(Wish(q="v", body="Mars", page=page), many)
        seen += [volume.name for volume in search.found]
        if not search.more:
            break
        page += 1
        assert search.query(page) == {"q": "v", "body": "Mars", "page": str(page)}
    assert seen == [volume.name for volume in many]


async def test_a_bucket_is_added_with_its_keys(browser, asked):
    answer = await browser.post("volumes/add", data=NEW)
    assert answer.headers["location"].endswith("data/hst-acs?said=added")
    [(_, new)] = asked
    assert (new.bucket.anonymous, new.key_id, new.key_secret) == (False, "KEYID", "canary-secret")
    assert new.tags == ["dust", "maps"]
    assert "canary" not in repr(new)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": "No Slug"}, "name", "small letters"),
        ({"name": "taken"}, "name", "The name taken is taken"),
        ({"title": ""}, "title", "Give a title"),
        ({"visibility": "everybody"}, "example", "needs a notebook"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_keys_do_not_come_back(
    browser, asked, change, field, said
):
    answer = await browser.post("volumes/add", data=NEW | change)
    assert answer.status_code == 422
    place = answer.text.partition(f'id="{field}-about"')[2].partition("</div>")[0]
    assert said in place
    assert 'value="https://s3.example.org"' in answer.text
    assert "canary" not in answer.text
    assert not asked


async def test_a_volume_is_changed_measured_approved_and_removed(browser, asked):
    form = {"title": "Hubble", "example": "", "visibility": "owner", FIELD: "x"}
    assert (await browser.post("data/hst-acs/change", data=form)).status_code == 303
    assert (await browser.post("data/hst-acs/measure")).status_code == 303
    assert (await browser.post("data/hst-acs/approve")).status_code == 303
    assert (await browser.post("data/bare/remove")).headers["location"].endswith("data?said=removed")
    refused = await browser.post("data/hst-acs/remove")
    assert refused.status_code == 409
    assert "Sessions of ada use the volume hst-acs" in refused.text
    deeds = [(one[0], one[1]) for one in asked]
    assert deeds[:3] == [("change", "hst-acs"), ("measure", "hst-acs"), ("change", "hst-acs")]
    assert asked[0][2].title == "Hubble"
    assert asked[2][2].approve


async def test_the_example_opens_in_a_new_lab_where_none_has_the_volume(app, browser):
    answer = await browser.post("data/hst-acs/example")
    assert answer.headers["location"].endswith("data/hst-acs/example/lab-start123")
    [(_, request, _)] = app.state.factory.sessions.asked
    assert request.volumes == ["sample-archive", "hst-acs"]
    page = await browser.get("data/hst-acs/example/lab-start123")
    assert "A Lab starts for the example" in page.text
    ready = await browser.get("data/hst-acs/example/lab-7k2m9xq4")
    there = "/user/ada/lab-7k2m9xq4/lab/tree/volumes/hst-acs/examples/first-look.ipynb"
    assert ready.headers["location"] == there
    live = await browser.get("data/hst-acs/example/lab-7k2m9xq4/live")
    assert live.headers["hx-redirect"] == there
