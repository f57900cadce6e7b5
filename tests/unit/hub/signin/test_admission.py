from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from cupola.config import Config, MethodSettings, SignInSettings
from cupola.exceptions import ConfigError, ConflictError, NotAllowedError
from cupola.hub.signin import api
from cupola.hub.signin.admission import Admission, Proof, Standing
from cupola.hub.signin.names import Identity
from cupola.models.base import now


@pytest.fixture
def make(tmp_path):
    def do(lines="", *, compute="docker", methods=("github", "local"), **more):
        listing = tmp_path / "people.txt"
        listing.write_text(lines)
        kinds = [
            MethodSettings(kind=kind, client_id="x", client_secret_variable="X")
            if kind != "local"
            else MethodSettings(kind=kind)
            for kind in methods
        ]
        sign_in = SignInSettings(methods=kinds, allow_list=listing, contact="it@example.org", **more)
        found = Admission(Config(state=tmp_path / "state", owner="ada", compute=compute, sign_in=sign_in))
        found.prepare()
        return found

    return do


def github(login, number="1"):
    return Identity("github", "https://github.com", number, login)


def test_nobody_is_let_in_by_omission(make):
    admission = make()
    with pytest.raises(NotAllowedError, match=r"ask it@example\.org"):
        admission.enter(Proof(github("grace")))
    assert [request.name for request in admission.people.requests()] == ["grace"]
    assert admission.enter_by_link("grace") is None
    assert admission.enter_by_link("ada").admin


def test_the_list_lets_in_and_says_who_is_administrator(make):
    admission = make("github:grace\ngithub:chief admin\n")
    assert admission.enter(Proof(github("Grace"))).admin is False
    assert admission.enter(Proof(github("chief", "2"))).admin is True
    known = admission.people.find("chief")
    admission.list.path.write_text("github:grace admin\n")
    admission.list.refresh()
    assert admission.standing(known) is Standing.OUTSIDE
    assert admission.admin(known) is False
    assert admission.admin(admission.people.find("grace")) is True


def test_a_listed_name_is_no_way_to_take_an_account(make):
    admission = make("vera admin\n")
    with pytest.raises(NotAllowedError, match="waits until it is approved"):
        admission.enter(Proof(Identity("local", "", "vera", "vera")))
    admission.people.ask(Identity("local", "", "vera", "vera"), "vera")
    admission.approve(admission.people.request("local", "vera"))
    assert admission.enter(Proof(Identity("local", "", "vera", "vera"))).admin is True
    # Let in by the list, out with it.
    admission.list.path.write_text("")
    admission.list.refresh()
    assert admission.standing(admission.people.find("vera")) is Standing.OUTSIDE


def test_a_stranger_with_the_owners_name_is_refused(make):
    admission = make("github:ada admin\n")
    with pytest.raises(ConflictError, match="belongs to somebody else"):
        admission.enter(Proof(github("ada")))


def test_a_former_owners_name_stays_theirs(make, tmp_path):
    make()
    sign_in = SignInSettings(
        methods=[MethodSettings(kind="github", client_id="x", client_secret_variable="X")]
    )
    later = Admission(Config(state=tmp_path / "state", owner="grace", compute="docker", sign_in=sign_in))
    later.prepare()
    assert later.standing(later.people.find("ada")) is Standing.OUTSIDE
    with pytest.raises(ConflictError):
        later.enter(Proof(github("ada"), rule="organisations"))


def test_a_rule_holds_for_a_while_then_asks_anew_then_ends(make):
    admission = make(rule_hours=24)
    admission.enter(Proof(github("grace"), rule="organisations"))
    standings = []
    for hours in (1, 23, 25, 95, 97):
        with sqlite3.connect(admission.people.file) as connection:
            connection.execute(
                "UPDATE people SET checked = ?", [(now() - timedelta(hours=hours)).isoformat()]
            )
        connection.close()
        standings.append(admission.standing(admission.people.find("grace")).value)
    assert standings == ["inside", "inside", "lapsed", "lapsed", "outside"]
    with pytest.raises(NotAllowedError):
        admission.enter(Proof(github("grace")))


def test_a_rule_of_a_method_that_is_gone_holds_no_more(make, tmp_path):
    make().enter(Proof(github("grace"), rule="organisations"))
    later = Admission(Config(state=tmp_path / "state", owner="ada", compute="docker"))
    assert later.standing(later.people.find("grace")) is Standing.OUTSIDE


def test_without_isolation_nobody_but_the_owner_comes_in(make):
    admission = make("github:grace\n", compute="process")
    with pytest.raises(NotAllowedError):
        admission.enter(Proof(github("grace"), rule="organisations"))
    with pytest.raises(ConflictError, match="compute: docker"):
        api.add(admission, "grace")
    admission.people.admit("grace")
    assert admission.enter_by_link("grace") is None
    assert admission.enter_by_link("ada") is not None


def test_who_is_removed_stays_out_until_let_in_again(make):
    admission = make("github:grace\n")
    admission.enter(Proof(github("grace")))
    api.remove(admission, "grace")
    with pytest.raises(NotAllowedError, match="has ended"):
        admission.enter(Proof(github("grace"), rule="organisations"))
    api.add(admission, "grace")
    assert admission.enter(Proof(github("grace"))).name == "grace"
    with pytest.raises(ConflictError, match="owner"):
        api.remove(admission, "ada")
    with pytest.raises(ConflictError, match="allow-list"):
        api.change_role(admission, "grace", admin=True)


def test_a_wrong_list_stops_the_start(make):
    with pytest.raises(ConfigError, match="line 1"):
        make("gitub:ada\n")
    with pytest.raises(ConfigError, match="no sign-in method"):
        make("gitub:ada\n", methods=())


def test_a_plain_line_means_the_only_method_or_the_accounts_here(make):
    assert make("grace\n", methods=("github",)).enter(Proof(github("grace"))).name == "grace"
    with pytest.raises(NotAllowedError):
        make("linus\n", methods=("github", "local")).enter(Proof(github("linus", "9")))
    with pytest.raises(ConfigError, match="several methods"):
        make("grace\n", methods=("github", "gitlab"))
