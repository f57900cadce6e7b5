"""People sign in and are thrown out again: a real hub with our sign-in, real cookies, providers on loopback."""

from __future__ import annotations

import time

import httpx
import pytest

from cupola.hub.signin.names import is_name
from support.everywhere import Everywhere, hub_token, sign_in
from support.oidc import CLIENT, SECRET, GitHub, GitLab, OpenID, provider_mock
from support.signin import Browser, Hub, forms, problem, wait_until

pytestmark = pytest.mark.system

PASSWORD = "a horse, a battery"


@pytest.fixture(scope="module")
def providers():
    found = {"github": GitHub(), "gitlab": GitLab(), "institute": OpenID()}
    yield found
    for provider in found.values():
        provider.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory, providers):
    folder = tmp_path_factory.mktemp("hub")
    (folder / "secret").write_text(SECRET + "\n")
    (folder / "people.txt").write_text("# nobody but\ninstitute:edwin\ngithub:lead admin\n")
    remote = f"      client_id: {CLIENT}\n      client_secret_file: secret\n"
    one = Hub(
        folder,
        "  contact: it@example.org\n  allow_list: people.txt\n  methods:\n"
        "    - kind: local\n"
        f"    - kind: github\n{remote}      url: {providers['github'].url}\n      organisations: [esa, 'esa:hera']\n"
        f"    - kind: gitlab\n{remote}      url: {providers['gitlab'].url}\n      groups: [planets/mars]\n"
        "      projects: [4711]\n"
        f"    - kind: oidc\n      name: institute\n      title: The Institute\n{remote}"
        f"      url: {providers['institute'].url}\n      groups: [staff]\n      admin_groups: [chiefs]\n"
        "      groups_claim: realm.roles\n      mail_domains: [example.org]\n",
    )
    one.start()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def _straight(providers):
    """Each test begins with providers that do not lie."""
    yield
    for provider in providers.values():
        provider.bend = {}


@pytest.fixture
def browser(hub):
    made = []

    def make():
        made.append(Browser(hub))
        return made[-1]

    yield make
    for one in made:
        one.close()


def strike(hub, line):
    file = hub.folder / "people.txt"
    file.write_text(file.read_text().replace(f"{line}\n", ""))


def write(hub, line):
    file = hub.folder / "people.txt"
    file.write_text(file.read_text() + f"{line}\n")


def standing(hub, name):
    people = hub.as_portal("GET", "/cupola/people").json()["people"]
    return next((person["standing"] for person in people if person["name"] == name), None)


def test_all_methods_stand_on_one_page(browser):
    page = browser().get("/hub/login?next=/hub/token")
    assert page.status_code == 200
    for name in ("GitHub", "gitlab", "The Institute", "Ask for one", "it@example.org"):
        assert name.lower() in page.text.lower()
    assert 'href="/hub/sign-in/institute/start?next=/hub/token"' in page.text
    assert forms(page.text)[0]["action"] == "/hub/sign-in/local?next=/hub/token"


def test_an_account_is_asked_for_waits_is_approved_and_comes_in(hub, browser):
    vera = browser()
    form = vera.get("/hub/sign-up")
    assert "too short" in problem(vera.send(form, username="vera", password="short", again="short"))
    assert "differ" in problem(vera.send(form, username="vera", password=PASSWORD, again=PASSWORD + "x"))
    assert "Your account waits" in vera.send(form, username="Vera ", password=PASSWORD, again=PASSWORD).text
    assert "is taken" in problem(vera.send(form, username="vera", password=PASSWORD, again=PASSWORD))
    assert "is taken" in problem(vera.send(form, username="ada", password=PASSWORD, again=PASSWORD))

    page = vera.get("/hub/login")
    refused = vera.send(page, username="vera", password=PASSWORD)
    assert refused.status_code == 403
    assert problem(refused) == "Your account waits until it is approved: ask it@example.org."
    assert vera.name is None

    assert hub.users("approve", "local:vera").returncode == 0
    assert "wrong" in problem(vera.send(page, username="vera", password=PASSWORD + "!"))
    arrived = vera.send(page, username="VERA", password=PASSWORD)
    assert arrived.headers["location"] == "/services/cupola/"
    assert vera.name == "vera"


def test_an_account_that_was_refused_is_forgotten_with_its_password(hub, browser):
    form = browser().get("/hub/sign-up")
    one = browser()
    form = one.get("/hub/sign-up")
    one.send(form, username="mallory", password=PASSWORD, again=PASSWORD)
    assert hub.users("refuse", "local:mallory").returncode == 0
    page = one.get("/hub/login")
    wait_until(lambda: "wrong" in problem(one.send(page, username="mallory", password=PASSWORD)), 30)


def test_a_new_password_ends_the_other_logins(hub, browser):
    one, other = browser(), browser()
    hub.users("add", "grace")
    one.open_link("grace")
    other.open_link("grace")
    assert one.name == other.name == "grace"
    first = one.get("/hub/password")
    assert "Set a password" in first.text
    assert "is changed" in one.send(first, password=PASSWORD, again=PASSWORD).text
    assert one.name == "grace"
    wait_until(lambda: other.name is None)
    again = one.get("/hub/password")
    wrong = one.send(again, old="not it, not it", password=PASSWORD + "2", again=PASSWORD + "2")
    assert "not your password" in problem(wrong)
    third = browser()
    third.send(third.get("/hub/login"), username="grace", password=PASSWORD)
    assert third.name == "grace"


def test_who_is_on_the_list_comes_in_and_who_is_not_is_told_whom_to_ask(hub, browser, providers):
    institute = providers["institute"]
    institute.person = {"sub": "1001", "preferred_username": "edwin"}
    edwin = browser()
    arrived = sign_in(edwin, "institute", "/hub/token")
    assert (edwin.name, arrived.status_code) == ("edwin", 200)
    assert arrived.url.path == "/hub/token"
    institute.person = {"sub": "1002", "preferred_username": "harlow"}
    harlow = browser()
    refused = sign_in(harlow, "institute")
    assert refused.status_code == 403
    assert problem(refused) == (
        "You are harlow at The Institute, but you have not been let in here yet: ask it@example.org."
    )
    assert harlow.name is None
    # What the person was told to do helps.
    assert hub.users("approve", "institute:harlow").returncode == 0
    sign_in(harlow, "institute")
    assert harlow.name == "harlow"


def test_no_token_code_or_secret_stays_in_an_address_and_cookies_are_for_us_alone(hub, browser, providers):
    providers["institute"].person = {"sub": "1001", "preferred_username": "edwin"}
    edwin = browser()
    started = edwin.http.get(f"{hub.address}/hub/sign-in/institute/start")
    cookie = started.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/hub/sign-in/institute/" in cookie
    asked = httpx.URL(started.headers["location"]).params
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) > 30
    assert len(asked["nonce"]) > 30
    arrived = edwin._follow(started)
    assert edwin.name == "edwin"
    # The address with the code is left at once.
    assert (arrived.status_code, arrived.headers["location"]) == (302, "/services/cupola/")
    assert not any(
        SECRET in address or "access_token" in address or "id_token" in address for address in edwin.seen
    )
    for kept in edwin.http.cookies.jar:
        assert kept.name == "_xsrf" or kept.has_nonstandard_attr("HttpOnly"), kept


def test_signing_out_ends_the_login_and_names_the_provider(browser, providers):
    providers["institute"].person = {"sub": "1001", "preferred_username": "edwin"}
    edwin = browser()
    sign_in(edwin, "institute")
    kept = {cookie.name: cookie.value for cookie in edwin.http.cookies.jar}
    page = edwin.get("/hub/logout")
    assert "You are signed out" in page.text
    assert f"{providers['institute'].url}/goodbye?client_id={CLIENT}" in page.text
    assert edwin.name is None
    assert "jupyterhub-hub-login" in kept


@pytest.mark.parametrize(
    ("login", "number", "places", "inside", "admin"),
    [
        ("lead", 7, {}, True, True),
        ("member", 8, {"esa": {"member"}}, True, False),
        ("Teamster", 9, {"esa:hera": {"Teamster"}}, True, False),
        ("stranger", 10, {"nasa": {"stranger"}}, False, False),
    ],
)
def test_github(hub, browser, providers, login, number, places, inside, admin):  # noqa: PLR0913, PLR0917 - the table above
    github = providers["github"]
    github.person, github.organisations = {"id": number, "login": login}, places
    one = browser()
    sign_in(one, "github")
    assert (one.name == login.lower()) is inside
    assert github.asked[-1]["scope"] == "read:org"
    if inside:
        assert hub.as_portal("GET", f"/users/{login.lower()}").json()["admin"] is admin


@pytest.mark.parametrize(
    ("login", "number", "members", "inside"),
    [
        ("group", 21, {"planets%2Fmars": {21: 20}}, True),
        ("developer", 22, {"4711": {22: 30}}, True),
        ("reader", 23, {"4711": {23: 20}}, False),
        ("outsider", 24, {"planets": {24: 50}}, False),
        ("neighbour", 25, {"planets%2Fmars": {26: 50}}, False),
    ],
)
def test_gitlab(browser, providers, login, number, members, inside):  # noqa: PLR0913, PLR0917 - the table above
    gitlab = providers["gitlab"]
    gitlab.person, gitlab.members = {"id": number, "username": login}, members
    one = browser()
    sign_in(one, "gitlab")
    assert (one.name == login) is inside


def test_a_name_that_is_somebody_elses_is_refused_until_an_administrator_binds_it(hub, browser, providers):
    github, institute = providers["github"], providers["institute"]
    github.person, github.organisations = {"id": 30, "login": "twin"}, {"esa": {"twin"}}
    first = browser()
    sign_in(first, "github")
    assert first.name == "twin"
    institute.person = {"sub": "2002", "preferred_username": "Twin", "realm": {"roles": ["staff"]}}
    second = browser()
    refused = sign_in(second, "institute")
    assert 'the name "twin" belongs to somebody else' in problem(refused)
    assert second.name is None
    assert hub.users("bind", "institute:Twin", "twin").returncode == 0
    sign_in(second, "institute")
    assert second.name == "twin"


def test_a_login_that_changed_hands_opens_nothing_of_the_former_person(browser, providers):
    github = providers["github"]
    github.person, github.organisations = {"id": 40, "login": "renamed"}, {"esa": {"renamed"}}
    former = browser()
    sign_in(former, "github")
    assert former.name == "renamed"
    github.person = {"id": 41, "login": "renamed"}
    heir = browser()
    assert "belongs to somebody else" in problem(sign_in(heir, "github"))
    assert heir.name is None


def test_groups_and_verified_mail_let_in(hub, browser, providers):
    institute = providers["institute"]
    people = [
        ({"sub": "3001", "preferred_username": "staff", "realm": {"roles": ["staff"]}}, True, False),
        ({"sub": "3002", "preferred_username": "chief", "realm": {"roles": ["chiefs"]}}, True, True),
        ({"sub": "3003", "preferred_username": "other", "realm": {"roles": ["guests"]}}, False, False),
        (
            {"sub": "3004", "preferred_username": "mail", "email": "m@EXAMPLE.org", "email_verified": True},
            True,
            False,
        ),
        (
            {"sub": "3005", "preferred_username": "m2", "email": "m@example.org", "email_verified": False},
            False,
            False,
        ),
        ({"sub": "3006", "preferred_username": "m3", "email": "m@example.org"}, False, False),
        (
            {
                "sub": "3007",
                "preferred_username": "m4",
                "email": "m@example.org.evil.test",
                "email_verified": True,
            },
            False,
            False,
        ),
        (
            {"sub": "3008", "preferred_username": "m5", "email": "m@evilexample.org", "email_verified": True},
            False,
            False,
        ),
        (
            {
                "sub": "3009",
                "preferred_username": "m6",
                "email": "m@\u0435\u0445ample.org",
                "email_verified": True,
            },
            False,
            False,
        ),
        (
            {"sub": "3010", "preferred_username": "m7", "email": "m@example.org", "email_verified": "true"},
            False,
            False,
        ),
    ]
    for person, inside, admin in people:
        institute.person = person
        one = browser()
        sign_in(one, "institute")
        assert (one.name is not None) is inside, person
        if inside:
            assert hub.as_portal("GET", f"/users/{one.name}").json()["admin"] is admin


def test_the_provider_that_others_wrote(tmp_path):
    with provider_mock() as issuer:
        (tmp_path / "secret").write_text("anything")
        one = Hub(
            tmp_path / "hub",
            f"  methods:\n    - kind: oidc\n      url: {issuer}\n      client_id: cupola\n"
            "      client_secret_file: ../secret\n      username_claim: email\n",
        )
        claims = {"email": "hubble@example.org", "email_verified": True, "preferred_username": "hubble"}
        httpx.put(f"{issuer}/users/hubble", json=claims).raise_for_status()
        try:
            one.start()
            person = Browser(one)
            page = sign_in(person, "oidc")
            assert "Authorize Client" in page.text
            refused = person.send(page, sub="hubble")
            assert "You are hubble@example.org at your institution" in problem(refused)
            assert one.users("approve", "oidc:hubble@example.org").returncode == 0
            person.send(sign_in(person, "oidc"), sub="hubble")
            assert person.name is not None
            assert person.name.startswith("hubble-")
            assert is_name(person.name)
            asked = {"name": person.name}
            assert one.as_portal("POST", "/cupola/mail", json=asked).json() == {"mail": "hubble@example.org"}
            mine = person.http.post(f"{one.address}/hub/api/cupola/mail", json=asked)
            assert mine.status_code in {403, 404}
            person.close()
        finally:
            one.stop()


@pytest.mark.row(32)
def test_who_is_struck_from_the_list_is_out_everywhere_within_a_minute(
    hub, browser, providers, matrix, weak_hub
):
    """Page, API token, server, and a channel that was open all the time: row 32."""
    write(hub, "institute:fritz admin")
    write(weak_hub.hub, "institute:fritz admin")
    providers["institute"].person = {"sub": "5001", "preferred_username": "fritz"}
    fritz = browser()
    there = Everywhere(hub, fritz)
    assert hub.as_portal("GET", "/users/fritz").json()["admin"] is True
    with weak_hub.browser() as other:
        weak_hub.institute.person = providers["institute"].person
        elsewhere = Everywhere(weak_hub.hub, other)
        strike(weak_hub.hub, "institute:fritz admin")
        strike(hub, "institute:fritz admin")
        began = time.monotonic()
        wait_until(lambda: not there.alive())
        took = time.monotonic() - began
        wait_until(lambda: hub.as_portal("GET", "/users/fritz").status_code == 404)
        # Struck as early: where nobody looks at the list, all of it goes on.
        left = elsewhere.alive()
    assert left == {"page", "token", "server", "channel"}
    matrix("seconds to the last dead channel", took, limit=60, seen_red=bool(left))
    there.channel.close()
    elsewhere.channel.close()
    assert "not been let in" in problem(sign_in(fritz, "institute"))
    # Back on the list: the same person finds the same name.
    write(hub, "institute:fritz")
    wait_until(lambda: (sign_in(fritz, "institute"), fritz.name)[1] == "fritz", 60)
    assert hub.as_portal("GET", "/users/fritz").json()["admin"] is False


def test_the_flag_in_the_list_makes_and_unmakes_an_administrator_at_once(hub, browser, providers):
    write(hub, "institute:karl")
    providers["institute"].person = {"sub": "6001", "preferred_username": "karl"}
    karl = browser()
    wait_until(lambda: (sign_in(karl, "institute"), karl.name)[1] == "karl", 60)

    def admin():
        return hub.as_portal("GET", "/users/karl").json()["admin"]

    assert admin() is False
    strike(hub, "institute:karl")
    write(hub, "institute:karl admin")
    wait_until(admin, 60)
    assert karl.http.get(f"{hub.address}/hub/admin").status_code == 200
    strike(hub, "institute:karl admin")
    write(hub, "institute:karl")
    wait_until(lambda: not admin(), 60)
    assert karl.http.get(f"{hub.address}/hub/admin").status_code == 403


def test_a_wrong_line_throws_nobody_out_and_is_told(hub, browser, providers):
    write(hub, "institute:lise")
    providers["institute"].person = {"sub": "7001", "preferred_username": "lise"}
    lise = browser()
    wait_until(lambda: (sign_in(lise, "institute"), lise.name)[1] == "lise", 60)
    good = (hub.folder / "people.txt").read_text()
    (hub.folder / "people.txt").write_text("institut:lise\n")
    wait_until(lambda: hub.as_portal("GET", "/cupola/people").json()["problem"], 60)
    said = hub.as_portal("GET", "/cupola/people").json()["problem"]
    assert 'line 1: there is no sign-in method "institut"' in said
    assert lise.name == "lise"
    (hub.folder / "people.txt").write_text(good)
    wait_until(lambda: not hub.as_portal("GET", "/cupola/people").json()["problem"], 60)


def test_the_page_people_is_the_portals_alone(hub, browser):
    ada = browser()
    ada.open_link("ada")
    assert ada.http.get(f"{hub.address}/hub/api/cupola/people").status_code == 404
    assert httpx.get(f"{hub.address}/hub/api/cupola/people").status_code == 404
    token = hub_token(ada)
    headers = {"Authorization": f"token {token}"}
    assert httpx.get(f"{hub.address}/hub/api/cupola/people", headers=headers).status_code == 404
    refused = hub.as_portal("POST", "/cupola/people", json={"do": "remove", "name": "ada"})
    assert refused.status_code == 409
    assert "owner" in refused.json()["message"]


def test_somebody_made_at_the_hub_behind_our_back_is_nobody(hub, browser):
    ada = browser()
    ada.open_link("ada")
    token = hub_token(ada)
    headers = {"Authorization": f"token {token}"}
    made = httpx.post(f"{hub.address}/hub/api/users/ghost", headers=headers)
    assert made.status_code == 201
    wait_until(lambda: hub.as_portal("GET", "/users/ghost").status_code == 404)


def test_a_removed_person_stays_out_whatever_the_list_says(hub, browser, providers):
    write(hub, "institute:emmy")
    providers["institute"].person = {"sub": "8001", "preferred_username": "emmy"}
    emmy = browser()
    wait_until(lambda: (sign_in(emmy, "institute"), emmy.name)[1] == "emmy", 60)
    answer = hub.as_portal("POST", "/cupola/people", json={"do": "remove", "name": "emmy"})
    assert answer.status_code == 200
    wait_until(lambda: emmy.name is None)
    assert problem(sign_in(emmy, "institute")) == "Your access has ended: ask it@example.org."
    assert hub.users("add", "emmy").returncode == 0
    wait_until(lambda: (sign_in(emmy, "institute"), emmy.name)[1] == "emmy", 60)
