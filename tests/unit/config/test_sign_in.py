from __future__ import annotations

import pytest

from cupola.config import load
from cupola.exceptions import ConfigError

HEAD = "compute: docker\nsign_in:\n  methods:\n"
GITHUB = "    - kind: github\n      client_id: x\n      client_secret_file: secret\n"


def write(tmp_path, text):
    (tmp_path / "secret").write_text("s3cret\n")
    file = tmp_path / "cupola.yaml"
    file.write_text(text)
    return file


def test_paths_start_at_the_file_and_secrets_are_read_from_theirs(tmp_path, monkeypatch):
    monkeypatch.setenv("GITLAB_SECRET", " from-outside ")
    gitlab = "    - kind: gitlab\n      client_id: x\n      client_secret_variable: GITLAB_SECRET\n"
    config = load(write(tmp_path, f"{HEAD}{GITHUB}{gitlab}  allow_list: people.txt\n"))
    github, second = config.sign_in.methods
    assert github.client_secret_file == tmp_path / "secret"
    assert (github.secret(), second.secret()) == ("s3cret", "from-outside")
    assert config.sign_in.allow_list == tmp_path / "people.txt"
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + GITHUB.replace("secret\n", "no-such-file\n"), "line 4: "),
        (HEAD + GITHUB + "      organisation: [esa]\n", 'did you mean "organisations"?'),
        (HEAD + "    - kind: githup\n", "expected one of local, github, gitlab, oidc, custom"),
        (
            HEAD + "    - kind: github\n",
            'line 4: sign_in.methods, entry 1: the kind github needs a "client_id"',
        ),
        (HEAD + GITHUB + "      groups: [a]\n", 'the kind github has no "groups", which is for gitlab, oidc'),
        (
            HEAD + "    - kind: oidc\n      client_id: x\n      client_secret_file: secret\n",
            'the kind oidc needs a "url"',
        ),
        (HEAD + GITHUB + "      url: http://git.example.org\n", "must begin with https://"),
        (HEAD + GITHUB + "      client_secret_variable: X\n", "from one place"),
        (HEAD + GITHUB + GITHUB, '2 methods are named "github"'),
        (HEAD + GITHUB + "      name: link\n", "which Cupola uses itself"),
        (HEAD + "    - kind: local\n    - kind: local\n      name: other\n", "one holds all accounts"),
        (HEAD + "    - kind: custom\n", 'needs an "authenticator"'),
        (HEAD.replace("docker", "process") + GITHUB, "set `compute: docker`"),
        (HEAD + GITHUB + "  rule_hours: 0\n", "expected a whole number from 1 to 720"),
    ],
)
def test_what_is_wrong_stops_the_start_with_a_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, text))
    assert sentence in str(refused.value)
    assert "cupola.yaml, line " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "two words", "x" * 5000, None])
def test_a_secret_that_is_none_stops_the_start(tmp_path, content):
    file = write(tmp_path, HEAD + GITHUB)
    if content is None:
        (tmp_path / "secret").unlink()
    else:
        (tmp_path / "secret").write_text(content)
    with pytest.raises(ConfigError, match="sign-in method github"):
        load(file)


def test_nobody_is_let_in_by_default(tmp_path):
    config = load(write(tmp_path, "{}\n"))
    assert config.sign_in.methods == []
    assert config.sign_in.allow_list is None
