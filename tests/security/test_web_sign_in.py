"""Rows 30, 31 and 33 of the matrix on a real hub: redirects, lies of providers, guessing, overlong input."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from support.oidc import CLIENT, SECRET, OpenID
from support.redirects import REDIRECTS
from support.signin import Browser, Hub, problem

pytestmark = pytest.mark.system

PASSWORD = "a horse, a battery"
LONG = "n" * 100_000
LOG_PER_GUESS = 2048
"""In bytes."""
PLAIN = ["https://evil.example/", "//evil.example", "http://127.0.0.1.evil.example/"]


@pytest.fixture(scope="module")
def institute():
    provider = OpenID()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory, institute):
    folder = tmp_path_factory.mktemp("hub")
    (folder / "secret").write_text(SECRET)
    (folder / "people.txt").write_text("institute:edwin\ninstitute:lise\n")
    one = Hub(
        folder,
        "  allow_list: people.txt\n  methods:\n    - kind: local\n"
        f"    - kind: oidc\n      name: institute\n      client_id: {CLIENT}\n      client_secret_file: secret\n"
        f"      url: {institute.url}\n",
    )
    one.start()
    yield one
    one.stop()


@pytest.fixture
def edwin(hub, institute):
    institute.person = {"sub": "1001", "preferred_username": "edwin"}
    institute.bend = {}
    one = Browser(hub)
    yield one
    one.close()
    institute.bend = {}


def start(browser):
    return browser.get("/hub/sign-in/institute/start")


def test_without_a_lie_he_comes_in(edwin):
    start(edwin)
    assert edwin.name == "edwin"


LATER, EARLIER = int(time.time()) + 9000, int(time.time()) - 9000


def called(bend):
    """Return a short name for a lie, the same in each run."""
    words = {str(LATER): "later", str(EARLIER): "earlier"}
    what, said = next(iter(bend.items()))
    if not isinstance(said, dict):
        return f"{what}: another" if what == "key" else what
    return f"{what}: " + ", ".join(
        f"{name} {words.get(str(value), str(value)[:24])!r}" for name, value in said.items()
    )


@pytest.mark.parametrize(
    "bend",
    [
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"iss": None}},
        {"claims": {"aud": "another-platform"}},
        {"claims": {"aud": None}},
        {"claims": {"aud": [CLIENT, "another"], "azp": "another"}},
        {"claims": {"exp": EARLIER}},
        {"claims": {"exp": None}},
        {"claims": {"iat": LATER}},
        {"claims": {"iat": None}},
        {"claims": {"nonce": None}},
        {"claims": {"nonce": "of another sign-in"}},
        {"claims": {"nonce": 7}},
        {"claims": {"sub": None}},
        {"claims": {"sub": "x" * 300}},
        {"claims": {"sub": 1001}},
        {"userinfo": {"sub": "somebody-else"}},
        {"userinfo": {"preferred_username": "edwin\n"}},
        {"userinfo": {"preferred_username": "e" * 1_000_000}},
        {"userinfo": {"preferred_username": None}},
        {"userinfo": {"preferred_username": ["edwin"]}},
        {"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
        {"unsigned": True},
        {"symmetric": True},
        {"state": "somebody-elses-state"},
        {"answer": {"iss": "https://evil.example"}},
        {"answer": {"error": "access_denied"}},
    ],
    ids=called,
)
@pytest.mark.row(31)
def test_a_provider_that_lies_lets_nobody_in(edwin, institute, bend, matrix, weak_hub):
    with weak_hub.browser() as somebody:
        weak_hub.institute.bend = bend
        start(somebody)
        red = somebody.name is not None
    assert red, "a hub that checks nothing believes this"
    institute.bend = bend
    refused = start(edwin)
    believed = int(edwin.name is not None)
    matrix(f"lies of a provider that were believed ({called(bend)})", believed, limit=0, seen_red=red)
    assert refused.status_code in {401, 403}
    assert problem(refused).endswith((".", "administrator.", "again."))
    assert "Traceback" not in refused.text


def test_a_code_and_its_state_work_once_and_in_the_browser_that_began(hub, edwin):
    began = edwin.http.get(f"{hub.address}/hub/sign-in/institute/start")
    back = edwin.http.get(began.headers["location"]).headers["location"]
    # A thief who read the address has neither the cookie nor the proof key.
    thief = Browser(hub)
    assert "not begun in this browser" in problem(thief.get(back))
    assert thief.name is None
    assert edwin.http.get(back).status_code == 302
    assert edwin.name == "edwin"
    other = Browser(hub)
    other.http.cookies.update(edwin.http.cookies)
    edwin.get("/hub/logout")
    assert "not begun in this browser" in problem(edwin.get(back))
    assert edwin.name is None
    other.close()
    thief.close()


def test_a_code_that_was_used_elsewhere_is_refused(hub, institute, edwin):
    began = edwin.http.get(f"{hub.address}/hub/sign-in/institute/start")
    back = edwin.http.get(began.headers["location"]).headers["location"]
    institute.codes.clear()
    refused = edwin.get(back)
    assert "did not confirm" in problem(refused)
    # No code stays in the address that people see, copy and send on.
    assert str(refused.url) == f"{hub.address}/hub/login"
    assert edwin.name is None


def test_a_code_put_under_another_browsers_state_fails_at_the_proof_key(hub, institute, edwin):
    """Whoever smuggles their own code into somebody's sign-in fails, because the keys differ."""
    institute.person = {"sub": "1002", "preferred_username": "lise"}
    attacker = Browser(hub)
    location = attacker.http.get(f"{hub.address}/hub/sign-in/institute/start").headers["location"]
    theirs = attacker.http.get(location).headers["location"]
    code = parse_qs(urlsplit(theirs).query)["code"][0]
    institute.person = {"sub": "1001", "preferred_username": "edwin"}
    location = edwin.http.get(f"{hub.address}/hub/sign-in/institute/start").headers["location"]
    state = parse_qs(urlsplit(location).query)["state"][0]
    refused = edwin.get(f"/hub/sign-in/institute/callback?code={code}&state={state}")
    assert "did not confirm" in problem(refused)
    assert refused.status_code == 403
    assert edwin.name is None
    attacker.close()


def test_a_token_in_an_address_signs_nobody_in(hub):
    owner = Browser(hub)
    owner.open_link("ada")
    token = {"token": "x" * 40, "access_token": "x" * 40}
    stranger = Browser(hub)
    for place in ("/hub/home", "/hub/login", "/hub/api/user"):
        assert (
            stranger.http.get(hub.address + place, params=token).status_code != 200 or place == "/hub/login"
        )
    assert stranger.name is None
    owner.close()
    stranger.close()


def test_another_issuer_in_its_own_description_is_refused(tmp_path):
    provider = OpenID()
    provider.bend = {"metadata": {"issuer": "https://evil.example"}}
    (tmp_path / "secret").write_text(SECRET)
    one = Hub(
        tmp_path / "hub",
        f"  methods:\n    - kind: oidc\n      client_id: {CLIENT}\n      client_secret_file: ../secret\n"
        f"      url: {provider.url}\n",
    )
    try:
        one.start()
        browser = Browser(one)
        assert "calls itself another name" in problem(browser.get("/hub/sign-in/oidc/start"))
        provider.bend = {"metadata": {"token_endpoint": "http://192.0.2.1/token"}}
        assert "without encryption" in problem(browser.get("/hub/sign-in/oidc/start"))
        provider.bend = {}
        assert "You are" in problem(browser.get("/hub/sign-in/oidc/start")) or browser.seen
        browser.close()
    finally:
        one.stop()
        provider.close()


def redirected(hub, browser, way, wanted):
    """Return the answer that sends `browser` on after signing in, when it wants to go to `wanted`."""
    if way == "provider":
        began = browser.http.get(f"{hub.address}/hub/sign-in/institute/start", params={"next": wanted})
        answer = browser.http.get(began.headers["location"])
        return browser.http.get(answer.headers["location"])
    if way == "signed in":
        return browser.http.get(f"{hub.address}/hub/login", params={"next": wanted})
    page = browser.http.get(hub.link("ada"))
    token = urlsplit(str(page.url)).query.removeprefix("token=")
    xsrf = next(cookie.value for cookie in browser.http.cookies.jar if cookie.name == "_xsrf")
    return browser.http.post(
        f"{hub.address}/hub/sign-in", params={"next": wanted}, data={"token": token, "_xsrf": xsrf}
    )


def leads_away(hub, answer):
    """Tell whether a browser would leave this address, or might."""
    place = answer.headers.get("location", "")
    if not place.startswith("/") or place.startswith(("//", "/\\")):
        return True
    return httpx.URL(str(answer.url)).join(place).netloc != httpx.URL(hub.address).netloc


STEPS = {"link": 8, "provider": 2, "signed in": 1}
"""Signing in anew for each address takes its time: every eighth of them, every second, each."""


@pytest.mark.row(30)
@pytest.mark.parametrize("way", STEPS)
def test_no_next_leads_away(hub, edwin, way, matrix, weak_hub):
    """Row 30: whatever stands in ``next``, the browser stays on this address."""
    crafted = REDIRECTS[:: STEPS[way]]
    with weak_hub.browser() as somebody:
        if way == "signed in":
            start(somebody)
        red = sum(leads_away(weak_hub.hub, redirected(weak_hub.hub, somebody, way, each)) for each in PLAIN)
    assert red == len(PLAIN), "where nobody looks at it, they all lead away"
    if way == "signed in":
        start(edwin)
    away = []
    for wanted in crafted:
        answer = redirected(hub, edwin, way, wanted)
        assert answer.status_code == 302, wanted
        away += [wanted] if leads_away(hub, answer) else []
    assert not away, away
    matrix(f"of {len(crafted)} crafted addresses, led away ({way})", len(away), limit=0, seen_red=red > 0)


def guesses(hub, browser):
    """Guess twelve times, then under a very long name; return what came back and the bytes of log per guess."""
    page = browser.get("/hub/login")
    size = len(hub.log)
    answers = [
        browser.send(page, username="victim", password=f"guess number {number}") for number in range(12)
    ]
    long = browser.send(page, username=LONG, password=PASSWORD)
    return answers, long, (len(hub.log) - size) / len([*answers, long])


@pytest.mark.row(33)
def test_guessing_is_slowed_down_and_the_hub_lives(hub, matrix, weak_hub):
    """Row 33: a password spray."""
    with weak_hub.browser() as somebody:
        weak_hub.hub.users("add", "victim")
        unlimited, _, flood = guesses(weak_hub.hub, somebody)
    wrong = sum("are wrong" in problem(answer) for answer in unlimited)
    assert wrong == len(unlimited), "nothing slows them down there"
    assert flood > LOG_PER_GUESS
    hub.users("add", "victim")
    one = Browser(hub)
    answers, long, logged = guesses(hub, one)
    said = [problem(answer) for answer in answers]
    matrix(
        "guesses before a wait",
        sum("are wrong" in sentence for sentence in said),
        limit=5,
        seen_red=wrong > 5,
    )
    assert all("too many tries" in sentence for sentence in said[5:])
    assert answers[-1].status_code == 429
    assert long.status_code in {403, 413}
    matrix("bytes of log per guess", logged, limit=LOG_PER_GUESS, seen_red=flood > LOG_PER_GUESS)
    page = one.get("/hub/login")
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(one.http.post, page.url, data={"username": f"n{n}"}) for n in range(40)]
        assert httpx.get(f"{hub.address}/hub/health", timeout=5).status_code == 200
        for each in tries:
            each.result()
    one.close()


def test_input_without_end_is_refused_at_its_beginning(hub):
    """Row 33: a name of a megabyte, and one that never says how long it is."""
    address = (urlsplit(hub.address).hostname, urlsplit(hub.address).port)
    for head in ("Content-Length: 1048576", "Transfer-Encoding: chunked"):
        for path in ("/hub/sign-in/local", "/hub/sign-up", "/hub/sign-in", "/hub/password"):
            sent = 0
            with socket.create_connection(address, timeout=20) as line:
                line.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                    f"{head}\r\n\r\n".encode()
                )
                with contextlib.suppress(OSError):
                    for _ in range(256):
                        piece = b"a" * 4096
                        line.sendall(b"1000\r\n" + piece + b"\r\n" if "chunked" in head else piece)
                        sent += len(piece)
                        time.sleep(0.002)
                        line.settimeout(0.001)
                        with contextlib.suppress(TimeoutError):
                            if line.recv(1000):
                                break
                        line.settimeout(20)
            assert sent < 1_000_000, (path, head)
    assert httpx.get(f"{hub.address}/hub/health", timeout=5).status_code == 200
    long = "n" * 5000
    one = Browser(hub)
    size = len(hub.log)
    answer = one.send(one.get("/hub/login"), username=long, password=PASSWORD)
    assert answer.status_code == 403
    assert long not in hub.log[size:]
    one.close()


def test_a_form_of_another_site_is_refused(hub):
    one = Browser(hub)
    form = one.get("/hub/login")
    answer = one.http.post(f"{hub.address}/hub/sign-in/local", data={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 403
    assert "load it again" in answer.text
    foreign = one.http.post(
        f"{hub.address}/hub/sign-up",
        data={"_xsrf": "x" * 40, "username": "eve", "password": PASSWORD, "again": PASSWORD},
    )
    assert foreign.status_code == 403
    assert form.status_code == 200
    one.close()


def test_the_stand_in_provider_is_no_pushover(institute):
    """What the tests above rely on: it refuses a code without its proof key."""
    code = {"code": "none", "client_secret": SECRET, "code_verifier": "x"}
    assert httpx.post(f"{institute.url}/token", data=code).status_code == 400
    assert jwt.algorithms.has_crypto
