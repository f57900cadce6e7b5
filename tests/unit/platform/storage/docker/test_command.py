"""The docker command, played by small shell scripts that say what real ones said."""

from __future__ import annotations

import pytest

from cupola.exceptions import StartError
from cupola.platform.storage.docker import command
from cupola.platform.storage.docker.command import DockerCommand, engine_environment, find_docker

SAID = r"""#1 [internal] load build definition from Dockerfile
#1 sha256:c3a636fbf44066f0457ab778b62487268be3c6397f
#1 DONE 0.0s
#5 [packages 3/3] RUN --mount=type=secret,id=host . /etc/cupola/host && uv pip install
#5 0.180 Resolved 235 packages in 2.40s
#5 0.190 something else
#6 exporting to image
"""


def script(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "docker"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:/usr/bin:/bin")
    return tmp_path


def test_a_command_whose_buildkit_works_is_found(path):
    script(path / "a", '[ "$1" = version ] && echo 28.2.2 || exit 1')
    works = script(path / "b", '[ "$1" = version ] && echo 20.10.24+dfsg1 || exit 1')
    assert find_docker("unix:///none") == works
    plugged = script(path / "a", 'case "$1" in version) echo 28.2.2;; buildx) echo v0.20;; esac')
    assert find_docker("unix:///none") == plugged


def test_what_is_missing_is_said(path, monkeypatch):
    monkeypatch.setattr(
        command.shutil, "which", lambda _, path: path + "/docker" if path.endswith("/a") else None
    )
    script(path / "a", '[ "$1" = version ] && echo 28.2.2 || exit 1')
    with pytest.raises(StartError, match="buildx"):
        find_docker("unix:///none")
    monkeypatch.setattr(command.shutil, "which", lambda *_, **__: None)
    with pytest.raises(StartError, match=r"docker\.io"):
        find_docker("unix:///none")


def test_it_talks_to_the_configured_engine_only(monkeypatch):
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    monkeypatch.setenv("DOCKER_HOST", "tcp://other")
    environment = engine_environment("unix:///mine")
    assert environment["DOCKER_HOST"] == "unix:///mine"
    assert "DOCKER_CONTEXT" not in environment


@pytest.fixture
def build(path, tmp_path):
    def run(text):
        script(path / "a", f'[ "$1" = version ] && echo 20.10.24 && exit\n{text}')
        told = []
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        (tmp_path / "log").write_text("")
        image = DockerCommand("unix:///none").build(
            name="probe",
            context=context,
            secret=tmp_path / "secret",
            arguments={"BASE": "cupola/base:1"},
            labels={"cupola.datalab": "probe"},
            log=tmp_path / "log",
            tell=told.append,
        )
        return image, told

    return run


IDENTITY = (
    'for word in "$@"; do case $word in --iidfile=*) printf sha256:abc > "${word#--iidfile=}";; esac; done'
)


def test_what_happens_is_told_in_short(build, tmp_path):
    image, told = build(f"cat <<'END'\n{SAID}END\n{IDENTITY}")
    assert image == "sha256:abc"
    assert told == ["packages 3/3: RUN uv pip install", "Resolved 235 packages in 2.40s"]
    assert "something else" in (tmp_path / "log").read_text()


def test_a_failure_tells_its_last_words(build):
    with pytest.raises(StartError, match="it is broken") as failed:
        build("echo '#7 1.234 it is broken'; echo '#7 ERROR: exit code: 1'; exit 1")
    assert "\n" not in str(failed.value)
    with pytest.raises(StartError, match="disk of the Docker engine is full"):
        build("echo '#7 1.2 cp: write error: No space left on device'; exit 1")
    with pytest.raises(StartError, match="nothing"):
        build("exit 1")


def test_a_registry_that_refuses_is_said(path, tmp_path):
    script(path / "a", '[ "$1" = version ] && echo 20.10.24 && exit\necho denied >&2; exit 1')
    with pytest.raises(StartError, match=r"denied.*docker login"):
        DockerCommand("unix:///none").push("registry.invalid/lab:1", tmp_path / "log", lambda _: None)
