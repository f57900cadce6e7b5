from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.config import Compute, Config, LogLevel, load
from cupola.exceptions import ConfigError
from cupola.models.volume import Access

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def do(text: str) -> Path:
        file = tmp_path / "cupola.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return do


def complaint(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value).replace(str(file), "cupola.yaml")


def test_nothing_given_gives_the_defaults(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    config = load()
    assert config.file is None
    assert config.state == tmp_path / "data" / "cupola"
    assert config.compute is Compute.PROCESS
    assert config.address == "http://127.0.0.1:8000"
    assert config.profile.cores == config.engines.local.cores == len(os.sched_getaffinity(0))
    assert config.profile.memory_mib > 100


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n", "server:\nvolumes:\n", "~\n"])
def test_an_empty_file_gives_the_defaults_with_the_state_beside_it(write, text, tmp_path):
    if text.startswith("server"):
        text = "server:\nprofile:\nengines:\n  local:\nfolders:\nlog:\n"
    config = load(write(text))
    assert config.state == tmp_path / "cupola-state"
    assert config.server.port == 8000


def test_all_that_can_be_set(write, tmp_path):
    file = write("""
title: Institut für Planetenforschung
state: ../elsewhere
owner: maria.k
compute: process
server: {address: "::1", port: 9000}
profile: {sessions: 2, cores: 3, memory_mib: 4096}
engines: {local: {cores: 1}}
sample_archive: false
volumes:
  - {name: mars, title: Mars, path: data/mars, access: write, licence: CC0-1.0, citation: Me, example: a.ipynb}
folders: {environments: envs, homes: /srv/homes}
log: {level: warning}
""")
    config = load(file)
    assert config.title == "Institut für Planetenforschung"
    assert config.state == tmp_path / ".." / "elsewhere"
    assert config.address == "http://[::1]:9000"
    assert (config.profile.sessions, config.profile.cores, config.engines.local.cores) == (2, 3, 1)
    assert config.volumes[0].path == tmp_path / "data" / "mars"
    assert config.volumes[0].access is Access.WRITE
    assert config.log.level is LogLevel.WARNING
    assert config.file == file
    paths = config.paths
    assert (paths.environments, str(paths.homes)) == (tmp_path / "envs", "/srv/homes")
    assert paths.home("maria") == paths.homes / "maria"
    assert paths.session_log("lab-1") == paths.state / "log" / "sessions" / "lab-1.log"


def test_an_unknown_key_names_file_line_and_suggestion(write):
    text = "title: A\n\nserver:\n  address: 127.0.0.1\n  # a comment\n\n  prot: 8001\n"
    assert complaint(write(text)) == 'cupola.yaml, line 7: unknown key "prot" in server; did you mean "port"?'


WRONG = [
    ("port: 1\n", 'line 1: unknown key "port"; did you mean "server.port"?'),
    ("xyzzy: 1\n", 'line 1: unknown key "xyzzy"; known are title, state, owner,'),
    ("server:\n  port: abc\n", 'line 2: server.port is "abc"; expected a whole number from 1 to 65535'),
    ("server:\n  port: 65536\n", "line 2: server.port is 65536; expected a whole number"),
    ("server:\n  port: 80.5\n", "line 2: server.port is 80.5; expected a whole number"),
    ("server:\n  port: true\n", "line 2: server.port is true; expected a whole number"),
    ("server:\n  port:\n", "line 2: server.port is empty; expected a whole number"),
    ("server: 8000\n", "line 1: server is 8000; expected settings of its own"),
    ("url: ftp://x\n", 'line 1: url is "ftp://x"; expected an address'),
    ("title: 2026\n", "line 1: title is 2026; expected text"),
    ("sample_archive: no\n", 'line 1: sample_archive is "no"; expected true or false'),
    ("compute: podman\n", 'line 1: compute is "podman"; expected one of process, docker'),
    ("owner: Maria\n", 'line 1: owner is "Maria"; expected small letters'),
    ("owner: ../x\n", "line 1: owner is"),
    ("state: ''\n", 'line 1: state is ""; expected a folder'),
    ("title: a\ntitle: b\n", 'line 2: the key "title" was given before, in line 1'),
    (
        "volumes:\n  - name: a\n    title: A\n",
        'line 2: volumes, entry 1: it needs one of "path", "bucket"',
    ),
    (
        "volumes:\n  - title: A\n    path: x\n    nam: a\n",
        'line 4: unknown key "nam" in volumes, entry 1; did you mean "name"?',
    ),
    (
        "volumes:\n  - {name: a, title: A, path: x, export: {server: nas, path: /x}}\n",
        "line 2: volumes, entry 1: it has path and export: keep the one",
    ),
    (
        "volumes:\n  - name: a\n    title: A\n    bucket: {endpoint: 'https://s3.example.org', buket: abc}\n",
        'line 4: unknown key "buket" in volumes, entry 1, bucket; did you mean "bucket"?',
    ),
    (
        "volumes:\n  - {name: a, title: A, bucket: {endpoint: 's3.example.org', bucket: abc}}\n",
        'volumes, entry 1, bucket, endpoint is "s3.example.org"; expected an address with https://',
    ),
    (
        "volumes:\n  - {name: a, title: A, path: x, example: ../../etc/passwd}\n",
        'volumes, entry 1, example is "../../etc/passwd"; expected a relative path without . and ..',
    ),
    (
        "volumes:\n  - {name: a, title: A, path: x, variable: PYTHONPATH}\n",
        'volumes, entry 1: it has the variable "PYTHONPATH", which the session itself needs',
    ),
    ("volumes:\n  - {name: a, title: A, path: x, variable: isis}\n", "expected capital letters"),
    ("custom_volumes: {allow: ['not a host']}\n", "custom_volumes.allow, entry 1 is"),
    ("volumes:\n  - 5\n", "line 2: volumes, entry 1 is 5; expected settings such as name and title"),
    ("volumes:\n  a: b\n", "line 1: volumes is a group of settings; expected a list of volumes"),
    ("- a\n- b\n", 'line 1: settings are expected here, such as "title: Cupola"'),
    ("just words\n", "line 1: settings are expected here"),
    ("title: [\n", "line 2: this is no valid YAML"),
    ("a: b: c\n", "line 1: this is no valid YAML: mapping values are not allowed here"),
    ("title: x\n---\ntitle: y\n", "line 2: this is no valid YAML"),
    ("title: !!python/name:os.system x\n", "line 1: this value cannot be read"),
    ("title: !!int x\n", "line 1: this value cannot be read"),
    ("title: &a [*a]\n", "line 1: an alias must not contain itself"),
    ("? [a]\n: b\n", "line 1: a key must be a plain word"),
    ("title: \x01\n", "line 1: there is a character that YAML does not allow"),
    ("[" * 800, "it is nested too deeply"),
    (
        "volumes:\n  - {name: a, title: A, path: x}\n  - {name: a, title: B, path: y}\n",
        'line 1: 2 volumes are named "a"; give each a name of its own',
    ),
    (
        "volumes:\n  - {name: home, title: A, path: x}\n",
        'line 1: a volume is named "home", which Cupola uses itself',
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said_with_its_line(write, text, said):
    assert f"cupola.yaml{'' if said.startswith('it is') else ', '}" in complaint(write(text))
    assert said in complaint(write(text))


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(write):
    lines = complaint(write("titel: a\nserver:\n  port: x\nlog:\n  level: loud\nowner: É\n")).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"cupola.yaml, line {number}" for number in (1, 3, 5, 6)
    ]


def test_a_long_value_is_shortened(write):
    assert len(complaint(write(f"owner: {'X' * 500}\n"))) < 250


def test_files_that_cannot_be_read(tmp_path, write):
    assert "cupola init" in complaint(tmp_path / "none.yaml")
    assert "cannot be read" in complaint(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("title: a\nowner: M\xfcller\n".encode("latin-1"))
    assert "latin.yaml, line 2: this is no UTF-8 text" in complaint(tmp_path / "latin.yaml")
    assert "larger than 1 MiB" in complaint(write("# " + "x" * 2**20))


def test_the_file_is_found(monkeypatch, tmp_path, write):
    file = write("title: Here\n")
    monkeypatch.chdir(tmp_path)
    assert (load().title, load().file) == ("Here", file)
    other = tmp_path / "other.yaml"
    other.write_text("title: Other\n", encoding="utf-8")
    monkeypatch.setenv("CUPOLA_CONFIG", str(other))
    assert load().title == "Other"
    assert load(file).title == "Here"
    monkeypatch.setenv("CUPOLA_CONFIG", str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigError, match=r"no file .*gone\.yaml"):
        load()


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path, write):
    file = write("state: a\nserver:\n  port: 9000\n")
    monkeypatch.setenv("CUPOLA_STATE", str(tmp_path / "b"))
    monkeypatch.setenv("CUPOLA_PORT", "9001")
    config = load(file)
    assert (config.state, config.server.port) == (tmp_path / "b", 9001)


@pytest.mark.parametrize("port", ["0", "65536", "abc", "-1", "8e3", "٣", "9" * 5000, " 1"])
def test_a_wrong_port_in_the_environment(monkeypatch, tmp_path, port):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUPOLA_PORT", port)
    with pytest.raises(ConfigError, match="CUPOLA_PORT is"):
        load()


def test_a_config_can_be_made_without_a_file(tmp_path):
    config = Config(state=tmp_path)
    assert config.paths.lock == tmp_path / "run" / "lock"
    assert config.paths.sample_archive == tmp_path / "archives" / "sample-archive"


@given(text=st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_any_text_gives_a_config_or_a_sentence(tmp_path, text):
    file = tmp_path / "cupola.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        assert load(file).file == file
