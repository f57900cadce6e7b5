# ruff: noqa: RUF001 - letters that look alike are what it is about
from __future__ import annotations

import pytest

from cupola.exceptions import ConfigError
from cupola.hub.signin.allowlist import AllowFile, parse
from cupola.hub.signin.names import Identity

METHODS = ["github", "local"]


def who(method, login):
    return Identity(method, "", "1", login)


def test_lines_name_people_and_administrators():
    text = "\ufeff# all\n\n  github:Ada admin # chief\nlocal:vera\n  grace\t\nlocal:o'hara@example.org#1\n".removeprefix(
        "\ufeff"
    )
    found = parse(text, "people.txt", METHODS, "local")
    assert found.admin(who("github", "ADA")) is True
    assert found.admin(who("local", "vera")) is False
    assert found.admin(who("local", "grace")) is False
    assert found.admin(who("local", "o'hara@example.org#1")) is False
    assert found.admin(who("github", "vera")) is None
    assert found.admin(who("github", "аda")) is None  # a Cyrillic letter


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("github:ada Admin", '"Admin" stands behind the name; only the word "admin" may'),
        ("github:ada admin admin", '"admin admin" stands behind'),
        ("gitub:ada", 'there is no sign-in method "gitub"; known are github, local'),
        ("ada", '"ada" could be of several methods'),
        ("github:", "is no login"),
        (":ada", "there is no sign-in method"),
        ("github:" + "a" * 201, "is no login"),
        ("github:a\x07b", "is no login"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(line, sentence):
    with pytest.raises(ConfigError) as refused:
        parse(f"github:grace\n{line}\n", "people.txt", METHODS, "")
    assert str(refused.value).startswith("people.txt, line 2: ")
    assert sentence in str(refused.value)


def test_who_is_twice_on_the_list_is_told():
    with pytest.raises(ConfigError, match=r"line 2: .* twice"):
        parse("github:ada\ngithub:ADA admin\n", "people.txt", METHODS, "")


def test_the_last_good_list_stays_in_force(tmp_path):
    file = tmp_path / "people.txt"
    file.write_text("ada admin\n")
    found = AllowFile(file, ["local"], "local")
    assert found.refresh()
    assert not found.refresh()
    ada = who("local", "ada")
    assert found.current.admin(ada) is True
    for damage in (b"ada chief\n", b"\xff\xfe\x00", None):
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        assert found.refresh()
        assert found.problem
        assert found.current.admin(ada) is True
        with pytest.raises(ConfigError):
            found.read()
    file.write_text("")
    assert found.refresh()
    assert not found.problem
    assert found.current.admin(ada) is None


def test_no_file_is_an_empty_list():
    found = AllowFile(None, [], "")
    assert not found.refresh()
    assert found.read().people == {}
