from __future__ import annotations

import json

import pytest

from cupola import cli
from cupola.config import load
from cupola.hub.links import Links
from cupola.hub.signin.admission import Admission
from cupola.hub.signin.names import Identity


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in ("CUPOLA_CONFIG", "CUPOLA_STATE", "CUPOLA_PORT"):  # options write them: have them put back
        monkeypatch.setenv(name, "")
    one = tmp_path / "cupola.yaml"
    one.write_text(
        "owner: ada\ncompute: docker\nurl: https://lab.example.org\nsign_in:\n  methods:\n    - kind: local\n"
    )
    return one


@pytest.fixture
def users(file, capsys):
    """Run ``cupola users`` and return exit code, stdout and stderr."""

    def do(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(["users", *arguments, "--config", str(file)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out.strip(), err.strip()

    return do


def test_letting_in_a_link_and_the_end(users, file):
    assert users("add", "maria", "--admin") == (0, "maria may come in", "")
    code, link, _ = users("link", "maria")
    assert code == 0
    assert link.startswith("https://lab.example.org/hub/sign-in?token=")
    assert Links(load(file).paths.links).use(link.partition("token=")[2]) == "maria"
    listed = json.loads(users("list", "--json")[1])["people"]
    assert [(one["name"], one["admin"], one["standing"]) for one in listed] == [("maria", True, "inside")]
    assert users("add", "maria", "--member")[1] == "maria is in"
    assert "administrator  inside" not in users("list")[1]
    assert "files are kept" in users("remove", "maria")[1]
    code, _, err = users("link", "maria")
    assert (code, err) == (1, '"maria" is not let in; do that first: cupola users add maria')
    assert users("add", "maria")[1] == "maria may come in again"


def test_who_waits_is_let_in_bound_or_forgotten(users, file):
    people = Admission(load(file)).people
    people.ask(Identity("local", "", "vera", "vera"), "vera")
    people.ask(Identity("local", "", "eve", "eve"), "eve")
    assert "local:vera would be vera" in users("list")[1]
    assert users("approve", "local:vera")[1] == "local:vera may come in as vera"
    assert users("refuse", "local:eve")[1] == "local:eve is forgotten"
    assert people.requests() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "Not A Name"), "cannot be a user name"),
        (("remove", "nobody"), 'there is nobody named "nobody"'),
        (("remove", "ada"), "owner"),
        (("approve", "vera"), "names no method"),
        (("approve", "local:vera"), "has not asked"),
        (("link", "nobody"), "cupola users add nobody"),
    ],
)
def test_what_cannot_be_is_one_sentence(users, arguments, sentence):
    code, out, err = users(*arguments)
    assert code == 1
    assert sentence in err
    assert "\n" not in err
    assert not out


def test_without_containers_nobody_else_is_let_in(users, file):
    file.write_text("owner: ada\n")
    assert "compute: docker" in users("add", "maria")[2]
