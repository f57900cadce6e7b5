from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.platform.handlers.signin import safe_next
from support.fake_hub import PREFIX

PAGE = {"Accept": "text/html,application/xhtml+xml"}


async def begin(portal, path="api/me"):
    answer = await portal.get(path, headers=PAGE)
    assert answer.status_code == 302
    return {
        key: values[0] for key, values in parse_qs(urlsplit(answer.headers["location"]).query).items()
    }, answer


async def sign_in(portal, hub, *, path="api/me", person="maria"):
    query, _ = await begin(portal, path)
    hub.codes["a-code"] = f"token-of-{person}"
    return await portal.get(
        "oauth_callback", params={"code": "a-code", "state": query["state"]}, headers=PAGE
    )


@pytest.mark.asyncio
async def test_a_browser_signs_in_with_pkce_and_comes_back_to_its_page(open_portal, hub):
    async with open_portal() as portal:
        query, answer = await begin(portal, "api/sessions?limit=7")
        assert answer.headers["location"].startswith("/hub/api/oauth2/authorize?")
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] == PREFIX + "oauth_callback"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert f"Path={PREFIX}" in cookie
        name, _, value = cookie.partition(";")[0].partition("=")
        _, verifier, _ = json.loads(base64.urlsafe_b64decode(value))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        assert query["code_challenge"] == challenge

        hub.codes["a-code"] = "token-of-maria"
        back = await portal.get(
            "oauth_callback", params={"code": "a-code", "state": query["state"]}, headers=PAGE
        )
        assert back.status_code == 302
        assert back.headers["location"] == PREFIX + "api/sessions?limit=7"
        login = next(c for c in back.headers.get_list("set-cookie") if c.startswith("service-cupola="))
        assert "HttpOnly" in login
        assert "Secure" not in login
        assert name not in portal.cookies
        assert (await portal.get("api/me")).json()["name"] == "maria"


@pytest.mark.asyncio
async def test_cookies_are_secure_on_https(open_portal, hub):
    async with open_portal() as portal:
        portal.base_url = "https://cupola.test" + PREFIX
        back = await sign_in(portal, hub)
        for cookie in back.headers.get_list("set-cookie"):
            assert "Secure" in cookie or "Max-Age=0" in cookie


@pytest.mark.asyncio
async def test_a_sign_in_that_another_browser_began_is_refused(open_portal, hub):
    async with open_portal() as victim, open_portal() as attacker:
        query, _ = await begin(attacker)
        hub.codes["a-code"] = "token-of-paul"
        answer = await victim.get(
            "oauth_callback", params={"code": "a-code", "state": query["state"]}, headers=PAGE
        )
        assert answer.status_code == 401
        assert "not begun in this browser" in answer.text
        assert "service-cupola" not in victim.cookies
        assert hub.codes == {"a-code": "token-of-paul"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "params", [{}, {"code": "x"}, {"state": "x"}, {"code": "x", "state": "../../../x;="}]
)
async def test_a_broken_way_back_is_refused_without_going_round(open_portal, params):
    async with open_portal() as portal:
        answer = await portal.get("oauth_callback", params=params, headers=PAGE)
        assert answer.status_code == 401


@pytest.mark.asyncio
async def test_two_tabs_sign_in_at_once(open_portal, hub):
    async with open_portal() as portal:
        first, _ = await begin(portal, "api/me")
        second, _ = await begin(portal, "api/volumes")
        for number, query in enumerate((first, second)):
            hub.codes[f"code-{number}"] = "token-of-maria"
            back = await portal.get(
                "oauth_callback", params={"code": f"code-{number}", "state": query["state"]}
            )
            assert back.status_code == 302


@pytest.mark.asyncio
async def test_begun_sign_ins_do_not_pile_up(open_portal):
    async with open_portal() as portal:
        for _ in range(20):
            await begin(portal)
        assert len(portal.cookies) <= 9


@pytest.mark.asyncio
async def test_signing_out_forgets_the_token(open_portal, hub):
    async with open_portal() as portal:
        await sign_in(portal, hub)
        csrf = portal.cookies["cupola-csrf"]
        del hub.tokens["token-of-maria"]
        answer = await portal.post("logout", data={"_csrf": csrf})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/hub/logout"
        assert "service-cupola" not in portal.cookies
        old = {"Authorization": "token token-of-maria"}
        assert (await portal.get("api/me", headers=old)).status_code == 401


@pytest.mark.asyncio
async def test_htmx_is_told_to_load_the_page_anew(open_portal):
    async with open_portal() as portal:
        answer = await portal.get("api/me", headers={**PAGE, "HX-Request": "true"})
        assert answer.status_code == 401
        assert answer.headers["hx-refresh"] == "true"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-CSRF-Token": "wrong"}, 403),
        ({"X-CSRF-Token": "*"}, 404),
        ({"X-CSRF-Token": "*", "Origin": "http://cupola.test", "Sec-Fetch-Site": "same-origin"}, 404),
        ({"X-CSRF-Token": "*", "Origin": "http://evil.test"}, 403),
        ({"X-CSRF-Token": "*", "Origin": "null"}, 403),
        ({"X-CSRF-Token": "*", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-CSRF-Token": "*", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-CSRF-Token": "*", "Sec-Fetch-Site": "none"}, 403),
        ({"Authorization": "token token-of-maria", "Origin": "http://evil.test"}, 404),
    ],
)
async def test_only_our_own_pages_change_something_with_a_cookie(open_portal, hub, headers, status):
    async with open_portal() as portal:
        await sign_in(portal, hub)
        csrf = portal.cookies["cupola-csrf"]
        sent = {key: value.replace("*", csrf) for key, value in headers.items()}
        assert (await portal.post("api/sessions/none/stop", headers=sent)).status_code == status


@pytest.mark.asyncio
async def test_the_token_of_one_person_is_of_no_use_with_the_cookie_of_another(open_portal, hub):
    async with open_portal() as portal:
        await sign_in(portal, hub)
        of_maria = portal.cookies["cupola-csrf"]
        portal.cookies.clear()
        await sign_in(portal, hub, person="paul")
        answer = await portal.post("api/sessions/none/stop", headers={"X-CSRF-Token": of_maria})
        assert answer.status_code == 403


@given(
    st.text(max_size=60)
    | st.sampled_from(["//evil.test", PREFIX + "/../../evil", "https://evil.test", "\\\\evil"])
)
def test_the_next_page_is_always_ours(path):
    for tried in (path, PREFIX + path):
        chosen = safe_next(tried, PREFIX)
        assert chosen.startswith(PREFIX)
        assert ".." not in chosen
        assert "//" not in chosen
        assert "\\" not in chosen
        assert chosen.isprintable()


@pytest.mark.asyncio
async def test_a_state_that_only_begins_like_ours_is_refused(open_portal, hub):
    async with open_portal() as portal:
        query, _ = await begin(portal)
        hub.codes["a-code"] = "token-of-paul"
        forged = query["state"][:8] + "x" * 14
        answer = await portal.get("oauth_callback", params={"code": "a-code", "state": forged}, headers=PAGE)
        assert answer.status_code == 401
        assert "service-cupola" not in portal.cookies
