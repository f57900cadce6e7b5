"""Made-up notifications, in each state that the pages can show."""

from __future__ import annotations

from datetime import timedelta

from cupola.exceptions import NotFoundError
from cupola.models.base import Page, now
from cupola.models.notification import (
    Delivery,
    JobEnd,
    Notification,
    NotificationSettings,
    Sent,
    SessionNotice,
    SessionNotification,
    Unread,
)

START = now()


def notification(number, name, state, **more):
    ended = START - timedelta(hours=30 - 5 * number)
    told = {key: more.pop(key) for key in ("read", "gone") if key in more}
    sent = more.pop("sent", ())
    about = {"inputs": 200, "done": 200, "failed": 0, "engine": "local"} | more
    times = {"created": ended - timedelta(minutes=42), "ended": ended}
    end = JobEnd(job=f"job-made-up-{number}", name=name, state=state, **about, **times)
    return Notification(
        id=number,
        created=ended,
        title=end.title,
        end=end,
        deliveries=[Delivery(**one) for one in sent],
        **told,
    )


def notifications():
    mail = {"channel": "mail", "state": "sent", "tries": 1, "sent": START}
    silent = "The webhook at hooks.example.org took longer than 15 s."
    return [
        notification(5, "ndvi of the whole archive", "partly-failed", done=197, failed=3),
        notification(4, "mosaic", "done", sent=[mail, {"channel": "webhook"}]),
        notification(
            3,
            "<script>craters</script>",
            "failed",
            done=0,
            failed=0,
            reason="No space is left on the disk of the home: free some and retry.",
            sent=[
                {"channel": "webhook", "tries": 2, "next": START + timedelta(minutes=4), "problem": silent}
            ],
        ),
        notification(
            2,
            "spectra",
            "done",
            read=True,
            gone=True,
            sent=[
                {
                    "channel": "mail",
                    "state": "given-up",
                    "tries": 1,
                    "problem": "The mail server smtp.example.org does not take mail for ada@example.org (unknown user).",
                }
            ],
        ),
        notification(1, "first light", "cancelled", read=True, done=12),
    ]


def of_sessions():
    notice = {"session": "crater-hunt", "kind": "hibernate"}
    return [
        SessionNotification(
            id=7,
            created=START - timedelta(minutes=4),
            about=SessionNotice(
                title="crater hunt is hibernated",
                text="Nothing ran for 12 hours. Files, outputs and variables are kept; wake it to go on.",
                hibernated=True,
                **notice,
            ),
        ),
        SessionNotification(
            id=6,
            created=START - timedelta(minutes=34),
            read=True,
            about=SessionNotice(
                title="crater hunt hibernates in 30 minutes",
                text="Nothing runs in it. Work in it, or keep it alive on its page.",
                **notice,
            ),
        ),
    ]


class Notifications:
    def __init__(self):
        self.asked = []
        self.problem = None
        self.all = notifications()
        self.shown = NotificationSettings(
            mail=True,
            address="ada@example.org",
            from_sign_in=True,
            webhook=True,
            webhook_host="hooks.example.org",
            signed=True,
            can_mail=True,
            can_webhook=True,
        )

    async def page(self, _person, *, cursor=None, limit=50):
        return Page(items=self.all[:limit], next=None if cursor else "1")

    async def everything(self, _person, *, cursor=None):
        return Page(items=of_sessions() + self.all, next=None if cursor else "1")

    async def unread(self, _person):
        return Unread(count=sum(not one.read for one in self.all), newest=max(one.id for one in self.all))

    async def since(self, _person, number):
        return [one for one in self.all if one.id > number and not one.read][:3]

    async def read(self, _person, number=None):
        self.asked.append(("read", number))
        if number is not None and number > len(self.all):
            raise NotFoundError(f"You have no notification {number}: it may be older than 90 days.")
        return None if number is None else "job-7k2m9xq4aa"

    async def settings(self, _person):
        return self.shown

    async def change(self, _person, change):
        self.asked.append(("change", change))
        if self.problem:
            raise self.problem
        return self.shown

    async def test(self, _person):
        return [
            Sent(channel="mail"),
            Sent(channel="webhook", problem="The webhook at hooks.example.org answers HTTP 404."),
        ]

    async def asked_address(self, _person, token):
        if token != "right":
            raise NotFoundError("This link has ended, or is for somebody else.")
        return "ada@elsewhere.example"

    async def confirm(self, _person, token):
        self.asked.append(("confirm", token))
