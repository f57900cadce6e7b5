from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.lab.overlay import Overlay
from cupola.lab.session import prepare, settings
from support.wheels import make_wheel


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("CUPOLA_", "JUPYTER")):
            monkeypatch.delenv(name)
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("CUPOLA_VERSION", "sha256:" + "ab" * 32)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    # What prepare puts into the environment is taken back after the test.
    for name in ("CUPOLA_PYTHON", "CUPOLA_RUNTIME", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return place


def says(python, code):
    run = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_user_code_gets_an_overlay_that_sees_the_locked_packages(home):
    prepare()
    python = Path(os.environ["CUPOLA_PYTHON"])
    assert python == home / ".cupola" / "environments" / "abababababab" / "bin" / "python"
    assert says(python, "import numpy; print(numpy.__file__)").startswith(sys.prefix)
    assert says(python, "import sys; print(sys.prefix)") == str(python.parent.parent)
    assert os.environ["PATH"].split(":")[:2] == [str(python.parent), str(Path(sys.prefix) / "bin")]
    assert not (python.parent.parent / "lib" / "python3.11" / "site-packages" / "pip").exists()


@pytest.mark.usefixtures("home")
def test_the_kernel_is_the_overlays():
    prepare()
    folder = Path(os.environ["JUPYTER_PATH"].split(":")[0])
    spec = json.loads((folder / "kernels" / "python3" / "kernel.json").read_text())
    assert spec["argv"][0] == os.environ["CUPOLA_PYTHON"]


@pytest.mark.usefixtures("home")
def test_widgets_are_saved_with_their_notebook_so_that_a_panel_lives_again():
    from jupyterlab_server.settings_utils import _get_overrides

    prepare()
    defaults, error = _get_overrides("/nowhere")
    assert not error
    assert defaults["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}


def test_a_clean_start_leaves_the_overlay_out(home, monkeypatch):
    monkeypatch.setenv("CUPOLA_CLEAN", "1")
    prepare()
    assert os.environ["CUPOLA_PYTHON"] == str(Path(sys.prefix) / "bin" / "python")
    assert not (home / ".cupola" / "environments").exists()
    folder = Path(os.environ["JUPYTER_PATH"].split(":")[0])
    assert json.loads((folder / "kernels" / "python3" / "kernel.json").read_text())["argv"][0].startswith(
        sys.prefix
    )


@pytest.mark.usefixtures("home")
def test_what_is_installed_lies_in_the_overlay_and_wins(tmp_path):
    prepare()
    overlay = Path(os.environ["CUPOLA_PYTHON"]).parent.parent
    before = says(sys.executable, "import wcwidth; print(wcwidth.__file__)")
    wheel = make_wheel(tmp_path, "wcwidth", "99.0", "__version__ = '99.0'\n")
    if subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this environment has no pip; the system tests check it in a real session")
    subprocess.run(
        [overlay / "bin" / "pip", "install", "-q", "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True,
    )
    assert says(overlay / "bin" / "python", "import wcwidth; print(wcwidth.__version__)") == "99.0"
    assert says(sys.executable, "import wcwidth; print(wcwidth.__file__)") == before


def test_an_overlay_is_mended_and_keeps_what_was_installed(tmp_path):
    overlay = Overlay(tmp_path / "it")
    overlay.prepare()
    (overlay.packages / "mine.py").write_text("x = 1")
    # kill -9 in the middle of its making, or an interpreter that was removed.
    (overlay.folder / ".whole").unlink()
    overlay.python.unlink()
    (overlay.packages / "_cupola_locked.pth").write_text("")
    overlay.prepare()
    assert says(overlay.python, "import mine, numpy; print(mine.x)") == "1"


def test_a_home_that_cannot_be_written_still_gets_a_session(home, capsys):
    (home / ".cupola").write_text("a file where the folder should be")
    prepare()
    assert os.environ["CUPOLA_PYTHON"] == str(Path(sys.prefix) / "bin" / "python")
    assert "without your own packages" in capsys.readouterr().err


def test_the_server_asks_nothing_of_the_internet(home):
    chosen = settings()
    assert "--LabApp.news_url=None" in chosen
    assert f"--ServerApp.root_dir={home}" in chosen
    (extensions,) = (one for one in chosen if "jpserver_extensions" in one)
    # Voilà takes a second to load: see cupola.lab.dashboards.
    assert extensions.endswith("={'cupola.lab.extension': True, 'voila.server_extension': False}")


def test_settings_in_the_home_do_not_reach_the_server(home):
    """They are Python: a wrong line, or one of a visitor's, would keep every session of its owner from starting."""
    (home / ".jupyter").mkdir()
    (home / ".jupyter" / "jupyter_server_config.py").write_text("raise SystemExit('locked out')\n")
    read = (
        "from jupyter_server.serverapp import ServerApp\n"
        "server = ServerApp(); server.load_config_file(); print(*server.config_file_paths, sep='\\n')"
    )
    with pytest.raises(subprocess.CalledProcessError):
        says(sys.executable, read)
    places = says(sys.executable, f"from cupola.lab.session import pass_over_home; pass_over_home()\n{read}")
    assert str(Path(sys.prefix) / "etc" / "jupyter") in places.splitlines()
    assert str(home) not in places
