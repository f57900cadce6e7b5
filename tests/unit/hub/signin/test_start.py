from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest
from jupyterhub.auth import Authenticator
from traitlets import Unicode

from cupola.cli.check import findings
from cupola.config import Config, MethodSettings, SignInSettings
from cupola.exceptions import ConfigError
from cupola.hub.signin.custom import load_class, make_custom
from cupola.hub.signin.start import check_sign_in


def custom(authenticator, **options):
    return MethodSettings(kind="custom", name="own", authenticator=authenticator, options=options)


def config(tmp_path, *methods, lines=None):
    listing = tmp_path / "people.txt"
    if lines is not None:
        listing.write_text(lines)
    sign_in = SignInSettings(methods=list(methods), allow_list=listing)
    return Config(state=tmp_path / "state", owner="ada", compute="docker", sign_in=sign_in)


def test_a_right_sign_in_starts_and_leaves_nothing_behind(tmp_path):
    check_sign_in(config(tmp_path, MethodSettings(kind="local"), lines="ada admin\n"))
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("authenticator", "options", "sentence"),
    [
        ("nowhere.at.all:Thing", {}, "cannot be imported"),
        ("jupyterhub.auth:Nobody", {}, "cannot be imported"),
        ("collections:OrderedDict", {}, "is no Authenticator"),
        ("jupyterhub.auth:DummyAuthenticator", {"pasword": "x"}, 'no option "pasword"'),
    ],
)
def test_a_class_that_cannot_be_used_stops_the_start(tmp_path, authenticator, options, sentence):
    wrong = config(tmp_path, custom(authenticator, **options), lines="")
    with pytest.raises(ConfigError, match=sentence) as refused:
        check_sign_in(wrong)
    assert "\n" not in str(refused.value)


def test_a_list_that_is_missing_or_wrong_stops_the_start(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        check_sign_in(config(tmp_path, MethodSettings(kind="local")))
    wrong = config(tmp_path, MethodSettings(kind="local"), lines="vera boss\n")
    with pytest.raises(ConfigError, match="line 1"):
        check_sign_in(wrong)
    (found,) = [finding for finding in findings(wrong) if finding.name == "sign-in"]
    assert not found.ok
    assert found.fix == 'only the word "admin" may'


class Guild(Authenticator):
    """What an administrator might write."""

    word = Unicode(config=True)

    async def authenticate(self, handler, data):  # noqa: ARG002 - the hub's own signature
        return data["username"] if data["password"] == self.word else None


def test_whom_an_own_class_allows_is_let_in_by_its_rule_and_nobody_else(monkeypatch):
    monkeypatch.setitem(sys.modules, "guild", SimpleNamespace(Guild=Guild))
    settings = custom("guild:Guild", word="open sesame", allowed_users={"vera"})
    method = make_custom(settings, "https://x/hub/sign-in/own/callback", None)

    def prove(name, password):
        return asyncio.run(method.prove(None, {"username": name, "password": password}))

    proof = prove("vera", "open sesame")
    assert proof.identity.key == ("own", "guild:Guild", "vera")
    assert proof.rule
    assert prove("vera", "wrong") is None
    assert prove("eve", "open sesame") is None
    assert load_class(settings) is Guild
