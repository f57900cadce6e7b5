"""Notifications over a real database, a real mail server and a real webhook."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
import pytest_asyncio
from sqlalchemy import text

from cupola.config import MailSettings
from cupola.exceptions import InputError, LimitError, NotAllowedError, NotFoundError, UnavailableError
from cupola.models.base import now
from cupola.models.job import Job, JobCounts, JobState
from cupola.models.notification import Channel, Ends, JobEnd, NotificationChange, NotificationSettings
from cupola.platform.services.notices.deliveries import AGAIN, Deliverer, Messenger
from cupola.platform.services.notices.notifications import Allowance, NotificationService
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.jobs import JobStore, StoredJob
from cupola.platform.storage.database.notifications import NotificationStore
from cupola.platform.storage.mail import Mailer
from cupola.platform.storage.webhooks import HookStore, WebhookCaller
from support.jobs_service import ADA, EVE
from support.mailbox import hooks, mailbox

SHORT = [timedelta(milliseconds=20)] * 2 + [timedelta(days=2)]


def job(name="job-1", owner="ada", state=JobState.RUNNING, **more):
    about = {"counts": JobCounts(inputs=200, done=197, failed=3), "tasks": 1, "chunk": 3, "created": now()}
    told = Job(
        id=name, owner=owner, name="ndvi", state=state, engine="local", folder="/x", version="v", **about
    )
    return told.model_copy(update=more)


@pytest_asyncio.fixture
async def platform(tmp_path):
    database = Database.at(tmp_path / "portal.sqlite")
    await database.migrate()
    store = NotificationStore(database)
    signed_in = {"eve": "eve@example.org"}

    async def sign_in_address(person):
        return signed_in.get(person)

    async def address_of(person):
        return (await store.settings(person)).address or await sign_in_address(person)

    with hooks() as hook:
        async with mailbox() as box:
            mail = MailSettings(host="127.0.0.1", port=box.port, tls="none", sender="cupola@example.org")
            messenger = Messenger(
                mailer=Mailer(mail, "Cupola"),
                caller=WebhookCaller(("127.0.0.1",)),
                hooks=HookStore(tmp_path / "hooks"),
                address_of=address_of,
                title="Cupola",
                pages="https://cupola.example.org/services/cupola/",
            )
            deliverer = Deliverer(store, messenger, again=SHORT)
            store.wake = deliverer.wake
            service = NotificationService(store=store, messenger=messenger, sign_in_address=sign_in_address)
            made = SimpleNamespace(
                database=database,
                store=store,
                jobs=JobStore(database, store),
                messenger=messenger,
                deliverer=deliverer,
                service=service,
                box=box,
                hook=hook,
                signed_in=signed_in,
            )
            yield made
    await database.aclose()


async def end(platform, name="job-1", state=JobState.PARTLY_FAILED, **more):
    """Let a job begin and end as its watcher does."""
    await platform.jobs.insert(StoredJob(job=job(name, **more), python="/bin/python"))
    ended = {"state": state, "ended": now(), **more}
    return await platform.jobs.update(
        name, lambda old: old.model_copy(update={"job": old.job.model_copy(update=ended)})
    )


@contextlib.asynccontextmanager
async def running(deliverer):
    task = asyncio.create_task(deliverer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def delivered(platform, person=ADA, *, states=("sent", "given-up"), tries=0):
    """Wait until everything of a person's newest end is in one of these states."""
    while True:
        newest = (await platform.service.page(person)).items[0]
        if newest.deliveries and all(one.state in states and one.tries >= tries for one in newest.deliveries):
            return newest
        await asyncio.sleep(0.02)


async def set_hook(platform, person=ADA, **more):
    wanted = {"webhook": True, "webhook_address": platform.hook.address, **more}
    return await platform.service.change(person, NotificationChange(**wanted))


async def confirm(platform, address="ada@example.org", person=ADA):
    await platform.service.change(person, NotificationChange(mail=True, address=address))
    message = await platform.box.wait(len(platform.box.messages) or 1)
    assert message["to"] == address
    token = re.search(r"notifications/confirm/(\S+)", message.get_body(["plain"]).get_content())[1]
    assert await platform.service.asked_address(person, token) == address
    await platform.service.confirm(person, token)


@pytest.mark.parametrize(
    ("state", "counts", "title"),
    [
        ("done", {"done": 200}, "ndvi: all 200 inputs done"),
        ("done", {"inputs": 1, "done": 1}, "ndvi: 1 input done"),
        ("partly-failed", {"done": 197, "failed": 3}, "ndvi: 3 of 200 inputs failed"),
        ("failed", {"inputs": 10_000, "failed": 10_000}, "ndvi: 10,000 of 10,000 inputs failed"),
        ("failed", {}, "ndvi: failed, 0 of 200 inputs done"),
        ("cancelled", {"done": 12}, "ndvi: cancelled, 12 of 200 inputs done"),
    ],
)
def test_the_title_says_what_happened(state, counts, title):
    made = job(state=state, counts=JobCounts(**{"inputs": 200, **counts}))
    assert JobEnd.of(made, now()).title == title


def test_a_title_is_one_line_whatever_the_name():
    assert JobEnd.of(job().model_copy(update={"name": "a\r\nBcc: x\u2028y"}), now()).title.startswith(
        "a Bcc: x y:"
    )
    assert JobEnd.of(job().model_copy(update={"name": "\u200b\n"}), now()).title.startswith("job-1:")


@pytest.mark.parametrize(
    ("settings", "wished", "channels"),
    [
        ({}, None, []),
        ({"mail": True, "webhook": True}, None, ["mail", "webhook"]),
        ({"mail": True, "webhook": True}, False, []),
        ({"mail": True, "ends": Ends.FAILED}, None, ["mail"]),
        ({"mail": True, "ends": Ends.LONG, "minutes": 10}, None, []),
        ({"mail": True, "ends": Ends.LONG, "minutes": 4}, None, ["mail"]),
        ({"webhook": True, "ends": Ends.LONG}, True, ["webhook"]),
        ({}, True, ["mail"]),
        ({"webhook_host": "x"}, True, ["webhook"]),
    ],
)
def test_which_ends_are_told_how(settings, wished, channels):
    ended = now()
    made = JobEnd.of(job(state="failed", started=ended - timedelta(minutes=5), ended=ended), ended)
    assert NotificationSettings(**settings).told(made, wished) == channels


def test_only_failures_does_not_tell_of_what_is_done_or_cancelled():
    settings = NotificationSettings(mail=True, ends=Ends.FAILED)
    for state in ("done", "cancelled"):
        assert settings.told(JobEnd.of(job(state=state), now()), None) == []


@pytest.mark.asyncio
async def test_an_end_is_told_once_by_both_ways(platform):
    await set_hook(platform, secret="key")
    await confirm(platform)
    async with running(platform.deliverer):
        stored = await end(platform)
        # Seen again: by whoever reads the row at a start, or by a watcher that is late.
        await platform.jobs.update("job-1", lambda old: old.model_copy(update={"job": job()}))
        await platform.jobs.update("job-1", lambda _: stored)
        await delivered(platform)
    [_, message] = platform.box.messages
    assert message["subject"] == "ndvi: 3 of 200 inputs failed"
    assert message["message-id"] == "<cupola-job-1-1@example.org>"
    said = message.get_body(["plain"]).get_content()
    assert "https://cupola.example.org/services/cupola/jobs/job-1" in said.splitlines()
    assert "notifications/settings" in said
    [(_, headers, _, content)] = platform.hook.requests
    assert headers["X-Hub-Signature-256"].startswith("sha256=")
    assert content["text"] == (
        "ndvi: 3 of 200 inputs failed. https://cupola.example.org/services/cupola/jobs/job-1"
    )
    assert content["event"] == "job-ended"
    about = content["job"]
    assert (about["id"], about["state"], about["failed"]) == ("job-1", "partly-failed", 3)
    assert "person" not in about
    page = (await platform.service.page(ADA)).items
    assert len(page) == 1
    assert (await platform.service.page(EVE)).items == []


@pytest.mark.asyncio
async def test_a_retry_is_another_end(platform):
    await end(platform)
    again = job(attempt=2)
    await platform.jobs.update("job-1", lambda old: old.model_copy(update={"job": again}))
    done = again.model_copy(update={"state": JobState.DONE, "counts": JobCounts(inputs=200, done=200)})
    await platform.jobs.update("job-1", lambda old: old.model_copy(update={"job": done}))
    titles = [one.title for one in (await platform.service.page(ADA)).items]
    assert titles == ["ndvi: all 200 inputs done", "ndvi: 3 of 200 inputs failed"]
    assert (await platform.service.unread(ADA)).count == 2


@pytest.mark.asyncio
async def test_it_is_tried_again_and_given_up_in_the_end(platform):
    await set_hook(platform)
    platform.hook.answer = 503
    async with running(platform.deliverer):
        await end(platform)
        newest = await delivered(platform)
    [one] = newest.deliveries
    assert (one.state, one.tries, one.next) == ("given-up", 3, None)
    assert one.problem == "The webhook at 127.0.0.1 answers HTTP 503."
    keys = {headers["Idempotency-Key"] for _, headers, _, _ in platform.hook.requests}
    assert (len(platform.hook.requests), keys) == (3, {"cupola-job-1-1"})


@pytest.mark.asyncio
async def test_after_a_failure_it_waits_a_minute_and_longer(platform):
    await set_hook(platform)
    platform.hook.answer = 500
    slow = Deliverer(platform.store, platform.messenger)
    platform.store.wake = slow.wake
    async with running(slow):
        await end(platform)
        newest = await delivered(platform, states=["waiting"], tries=1)
    [one] = newest.deliveries
    assert one.state == "waiting"
    assert timedelta(seconds=50) < one.next - now() <= AGAIN[0]
    assert list(AGAIN[:3]) == [timedelta(minutes=minutes) for minutes in (1, 5, 30)]


@pytest.mark.asyncio
async def test_what_will_never_work_is_not_tried_again(platform):
    await set_hook(platform)
    platform.hook.answer = 410
    async with running(platform.deliverer):
        await end(platform)
        newest = await delivered(platform)
    assert (newest.deliveries[0].state, newest.deliveries[0].tries) == ("given-up", 1)


@pytest.mark.asyncio
async def test_a_server_that_hangs_holds_nobody_else_up(platform):
    held = asyncio.Event()
    platform.box.held = held
    await set_hook(platform, EVE)
    await platform.service.change(EVE, NotificationChange(mail=True))
    async with running(platform.deliverer):
        for number in range(4):
            await end(platform, f"job-{number}", owner="eve")
        await asyncio.to_thread(platform.hook.wait, 4)
        # One at a time of one person: the other three messages wait for the one that hangs.
        await platform.box.wait(1)
        await asyncio.sleep(0)
        assert len(platform.box.messages) == 1
        # What jobs do does not wait for it either.
        await end(platform, "job-of-ada")
        held.set()
        await platform.box.wait(4)


@pytest.mark.asyncio
async def test_what_was_under_way_when_all_ended_is_sent_again_by_the_next(platform):
    platform.box.held = asyncio.Event()
    await platform.service.change(EVE, NotificationChange(mail=True))
    async with running(platform.deliverer):
        await end(platform, owner="eve")
        await platform.box.wait(1)
    platform.box.held = None
    async with running(Deliverer(platform.store, platform.messenger, again=SHORT)):
        await delivered(platform, EVE)
    first, second = platform.box.messages
    assert first["message-id"] == second["message-id"]


@pytest.mark.asyncio
async def test_an_address_is_asked_before_it_is_used(platform):
    service = platform.service
    with pytest.raises(InputError, match="needs an address"):
        await service.change(ADA, NotificationChange(mail=True))
    await service.change(ADA, NotificationChange(mail=True, address="ada@example.org"))
    shown = await service.settings(ADA)
    assert (shown.address, shown.awaiting) == (None, "ada@example.org")
    said = platform.box.messages[0].get_body(["plain"]).get_content()
    token = re.search(r"notifications/confirm/(\S+)", said)[1]
    for person, wrong in ((EVE, token), (ADA, "x" + token), (ADA, "")):
        with pytest.raises(NotFoundError):
            await service.confirm(person, wrong)
    await service.confirm(ADA, token)
    shown = await service.settings(ADA)
    assert (shown.address, shown.awaiting, shown.from_sign_in) == ("ada@example.org", None, False)
    with pytest.raises(NotFoundError):
        await service.asked_address(ADA, token)
    with pytest.raises(InputError):
        await service.change(ADA, NotificationChange(address="nonsense"))


@pytest.mark.asyncio
async def test_the_address_of_the_sign_in_needs_no_question(platform):
    shown = await platform.service.change(EVE, NotificationChange(mail=True, address="eve@example.org"))
    assert (shown.address, shown.from_sign_in, shown.awaiting) == ("eve@example.org", True, None)
    assert platform.box.messages == []


@pytest.mark.asyncio
async def test_nobody_fills_somebody_elses_mailbox(platform):
    for _ in range(2):
        await platform.service.change(ADA, NotificationChange(address="victim@example.org"))
    with pytest.raises(LimitError):
        await platform.service.change(ADA, NotificationChange(address="Victim@example.org"))
    assert len(platform.box.messages) == 2


def test_an_allowance_comes_back():
    clock = SimpleNamespace(now=0.0)
    allowance = Allowance(2, 60, lambda: clock.now)
    assert [allowance.take("a") for _ in range(3)] == [True, True, False]
    assert allowance.take("b")
    clock.now = 61
    assert allowance.take("a")


@pytest.mark.asyncio
async def test_secrets_are_never_shown_again(platform, tmp_path, capsys):
    address = platform.hook.address + "/T0K3N"
    shown = await set_hook(platform, webhook_address=address, secret="5ecret")
    assert (shown.webhook_host, shown.signed) == ("127.0.0.1", True)
    platform.hook.answer = 500
    async with running(platform.deliverer):
        await end(platform)
        await delivered(platform)
    database = b"".join(file.read_bytes() for file in tmp_path.glob("portal.sqlite*"))
    told = (await platform.service.page(ADA)).model_dump_json() + shown.model_dump_json()
    said = "".join(capsys.readouterr())
    for secret in ("T0K3N", "5ecret"):
        assert secret.encode() not in database
        assert secret not in told + said
    # An empty field leaves them; the secret alone can go; without the webhook both are gone.
    await platform.service.change(ADA, NotificationChange(ends=Ends.FAILED))
    assert platform.messenger.hooks.read("ada").secret == "5ecret"
    shown = await platform.service.change(ADA, NotificationChange(secret=""))
    assert (shown.signed, shown.webhook) == (False, True)
    shown = await platform.service.change(ADA, NotificationChange(webhook_address="", secret=""))
    assert (shown.webhook, shown.webhook_host) == (False, None)
    assert platform.messenger.hooks.read("ada") is None
    with pytest.raises(InputError):
        await platform.service.change(ADA, NotificationChange(webhook=True))


@pytest.mark.asyncio
async def test_a_webhook_of_this_network_is_refused_when_it_is_set(platform):
    for address in ("https://169.254.169.254/latest", "https://[::1]/"):
        with pytest.raises(NotAllowedError):
            await platform.service.change(ADA, NotificationChange(webhook_address=address))
    assert (await platform.service.settings(ADA)).webhook_host is None


@pytest.mark.asyncio
async def test_a_test_goes_wherever_something_is_set(platform):
    with pytest.raises(InputError, match="nothing to test"):
        await platform.service.test(ADA)
    await set_hook(platform, EVE, webhook=False)
    sent = await platform.service.test(EVE)
    assert [(one.channel, one.problem) for one in sent] == [(Channel.MAIL, None), (Channel.WEBHOOK, None)]
    assert platform.hook.requests[0][3]["event"] == "test"
    platform.box.refuse = {"eve@example.org": "550 unknown"}
    assert "unknown" in (await platform.service.test(EVE))[0].problem
    for _ in range(8):
        await platform.service.test(EVE)
    with pytest.raises(LimitError):
        await platform.service.test(EVE)


@pytest.mark.asyncio
async def test_what_the_platform_does_not_do(platform):
    platform.messenger.mailer = platform.messenger.caller = None
    shown = await platform.service.settings(EVE)
    assert (shown.can_mail, shown.can_webhook) == (False, False)
    with pytest.raises(NotAllowedError, match="sends no mail"):
        await platform.service.change(ADA, NotificationChange(address="ada@example.org"))
    with pytest.raises(NotAllowedError, match="calls no webhooks"):
        await platform.service.change(ADA, NotificationChange(webhook_address="https://example.org/"))
    async with running(platform.deliverer):
        await end(platform, notify=True)
        newest = await delivered(platform, states=["waiting", "given-up"], tries=1)
    assert newest.deliveries[0].problem.startswith("No address is known")


@pytest.mark.asyncio
async def test_a_hub_that_is_away_hides_no_settings(platform):
    async def away(_person):
        raise UnavailableError("The hub does not answer.")

    service = NotificationService(store=platform.store, messenger=platform.messenger, sign_in_address=away)
    assert (await service.settings(EVE)).address is None


@pytest.mark.asyncio
async def test_reading_and_pages(platform):
    for number in range(5):
        await end(platform, f"job-{number}")
    first = await platform.service.page(ADA, limit=3)
    rest = await platform.service.page(ADA, cursor=first.next, limit=3)
    numbers = [one.id for one in first.items + rest.items]
    assert (sorted(numbers, reverse=True), len(set(numbers)), rest.next) == (numbers, 5, None)
    for wrong in ("x", "-1", "9" * 40):
        with pytest.raises(InputError):
            await platform.service.page(ADA, cursor=wrong)
    unread = await platform.service.unread(ADA)
    assert (unread.count, unread.newest) == (5, numbers[0])
    assert [one.id for one in await platform.service.since(ADA, numbers[2])] == numbers[:2]
    assert await platform.service.read(ADA, numbers[0]) == "jobs/job-4"
    assert [one.id for one in await platform.service.since(ADA, numbers[2])] == numbers[1:2]
    with pytest.raises(NotFoundError):
        await platform.service.read(EVE, numbers[0])
    await platform.service.read(ADA)
    assert (await platform.service.unread(ADA)).count == 0
    await platform.jobs.delete("job-4")
    assert (await platform.service.page(ADA)).items[0].gone
    assert not (await platform.service.page(ADA)).items[1].gone
    await platform.store.forget(now() + timedelta(days=1))
    assert (await platform.service.page(ADA)).items == []


@pytest.mark.asyncio
async def test_settings_that_nobody_understands_keep_no_job_from_ending(platform):
    await set_hook(platform)
    async with platform.database.writing() as connection:
        await connection.execute(text("UPDATE notification_settings SET ends = 'never'"))
    await end(platform)
    assert (await platform.service.page(ADA)).items[0].deliveries == []


@pytest.mark.asyncio
async def test_an_end_that_is_not_kept_is_told_to_nobody(platform):
    await platform.jobs.insert(StoredJob(job=job(), python="/bin/python"))
    broken = job(state=JobState.DONE).model_copy(update={"tasks": None})
    with pytest.raises(Exception, match="NOT NULL"):
        await platform.jobs.update("job-1", lambda old: old.model_copy(update={"job": broken}))
    assert (await platform.service.page(ADA)).items == []
