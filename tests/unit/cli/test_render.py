from __future__ import annotations

import stat

import pytest
import yaml

from cupola import cli
from cupola.config import load


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


def test_compose_has_the_platform_and_a_database_that_only_this_machine_reaches(rendered, tmp_path):
    folder, code, said = rendered(f"compute: docker\nstate: {tmp_path}/state\ntitle: Mars\n")
    assert code == 0, said.err
    plan = yaml.safe_load((folder / "compose.yaml").read_text())
    assert plan["services"]["database"]["ports"] == ["127.0.0.1:5432:5432"]
    platform = plan["services"]["platform"]
    assert platform["network_mode"] == "host"
    [state] = [volume for volume in platform["volumes"] if isinstance(volume, dict)]
    # Homes are mounted into sessions by the engine on the host, by the same path.
    assert state["source"] == state["target"] == f"{tmp_path}/state"
    assert state["bind"]["propagation"] == "rshared"
    inside = yaml.safe_load((folder / "cupola.yaml").read_text())
    assert (inside["title"], inside["database"]) == ("Mars", {"url_file": "/run/secrets/database"})
    assert load(folder / "cupola.yaml").title == "Mars"


def test_secrets_are_in_files_of_their_own_and_a_second_run_keeps_them(rendered, tmp_path):
    text = f"compute: docker\nstate: {tmp_path}/state\n"
    folder, _, _ = rendered(text)
    word = (folder / "secrets" / "postgres-password").read_text()
    assert len(word) > 30
    assert (
        f"postgresql://cupola:{word}@127.0.0.1:5432/cupola\n" == (folder / "secrets" / "database").read_text()
    )
    for file in folder.rglob("*"):
        if file.is_file() and file.parent.name != "secrets":
            assert word not in file.read_text()
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secrets" / "database").stat().st_mode) == 0o600
    rendered(text)
    assert (folder / "secrets" / "postgres-password").read_text() == word


def test_processes_in_a_container_are_refused(rendered):
    folder, code, said = rendered("compute: process\n")
    assert code == 1
    assert "compute: docker" in said.err
    assert not folder.exists()
