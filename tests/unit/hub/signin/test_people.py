# ruff: noqa: RUF001 - letters that look alike are what it is about
from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading

import pytest

from cupola.exceptions import ConflictError, LimitError, NotFoundError, UnavailableError
from cupola.hub.signin import people as module
from cupola.hub.signin.names import Identity, name_for
from cupola.hub.signin.people import People


@pytest.fixture
def people(tmp_path):
    return People(tmp_path / "hub" / "people.sqlite")


def someone(subject, login="ada", method="github", issuer="https://github.com"):
    return Identity(method, issuer, subject, login)


def test_a_name_belongs_to_one_identity_for_ever(people):
    known = people.bind(someone("1"), "ada")
    assert known.identities == (someone("1"),)
    assert people.bind(someone("1"), "ada") == known
    for other in (someone("2"), someone("1", method="gitlab"), someone("1", issuer="https://git.example")):
        with pytest.raises(ConflictError, match='"ada" belongs to somebody else'):
            people.bind(other, "ada")
    people.remove("ada")
    with pytest.raises(ConflictError):
        people.bind(someone("2"), "ada")
    assert people.of(someone("1", "renamed")).removed


def test_an_administrator_binds_a_second_account(people):
    people.bind(someone("1"), "ada")
    people.bind(someone("7", method="institute"), "ada", create=False)
    assert len(people.find("ada").identities) == 2
    with pytest.raises(ConflictError, match="one person has one name"):
        people.bind(someone("7", method="institute"), "grace")
    with pytest.raises(NotFoundError, match="users add nobody"):
        people.bind(someone("8"), "nobody", create=False)


def test_the_file_is_for_this_account_only(people):
    people.admit("ada")
    assert stat.S_IMODE(people.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(people.file.parent.stat().st_mode) == 0o700


def test_of_many_who_want_a_name_at_once_one_gets_it(people):
    won, lost = [], []
    start = threading.Barrier(8)

    def come(number):
        start.wait()
        try:
            won.append(People(people.file).bind(someone(str(number)), "ada"))
        except ConflictError:
            lost.append(number)

    threads = [threading.Thread(target=come, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_whoever_waits_for_an_account_keeps_the_name(people):
    local = Identity("local", "", "vera", "vera")
    people.ask(local, "vera")
    with pytest.raises(ConflictError, match="taken"):
        people.ask(Identity("local", "", "vera", "vera"), "vera")
    with pytest.raises(ConflictError, match="somebody else"):
        people.bind(someone("1", "vera"), "vera")
    people.bind(local, "vera")
    assert people.requests() == []
    with pytest.raises(ConflictError, match="taken"):
        people.ask(Identity("local", "", "vera", "vera"), "vera")


def test_a_crowd_of_strangers_does_not_fill_the_disk(people, monkeypatch):
    monkeypatch.setattr(module, "MOST_REQUESTS", 5)
    for number in range(9):
        people.ask(someone(str(number), f"p{number}"), f"p{number}")
    assert [each.name for each in people.requests()] == ["p4", "p5", "p6", "p7", "p8"]
    for number in range(5):
        people.ask(Identity("local", "", f"l{number}", f"l{number}"), f"l{number}")
    with pytest.raises(LimitError):
        people.ask(Identity("local", "", "late", "late"), "late")


def test_a_file_that_is_no_database_is_told_in_a_sentence(people):
    people.admit("ada")
    people.file.write_text("no database " * 100)
    with pytest.raises(UnavailableError, match=r"people\.sqlite"):
        people.find("ada")


def test_no_two_of_many_people_get_one_name(people):
    """Row 16 through the table itself: identities that escape alike are refused, not merged."""
    logins = [
        "ada",
        "Ada",
        "ADA",
        "аda",
        "a.da",
        "ada.",
        "ada@x",
        "ada@y",
        "a" * 64,
        "a" * 65,
        "a" * 200,
        "root",
        "Root",
    ]
    got = {}
    for number, login in enumerate(logins):
        identity = someone(str(number), login)
        try:
            got[people.bind(identity, name_for(login)).name] = identity.subject
        except ConflictError:
            continue
    assert len(got) == len(set(got.values()))
    assert [known.name for known in people.everybody()] == sorted(got)


def test_the_address_that_a_provider_verified_is_kept_also_in_a_file_of_before(people):
    people.bind(someone("1"), "ada")
    with contextlib.closing(sqlite3.connect(people.file)) as before:
        before.executescript("DROP TABLE mails; PRAGMA user_version = 1")
    assert people.mail_of("ada") == ""
    people.keep_mail("ada", "ada@example.org")
    people.keep_mail("ada", "ada@example.com")
    assert people.mail_of("ada") == "ada@example.com"
    assert people.find("ada").identities == (someone("1"),)
