"""The pages and the REST face of notifications, over the real services, a real mail server and a real webhook."""

from __future__ import annotations

import asyncio
import re

import pytest
import pytest_asyncio

from cupola.config import NotificationSettings
from cupola.models.base import now
from cupola.models.job import Job, JobCounts, JobState
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.storage.database.jobs import JobStore, StoredJob
from support.mailbox import hooks, mailbox

HTML = {"Accept": "text/html"}
PREFIX = "/services/cupola/"

pytestmark = pytest.mark.asyncio


@pytest.fixture
def hook():
    with hooks() as made:
        yield made


@pytest_asyncio.fixture
async def box():
    async with mailbox() as made:
        yield made


@pytest.fixture
def config(config, box, hook):
    assert hook
    mail = {"host": "127.0.0.1", "port": box.port, "tls": "none", "sender": "cupola@example.org"}
    notifications = NotificationSettings.model_validate({"mail": mail, "webhooks": {"allow": ["127.0.0.1"]}})
    return config.model_copy(update={"notifications": notifications, "url": "https://cupola.example.org"})


@pytest_asyncio.fixture
async def portal(open_portal, hub):
    hub.mails["maria"] = "maria@example.org"
    async with open_portal() as client:
        client.cookies.set("service-cupola", "token-of-maria")
        client.headers.update(HTML)
        yield client


async def post(portal, path, **fields):
    page = await portal.get("notifications/settings")
    token = re.search(rf'name="{FIELD}" value="([^"]+)"', page.text)[1]
    return await portal.post(path, data={FIELD: token, **fields})


async def end(portal, name, *, owner="maria", state=JobState.DONE):
    """Let a job end in the portal's own table."""
    factory = portal.app.state.factory
    store = JobStore(factory._database, factory._notices)
    counts = JobCounts(inputs=3, done=3)
    about = {"engine": "local", "tasks": 1, "chunk": 3, "created": now(), "version": "v", "folder": "/x"}
    job = Job(id=name, owner=owner, name=f"<i>{name}</i>", state="running", counts=counts, **about)
    await store.insert(StoredJob(job=job, python="/bin/python"))
    ended = job.model_copy(update={"state": state, "ended": now()})
    await store.update(name, lambda old: old.model_copy(update={"job": ended}))


async def test_from_the_settings_to_the_mail_the_webhook_and_the_bell(portal, box, hook):
    page = await portal.get("notifications/settings")
    assert 'value="maria@example.org"' in page.text
    assert "from your sign-in" in page.text
    answer = await post(
        portal,
        "notifications/settings",
        mail="yes",
        address="maria@example.org",
        webhook="yes",
        webhook_address=hook.address + "/T0K3N",
        secret="5ecret",
        ends="all",
        minutes="10",
    )
    assert answer.headers["location"] == f"{PREFIX}notifications/settings?said=saved"
    before = await portal.get("notifications/mark")
    assert 'aria-label="Notifications"' in before.text
    again = re.search(r'hx-get="[^"]*(notifications/mark[^"]*)"', before.text)[1].replace("&amp;", "&")
    assert (await portal.get(again)).status_code == 204
    await end(portal, "job-1")
    await end(portal, "job-of-paul", owner="paul")
    message = await box.wait(1)
    assert "https://cupola.example.org/services/cupola/jobs/job-1" in message.as_string()
    [(_, headers, _, content)] = [await asyncio.to_thread(hook.wait, 1)]
    assert "X-Hub-Signature-256" in headers
    assert content["text"].startswith("\u2039i\u203ajob-1")
    mark = (await portal.get(again)).text
    assert "Notifications, 1 unread" in mark
    assert "&lt;i&gt;job-1&lt;/i&gt;: all 3 inputs done" in mark
    listing = await portal.get("notifications")
    assert "job-1&lt;/i&gt;: all 3 inputs done" in listing.text
    assert "job-of-paul" not in listing.text
    number = re.search(r"notifications/(\d+)", listing.text)[1]
    followed = await portal.get(f"notifications/{number}")
    assert followed.headers["location"] == f"{PREFIX}jobs/job-1"
    assert "unread" not in (await portal.get("notifications/mark")).text
    assert (await portal.get(f"notifications/{int(number) + 1}")).status_code == 404
    page = await portal.get("notifications/settings")
    for secret in ("T0K3N", "5ecret"):
        assert secret not in page.text
    assert "one at 127.0.0.1 is set" in page.text


async def test_another_address_is_confirmed_by_a_button_behind_its_link(portal, box):
    answer = await post(
        portal, "notifications/settings", mail="yes", address="work@example.org", ends="failed", minutes="5"
    )
    assert answer.headers["location"].endswith("said=asked")
    text = box.messages[0].get_body(["plain"]).get_content()
    path = re.search(r"https://cupola\.example\.org/services/cupola/(\S+)", text)[1]
    page = await portal.get(path)
    assert "Is work@example.org yours?" in page.text
    # A look alone, as programs that guard mailboxes take one, changes nothing.
    assert "waits until you open the link" in (await portal.get("notifications/settings")).text
    # To save other things asks no second time.
    await post(portal, "notifications/settings", mail="yes", address="work@example.org", minutes="6")
    assert len(box.messages) == 1
    portal.cookies.set("service-cupola", "token-of-paul")
    assert (await portal.get(path)).status_code == 404
    assert (await post(portal, path)).status_code == 404
    portal.cookies.set("service-cupola", "token-of-maria")
    assert (await post(portal, path)).headers["location"].endswith("said=confirmed")
    settings = await portal.get("api/notifications/settings")
    assert settings.json()["address"] == "work@example.org"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mail": "yes", "address": "nonsense"}, "is no mail address"),
        ({"webhook": "yes"}, "needs an address"),
        ({"webhook": "yes", "webhook_address": "https://10.0.0.1/x"}, "private address"),
        ({"webhook_address": "ftp://example.org"}, "begins with https://"),
        ({"secret": "x"}, "needs a webhook"),
        ({"minutes": "-1"}, ""),
        ({"secret": "x" * 300}, "too long"),
    ],
)
async def test_the_page_says_what_is_wrong(portal, fields, said):
    answer = await post(portal, "notifications/settings", **{"ends": "all", "minutes": "10", **fields})
    assert answer.status_code in {403, 422}
    assert said in answer.text
    assert answer.text.startswith("<!doctype html>")


async def test_a_test_says_how_it_went_and_a_box_forgets_the_webhook(portal, box, hook):
    assert "nothing to test" not in (await post(portal, "notifications/test")).text
    await post(portal, "notifications/settings", webhook="yes", webhook_address=hook.address, secret="s")
    hook.answer = 404
    page = (await post(portal, "notifications/test")).text
    assert "The test by mail was accepted by the mail server for maria@example.org" in page
    assert "did not arrive: The webhook at 127.0.0.1 answers HTTP 404." in page
    assert len(box.messages) == 2
    await post(portal, "notifications/settings", webhook="yes", forget="yes")
    shown = (await portal.get("api/notifications/settings")).json()
    assert (shown["webhook"], shown["webhook_host"], shown["signed"]) == (False, None, False)


async def test_forms_of_others_and_sessions_change_nothing(portal, hub):
    assert (await portal.post("notifications/settings", data={"mail": "yes"})).status_code == 403
    assert (await portal.post("notifications/read")).status_code == 403
    portal.cookies.clear()
    hub.add_token(
        "of-a-session",
        "maria",
        scopes=("access:services!service=cupola", "access:servers!server=maria/lab-1"),
    )
    session = {"Authorization": "token of-a-session", "Accept": "application/json"}
    assert (await portal.get("api/notifications", headers=session)).status_code == 200
    assert (await portal.get("api/notifications/settings", headers=session)).status_code == 403
    for path in ("settings", "test", "read"):
        method = "PATCH" if path == "settings" else "POST"
        answer = await portal.request(method, f"api/notifications/{path}", json={}, headers=session)
        assert answer.status_code == 403
    assert (await portal.get("api/notifications", headers={"Accept": "application/json"})).status_code == 401


async def test_programs_have_it_all(portal, maria):
    portal.cookies.clear()
    portal.headers.update({**maria, "Accept": "application/json"})
    for number in range(3):
        await end(portal, f"job-{number}")
    page = (await portal.get("api/notifications", params={"limit": 2})).json()
    assert [one["end"]["job"] for one in page["items"]] == ["job-2", "job-1"]
    assert (await portal.get("api/notifications/unread")).json()["count"] == 3
    newest = page["items"][0]["id"]
    assert (await portal.post("api/notifications/read", params={"id": newest})).status_code == 204
    assert (await portal.get("api/notifications/unread")).json() == {"count": 2, "newest": newest}
    assert (await portal.post("api/notifications/read")).status_code == 204
    changed = await portal.patch("api/notifications/settings", json={"mail": True, "ends": "long"})
    assert (changed.json()["mail"], changed.json()["address"]) == (True, "maria@example.org")
    assert (await portal.post("api/notifications/test")).json() == [{"channel": "mail", "problem": None}]
