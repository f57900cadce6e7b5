"""The hub's pages look like the portal's: what stands in both must be the same."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, PrefixLoader

import cupola.hub
from cupola.config import MethodSettings

TEMPLATES = Path(cupola.hub.__file__).parent / "templates"
STATIC = Path(cupola.hub.__file__).parents[1] / "platform" / "static"
TOKEN = re.compile(r"^\s*(--[a-z-]+):\s*(.+?);", re.MULTILINE)


def tokens(file):
    return {name: value.replace("#ffffff", "#fff") for name, value in TOKEN.findall(file.read_text())}


def test_the_hub_has_the_colours_of_the_portal():
    ours, theirs = tokens(STATIC / "css" / "tokens.css"), tokens(TEMPLATES / "look.css")
    shared = {name: value for name, value in theirs.items() if not name.startswith("--bs-")}
    assert len(shared) > 15
    assert shared == {name: ours.get(name) for name in shared}


def test_the_hub_has_the_logo_of_the_portal():
    assert (TEMPLATES / "logo.svg").read_bytes() == (STATIC / "img" / "logo.svg").read_bytes()


@pytest.fixture
def render():
    """Render as the hub does, on a page of its own that has only what ours fill."""
    blocks = ["title", "stylesheet", "nav_bar", "main", "script"]
    stock = "".join(f"{{% block {name} %}}{{% endblock %}}" for name in blocks)
    loader = ChoiceLoader(
        [PrefixLoader({"templates": DictLoader({"page.html": stock})}), FileSystemLoader(TEMPLATES)]
    )
    environment = Environment(loader=loader, autoescape=True)

    def text(name, **content):
        given = {
            "platform_title": "A & B",
            "base_url": "/hub/",
            "login_url": "/hub/login",
            "parsed_scopes": {},
        }
        return environment.get_template(name).render(given | content)

    return text


@pytest.mark.parametrize("name", ["error.html", "404.html", "not_running.html", "home.html"])
def test_every_page_has_a_heading_and_a_way_out(render, name):
    text = render(name, status_code=503, status_message="Service Unavailable")
    assert len(re.findall("<h1>", text)) == 1
    assert re.search(r'<a class="go" href="/hub/(login)?">', text)
    assert "A &amp; B" in text


def test_what_the_hub_says_stays_text(render):
    text = render(
        "error.html", status_code=403, status_message="Forbidden", message="<script>alert(1)</script>"
    )
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


def test_a_session_that_ended_is_named_and_not_started_from_here(render):
    text = render("not_running.html", server_name="lab-7k2m9xq4", spawn_url="/hub/spawn/ada/lab-7k2m9xq4")
    assert "lab-7k2m9xq4" in text
    assert "/hub/spawn" not in text


PLAIN = {
    "place": lambda *parts: "/hub/" + "/".join(parts),
    "nonce": "n0nce",
    "xsrf": "x",
    "forms": [],
    "buttons": [],
    "contact": "",
}
REMOTE = MethodSettings(
    kind="oidc", title="A & B", client_id="x", client_secret_variable="X", url="https://a.example"
)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("open", "Signing you in"), ("closed", "This link no longer works"), ("choose", "Sign in with a link")],
)
def test_sign_in(render, state, sentence):
    text = render("sign-in.html", state=state, token="t<", **PLAIN)
    assert sentence in text
    assert ('value="t&lt;"' in text) == (state == "open")


def test_all_ways_to_sign_in_and_the_reason_why_somebody_is_back(render):
    local = MethodSettings(kind="local")
    more = {
        "forms": [local],
        "buttons": [REMOTE],
        "contact": "it@example.org",
        "sign_up": True,
        "username": '"><b>',
    }
    text = render(
        "sign-in.html", state="choose", problem="<i>No.</i>", next="/hub/token?a=1", **(PLAIN | more)
    )
    assert 'href="/hub/sign-in/oidc/start?next=/hub/token%3Fa%3D1"' in text
    assert "Sign in with A &amp; B" in text
    assert '<p class="problem" role="alert">&lt;i&gt;No.&lt;/i&gt;</p>' in text
    assert "<b>" not in text
    assert "it@example.org" in text


@pytest.mark.parametrize("name", ["sign-in.html", "sign-up.html", "password.html", "logout.html"])
def test_scripts_and_styles_of_the_open_pages_carry_the_nonce(render, name):
    text = render(name, state="open", token="t", user=SimpleNamespace(name="ada"), **PLAIN)
    assert len(re.findall("<h1>", text)) == 1
    for tag in re.findall(r"<(?:script|style)[^>]*>", text):
        assert 'nonce="n0nce"' in tag
    assert " style=" not in text
    assert "onclick" not in text
