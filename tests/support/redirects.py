"""Values of ``next`` that lead away from a careless site."""

# ruff: noqa: RUF001 - letters that look alike are what it is about
from __future__ import annotations

from itertools import product

__all__ = ["REDIRECTS"]

_HOSTS = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1@evil.example",
    "2130706433",
    "[::1]:1",
    "evil。example",
    "evil%2eexample",
]
_BEFORE = [
    "//", "///", "////", "/\\", "\\\\", "\\/", "/\\/", "/%2f", "/%2F/", "/%5c", "/%5C/", "/\t/", "/\n/", "/\r/", "/%09/",
    "/%0a/", "/%0d%0a/", "\t//", " //", "%20//", "http://", "https://", "http:", "https:///", "HtTp://", "ftp://",
    "/services/..//", "/hub/../..//", "/./", "/.//", "/;//", "/?//", "/#//", "//%00", "/%00//", "／／", "/／",
    "http://127.0.0.1.", "//127.0.0.1:1@",
]  # fmt: skip
_ALONE = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "vbscript:x", "mailto:x@y",
    "/\u2028/evil.example", "/\u202e//evil.example", "", " ", "\x00", "/" * 3000, "/hub/" + "a" * 10_000, "evil.example",
    "./evil", "../evil", "?next=//evil.example", "#//evil.example", "/hub/login?next=//evil.example", "/%", "/%zz",
]  # fmt: skip
REDIRECTS = [f"{before}{host}" for before, host in product(_BEFORE, _HOSTS)] + _ALONE
