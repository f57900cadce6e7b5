"""Rows 8 and 25 of the matrix of trust: what may be launched, whoever asks and however often."""

from __future__ import annotations

import asyncio
import json
import random
import secrets

import pytest

from cupola.models.session import LaunchRequest
from cupola.platform.handlers import dependencies
from cupola.platform.handlers.forgery import FIELD
from cupola.platform.handlers.pages.forms import LaunchForm
from cupola.platform.services.sessions import hub as sessionhub
from cupola.platform.services.sessions import launches

pytestmark = pytest.mark.asyncio

LAB = {"datalab": "lab"}
HTML = {"Accept": "text/html"}
IMAGES = ["debian:bookworm", "sha256:" + "0" * 64, "lab:latest", "../../etc", "", " ", "a1" * 32, "x" * 300]
KEYS = [
    *(
        "image",
        "cmd",
        "command",
        "args",
        "mounts",
        "binds",
        "privileged",
        "cap_add",
        "user",
        "uid",
        "network",
    ),
    *(
        "user_options",
        "opt-image",
        "profile",
        "container",
        "process",
        "plan",
        "host_config",
        "devices",
        "pid_mode",
    ),
    *(
        "owner",
        "id",
        "state",
        "url",
        "spawner",
        "__proto__",
        "resources.cores",
        "environment[PATH]",
        "ready_path",
    ),
]
NAMES = [
    *("PATH", "LD_PRELOAD", "LD_X", "PYTHONPATH", "PYTHON", "JUPYTERHUB_API_TOKEN", "CUPOLA_API_URL", "HOME"),
    *("1A", "A B", "A=B", "A\0", "", "Ä", "JPY_X"),
]
TOO_MUCH = [
    *(65.0, 1e9, -1, 0, 1e-9, float("nan"), float("inf"), "sixteen", None, [], {"a": 1}),
]


def hostile(dice):
    """Return a launch that must be refused."""
    kind = dice.randrange(6)
    if kind == 0:
        return LAB | {dice.choice(KEYS): dice.choice(["x", 1, True, {"a": "b"}, ["c"]])}
    if kind == 1:
        return LAB | {"version": dice.choice([image for image in IMAGES if image])}
    if kind == 2:
        size = {"cores": 1, "memory_mib": 512, "gpus": 0}
        what = dice.choice(list(size))
        bad = [amount for amount in TOO_MUCH if not (what == "gpus" and amount == 0)]
        return LAB | {"resources": size | {what: dice.choice(bad)}}
    if kind == 3:
        size = {"cores": 1, "memory_mib": 512, dice.choice(KEYS): 1}
        return LAB | {"resources": size}
    if kind == 4:
        return LAB | {"environment": {"FINE": "1", dice.choice(NAMES): "x"}}
    return {"datalab": dice.choice(["../lab", "LAB", "lab;id", "other", "lab\n", *IMAGES])}


async def count(portal, headers):
    return len((await portal.get("api/sessions", headers=headers)).json()["items"])


async def shots(portal, headers, number, seed=25):
    """Return how many of so many hostile launches were accepted, through the API and through the forms."""
    dice, accepted = random.Random(seed), 0  # noqa: S311 - the same ones each time
    for shot in range(number):
        wish = hostile(dice)
        if shot % 2:
            answer = await portal.post("api/sessions", headers=headers, content=json.dumps(wish))
        else:
            answer = await portal.post("sessions", data=form_of(wish), headers={**headers, **HTML})
        accepted += not answer.is_client_error
        assert answer.status_code < 500, (wish, answer.text)
    return accepted


def form_of(wish):
    """Return the same wish as one of our forms would say it, with what it has beside."""
    form = {"datalab": wish["datalab"], "chosen": "true", "key": secrets.token_hex(8)}
    for name, value in wish.items():
        if name == "environment":
            form |= {"env_name": list(value), "env_value": list(value.values())}
        elif name == "resources":
            form |= {what: json.dumps(amount).strip('"') for what, amount in value.items()}
        elif name != "datalab":
            form[name] = value if isinstance(value, str) else json.dumps(value)
    return form


@pytest.mark.row(25)
async def test_nothing_outside_of_catalogue_and_profile_is_launched(
    open_portal, hub, maria, matrix, monkeypatch
):
    async with open_portal() as portal:
        accepted = await shots(portal, maria, 120)
        assert await count(portal, maria) == accepted
        red = await with_defences_off(portal, maria, monkeypatch)
        matrix(
            "launches accepted of 120 outside of catalogue and profile", accepted, limit=0, seen_red=red > 0
        )
        assert red > 0
        assert hub.log  # whatever reached the hub had no options: the fake hub asserts that


async def with_defences_off(portal, headers, monkeypatch):
    """Return how many of the same launches are accepted when unknown keys and reserved variables are let through."""
    with monkeypatch.context() as weak:
        weak.setattr(launches, "check_variables", lambda _: None)
        weak.setattr(launches, "check_profile", lambda *_: None)
        for model in (LaunchRequest, LaunchForm):
            weak.setitem(model.model_config, "extra", "ignore")
            model.model_rebuild(force=True)
        accepted = await shots(portal, headers, 24)
    for model in (LaunchRequest, LaunchForm):
        model.model_rebuild(force=True)
    return accepted


QUERIES = [
    "datalab=lab&cores=64&memory_mib=99999999&gpus=8&image=debian",
    "datalab=lab&cores=nan&memory_mib=inf&gpus=-1",
    "datalab=lab&volumes=../../etc,home,nothing&env=PATH&env=LD_PRELOAD&clean=maybe",
    "datalab=lab&version=debian:latest&opt-image=debian",
    "datalab=lab&title=%3Cscript%3Ealert(1)%3C/script%3E&key=x&chosen=true",
    "datalab=..%2Flab",
    "product=sha256:0",
    "product=%00&made=yesterday",
    "session=..%2F..%2Fadmin",
    "",
]


@pytest.mark.row(25)
async def test_opening_a_link_launches_nothing_whatever_it_says(open_portal, hub, maria, matrix):
    async with open_portal() as portal:
        portal.cookies.update({"service-cupola": "token-of-maria"})
        for query in QUERIES:
            answer = await portal.get(f"launch?{query}", headers=HTML)
            assert answer.status_code in {200, 404, 422}, query
            assert "<script>alert" not in answer.text
        launched = await count(portal, maria) + len(hub.calls("POST", "/servers/"))
        matrix(f"sessions launched by opening {len(QUERIES)} links", launched, limit=0)


async def forms_taken(portal, headers):
    """Return how many forms of a launch are taken that do not carry the token of the page."""
    before = await count(portal, headers)
    portal.cookies.update({"service-cupola": "token-of-maria"})
    answers = [
        await portal.post(path, data=LAB | token, headers=HTML)
        for path in ("sessions", "launch")
        for token in ({}, {FIELD: "x"}, {FIELD: "0" * 64})
    ]
    portal.cookies.clear()
    return sum(answer.status_code != 403 for answer in answers) + await count(portal, headers) - before


@pytest.mark.row(25)
async def test_a_forms_launch_needs_the_token_of_the_page(open_portal, maria, matrix, monkeypatch):
    async def believed(*_):
        pass

    async with open_portal() as portal:
        taken = await forms_taken(portal, maria)
        with monkeypatch.context() as weak:
            weak.setattr(dependencies, "check_same_site", believed)
            red = await forms_taken(portal, maria)
        assert red > 0
        matrix("forms without their token that were taken", taken, limit=0, seen_red=red > 0)


@pytest.mark.row(8)
async def test_a_hundred_launches_stops_and_restarts_at_once_make_no_second_server(
    open_portal, hub, maria, matrix, monkeypatch
):
    monkeypatch.setattr(sessionhub, "_AGAIN_S", 0.01)

    async def ready(portal, session):
        async with asyncio.timeout(60):
            while (  # noqa: ASYNC110 - the portal is asked as a script does it
                await portal.get(f"api/sessions/{session}", headers=maria)
            ).json()["state"] != "ready":
                await asyncio.sleep(0.02)

    async def at_once(path, **options):
        return await asyncio.gather(*(portal.post(path, headers=maria, **options) for _ in range(100)))

    async with open_portal() as portal:
        key = {**maria, "Idempotency-Key": "one-wish"}
        answers = await asyncio.gather(
            *(portal.post("api/sessions", headers=key, json=LAB) for _ in range(100))
        )
        [first] = {answer.json()["id"] for answer in answers}
        await ready(portal, first)
        restarted = [a for a in await at_once(f"api/sessions/{first}/restart") if a.status_code == 202]
        [second] = {answer.json()["id"] for answer in restarted}
        await ready(portal, second)
        double = len(hub.users["maria"].servers) - 1 + len(hub.calls("POST", "/servers/")) - 2
        stopped = await at_once(f"api/sessions/{second}/stop")
        assert {answer.status_code for answer in stopped} == {202}
        matrix("servers beyond the one that was wished", double, limit=0)
