# ruff: noqa: RUF001 - letters that look alike are what it is about
from __future__ import annotations

import random
import string
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.hub.signin import names as naming
from cupola.hub.signin.names import folded, is_name, name_for

LOOK_ALIKES = [
    "ada",
    "аda",
    "adа",
    "ａda",
    "ada\u0301",
    "áda",
    "ada\u200b",
    "ad\u0430",
    "ADA",
    "Ada",
    "ada ",
    "ada.",
    "a.da",
]


@pytest.mark.parametrize("name", ["a", "ada", "edwin.hubble", "x-1_y", "0", "a" * 64, "a" + "." + "b"])
def test_what_is_a_name_stays_what_it_is(name):
    assert is_name(name)
    assert name_for(name) == name
    assert name_for(name.upper()) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        "-a",
        "a-",
        ".a",
        "a.",
        "_a",
        "a/b",
        "a b",
        "a\n",
        "ada\n",
        "ä",
        "a" * 65,
        "A",
        "a\x00",
        "a%2fb",
    ],
)
def test_what_is_no_name(text):
    assert not is_name(text)
    assert is_name(name_for(text))
    assert name_for(text) != text


def test_accounts_of_containers_and_our_own_words_are_nobodys():
    for login in ("root", "Root", "daemon", "services", "cupola"):
        assert name_for(login) not in {"root", "daemon", "services", "cupola"}


def test_look_alikes_never_meet():
    names = {name_for(login) for login in LOOK_ALIKES}
    assert len(names) == len({folded(login) for login in LOOK_ALIKES})
    assert [login for login in LOOK_ALIKES if name_for(login) == "ada"] == ["ada", "ADA", "Ada"]


def many_logins():
    """Return random logins of all scripts, cases, dots and lengths up to 200."""
    chance = random.Random(16)  # noqa: S311 - the same names each time
    alphabets = [
        string.ascii_letters + string.digits + "._-",
        "aАаɑ.-_A",
        "".join(map(chr, range(0x20, 0x2500))),
        "日本語한국ا",
        "@+ /\\%",
    ]
    logins = dict.fromkeys(LOOK_ALIKES)
    while len(logins) < 100_000:
        alphabet = chance.choice(alphabets) + chance.choice(["", "", string.ascii_lowercase])
        logins["".join(chance.choices(alphabet, k=chance.choice([4, 8, 12, 30, 64, 65, 200])))] = None
    return list(logins)


def collisions(logins):
    """Count the logins that get a name which another one has."""
    owner, found = {}, 0
    for login in logins:
        name = name_for(login)
        assert is_name(name), login
        other = owner.setdefault(name, folded(login))
        found += other != folded(login)
    return found


@pytest.mark.row(16)
def test_a_hundred_thousand_logins_do_not_collide(matrix, monkeypatch):
    """Row 16: what was taken away from a login comes back into its name as a digest of the whole."""
    logins = many_logins()
    found = collisions(logins)
    with monkeypatch.context() as weak:
        same = SimpleNamespace(hexdigest=lambda: "0" * 64)
        weak.setattr(naming, "hashlib", SimpleNamespace(sha256=lambda _: same))
        red = collisions(logins)
    assert red > 0, "without the digest they do collide"
    matrix("names that two of 100000 logins share", found, limit=0, seen_red=red > 0)


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_logins_share_a_name_only_if_they_differ_in_case_alone(one, other):
    if name_for(one) == name_for(other):
        assert folded(one) == folded(other)
