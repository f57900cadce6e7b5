from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from cupola import cli
from cupola.config import load
from cupola.config.database import postgresql_address


@pytest.fixture
def rendered(tmp_path, capsys, monkeypatch):
    """Render into a folder and return it with what was said."""
    for name in ("CUPOLA_CONFIG", "CUPOLA_STATE", "CUPOLA_PORT"):
        monkeypatch.setenv(name, "")

    def do(text):
        file, folder = tmp_path / "cupola.yaml", tmp_path / "out"
        file.write_text(text)
        with pytest.raises(SystemExit) as left:
            cli.main(["render", "compose", "--into", str(folder), "--config", str(file)])
        return folder, int(left.value.code or 0), capsys.readouterr()

    return do


def binds(plan):
    """Return what of the host the platform sees, by place."""
    found = [volume for volume in plan["services"]["platform"]["volumes"] if isinstance(volume, dict)]
    assert all(bind["source"] == bind["target"] for bind in found)
    return {Path(bind["source"]): bind for bind in found}


def test_compose_has_the_platform_and_a_database_that_nothing_else_reaches(rendered, tmp_path):
    folder, code, said = rendered(f"compute: docker\nstate: {tmp_path}/state\ntitle: Mars\nowner: ada\n")
    assert code == 0, said.err
    plan = yaml.safe_load((folder / "compose.yaml").read_text())
    database, platform = plan["services"]["database"], plan["services"]["platform"]
    assert database["network_mode"] == "none"
    assert platform["network_mode"] == platform["pid"] == "host"
    [socket] = {volume.split(":")[0] for volume in database["volumes"]} & {
        volume.split(":")[0] for volume in platform["volumes"] if isinstance(volume, str)
    }
    assert socket == "database-socket"
    # Homes are mounted into sessions by the engine on the host, by the same path.
    state = binds(plan)[tmp_path / "state"]
    assert state["bind"]["propagation"] == "rshared"
    assert Path(platform["environment"]["TMPDIR"]).is_relative_to(tmp_path / "state")
    assert Path(platform["environment"]["TMPDIR"]).is_dir()
    inside = load(folder / "cupola.yaml")
    assert (inside.title, inside.owner, inside.paths.state) == ("Mars", "ada", tmp_path / "state")
    assert postgresql_address(inside) == "postgresql://cupola@/cupola?host=/run/postgresql"
    assert stat.S_IMODE((folder / "cupola.yaml").stat().st_mode) == 0o600


def test_what_the_configuration_names_is_seen_by_its_own_path(rendered, tmp_path):
    for name in ("images", "survey", "drop", "tls", "archive"):
        (tmp_path / name).mkdir()
    for file in ("archive/chain-3.pem", "archive/key-3.pem"):
        (tmp_path / file).touch()
    # As certbot lays them out: a link, which changes at each renewal.
    (tmp_path / "tls/chain.pem").symlink_to("../archive/chain-3.pem")
    (tmp_path / "tls/key.pem").symlink_to("../archive/key-3.pem")
    folder, code, said = rendered(
        f"""
compute: docker
state: {tmp_path}/state
url: https://lab.example.org
server:
  certificate: {tmp_path}/tls/chain.pem
  certificate_key: {tmp_path}/tls/key.pem
folders:
  images: {tmp_path}/images
volumes:
  - {{name: survey, title: Survey, path: {tmp_path}/survey}}
  - {{name: drop, title: Drop, path: {tmp_path}/drop, access: write}}
"""
    )
    assert code == 0, said.err
    seen = binds(yaml.safe_load((folder / "compose.yaml").read_text()))
    writable = {place.name for place, bind in seen.items() if not bind.get("read_only")}
    assert writable == {"state", "images", "drop"}
    assert {place.name for place in seen} - writable == {"out", "tls", "archive", "survey"}


def test_a_secret_in_a_variable_is_passed_on_and_not_written_down(rendered, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SECRET", "hush-hush")
    folder, code, said = rendered(
        f"""
compute: docker
state: {tmp_path}/state
url: https://lab.example.org
sign_in:
  methods:
    - {{kind: github, client_id: abc, client_secret_variable: LAB_SECRET, organisations: [mars]}}
"""
    )
    assert code == 0, said.err
    plan = yaml.safe_load((folder / "compose.yaml").read_text())
    assert plan["services"]["platform"]["environment"]["LAB_SECRET"] is None
    assert not any("hush-hush" in file.read_text() for file in folder.rglob("*") if file.is_file())


@pytest.mark.usefixtures("rendered")  # its environment
def test_the_folder_of_the_configuration_itself_is_refused(tmp_path, capsys):
    file = tmp_path / "cupola.yaml"
    file.write_text("compute: docker\n")
    with pytest.raises(SystemExit) as left:
        cli.main(["render", "compose", "--into", str(tmp_path), "--config", str(file)])
    assert left.value.code == 1
    assert "--into" in capsys.readouterr().err
    assert file.read_text() == "compute: docker\n"


def test_processes_in_a_container_are_refused(rendered):
    folder, code, said = rendered("compute: process\n")
    assert code == 1
    assert "compute: docker" in said.err
    assert not folder.exists()
