# ruff: noqa: RUF001 - letters that look alike are what it is about
from __future__ import annotations

import re
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.models.address import LONGEST, safe_path
from support.redirects import REDIRECTS

HOME = "https://lab.example.org"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/hub/home",
        "/hub/api/oauth2/authorize?client_id=service-cupola&redirect_uri=%2Fservices%2Fcupola%2Foauth_callback&state=a-b_c",
        "/user/ada/lab-7k2m/lab/tree/a%20b.ipynb?reset=1",
        "/services/cupola/sessions?cursor=abc",
    ],
)
def test_our_own_pages_are_kept(path):
    assert safe_path(path) == path


def stays(path):
    """Tell whether a browser, and a server that decodes once more, stay on our address."""
    for seen in (
        path,
        unquote(path),
        re.sub(r"[\t\r\n]", "", path),
        path.replace("\\", "/"),
        unquote(path).replace("\\", "/"),
    ):
        there = urlsplit(urljoin(f"{HOME}/hub/login", seen))
        if f"{there.scheme}://{there.netloc}" != HOME or there.path.startswith("//"):
            return False
    return True


@pytest.mark.parametrize("path", REDIRECTS)
def test_no_crafted_value_leads_away(path):
    """Row 30: about three hundred of them."""
    found = safe_path(path)
    assert found is None or stays(found)


PIECES = [
    "/",
    "\\",
    "//",
    "..",
    ".",
    "%2f",
    "%5C",
    "%2e",
    "%00",
    "?",
    "#",
    "@",
    ":",
    ";",
    "evil.example",
    "http:",
    "\t",
    "\n",
    "hub",
    "／",
    "%",
    "%25",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_nothing_that_is_put_together_leads_away(path):
    for text in (path, "/" + path, "/services/cupola/" + path):
        for prefix in ("/", "/services/cupola/"):
            found = safe_path(text, prefix)
            assert found is None or (stays(found) and found == text and found.startswith(prefix))


def test_below_another_prefix_and_too_long_is_refused():
    assert safe_path("/hub/home", "/services/cupola/") is None
    assert safe_path("/services/cupola", "/services/cupola/") is None
    assert safe_path("/" + "a" * LONGEST) is None
