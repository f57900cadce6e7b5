"""The pages over the real services, with a hub in memory."""

from __future__ import annotations

import re

import pytest

from cupola.platform.handlers.forgery import FIELD

HTML = {"Accept": "text/html"}
MARIA = {"service-cupola": "token-of-maria"}


def fields(form):
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


def form_to(page, action):
    return next(
        form for form in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'action="{action}"' in form
    )


@pytest.mark.asyncio
async def test_from_play_to_stop_by_the_forms_of_the_pages(open_portal):
    async with open_portal() as portal:
        portal.headers.update(HTML)
        portal.cookies.update(MARIA)
        play = fields(form_to((await portal.get("")).text, "/services/cupola/sessions"))
        answers = [await portal.post("sessions", data=play) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 303]
        # The second click is the same wish.
        [where] = {answer.headers["location"] for answer in answers}
        session = where.split("/")[-2]
        page = await portal.get(f"sessions/{session}/starting")
        assert page.status_code in {200, 303}
        stop = f"/services/cupola/sessions/{session}/stop"
        form = fields(form_to((await portal.get("sessions")).text, stop))
        assert (await portal.post(f"sessions/{session}/stop", data=form)).status_code == 303


@pytest.mark.asyncio
async def test_a_form_without_the_token_changes_nothing_and_says_so_on_a_page(open_portal):
    async with open_portal() as portal:
        portal.headers.update(HTML)
        portal.cookies.update(MARIA)
        play = fields(form_to((await portal.get("")).text, "/services/cupola/sessions"))
        del play[FIELD]
        answer = await portal.post("sessions", data=play)
        assert answer.status_code == 403
        assert "load it again" in answer.text
        assert "css/tokens.css" in answer.text
        assert "Nothing is running" in (await portal.get("sessions")).text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["data", "jobs", "design", "datalabs/lab"])
async def test_every_page_stands_on_the_real_services(open_portal, path):
    async with open_portal() as portal:
        portal.headers.update(HTML)
        portal.cookies.update(MARIA)
        assert (await portal.get(path)).status_code == 200
