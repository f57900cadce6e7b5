"""The lock of what a user installed, and its way to another version; with real pip and real wheels, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.exceptions import ConflictError
from cupola.lab.overlay import Overlay
from cupola.lab.packages import Packages, installed, report
from cupola.models.packages import Fate
from support.wheels import make_wheel

OLD, NEW = "sha256:" + "aa" * 32, "sha256:" + "bb" * 32


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """The only index pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "CUPOLA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if has_pip.returncode:
        pytest.skip("this environment has no pip; the system tests check it in a real session")
    return folder


@pytest.fixture
def on(tmp_path):
    """Return the packages of the user on a version, whose environment is made where it is missing."""

    def made(digest):
        overlay = Overlay(tmp_path / ".cupola" / "environments" / digest[7:19])
        overlay.prepare()
        return Packages(tmp_path / ".cupola", digest, python=overlay.python)

    return made


def pip(packages, *arguments):
    wrapper = packages.python.parent / "pip"
    environment = {
        **os.environ,
        "CUPOLA_RUNTIME": str(packages.file.parents[1]),
        "CUPOLA_VERSION": packages.digest,
    }
    return subprocess.run([wrapper, *arguments], env=environment, check=True, capture_output=True, text=True)


def test_what_pip_installs_is_in_the_lock_when_pip_is_done(wheels, on):
    make_wheel(wheels, "asteroids", "1.2", "")
    here = on(OLD)
    assert here.record() is None
    pip(here, "install", "-q", "asteroids")
    told = json.loads(here.file.read_text())
    assert told["digest"] == OLD
    assert told["packages"] == [{"name": "asteroids", "version": "1.2", "source": None, "requested": True}]
    pip(here, "uninstall", "-q", "-y", "asteroids")
    assert json.loads(here.file.read_text())["packages"] == []


def test_a_lock_that_is_up_to_date_is_not_written_again(wheels, on):
    make_wheel(wheels, "asteroids", "1.2", "")
    here = on(OLD)
    pip(here, "install", "-q", "asteroids")
    before = here.file.stat()
    lock = here.record()
    assert here.file.stat().st_ino == before.st_ino
    assert here.record() == lock


def test_a_package_from_elsewhere_keeps_its_source_without_the_password(tmp_path):
    place = tmp_path / "site" / "odd-1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: Odd_One\nVersion: 1.0\n")
    url = {
        "url": "https://ada:secret@git.example.org/odd.git",
        "vcs_info": {"vcs": "git", "commit_id": "abc"},
    }
    (place / "direct_url.json").write_text(json.dumps(url))
    broken = tmp_path / "site" / "broken-2.0.dist-info"
    broken.mkdir()
    [package] = installed(tmp_path / "site")
    assert package.name == "odd-one"
    assert package.source == "git+https://git.example.org/odd.git@abc"
    assert not package.requested


def test_on_another_version_each_package_has_a_fate_and_nothing_changes_before_it_is_asked_for(wheels, on):
    """One can be as it was, one only in another release, one not at all; and one the version has itself."""
    for name, version in (("asteroids", "1.2"), ("comets", "1.0"), ("meteors", "3.0")):
        make_wheel(wheels, name, version, "")
    old = on(OLD)
    pip(old, "install", "-q", "asteroids", "comets", "meteors")
    (wheels / "comets-1.0-py3-none-any.whl").unlink()
    make_wheel(wheels, "comets", "2.0", "")
    (wheels / "meteors-3.0-py3-none-any.whl").unlink()
    new = on(NEW)
    plan = new.plan()
    fates = {package.name: (package.fate, package.now) for package in plan.packages}
    assert fates == {
        "asteroids": (Fate.SAME, "1.2"),
        "comets": (Fate.OTHER, "2.0"),
        "meteors": (Fate.NOT, None),
    }
    assert installed(new.site) == []
    assert not new.file.exists()
    lines = "\n".join(report(plan))
    assert "comets 1.0 -> 2.0" in lines
    assert "meteors 3.0 (No matching distribution" in lines or "meteors 3.0 (Could not find" in lines

    steps = []
    done = new.restore(steps.append)
    assert {p.name: p.version for p in installed(new.site)} == {"asteroids": "1.2", "comets": "2.0"}
    assert [package.name for package in done.of(Fate.NOT)] == ["meteors"]
    # Again is not refused, and what was done is not done twice.
    assert json.loads(new.file.read_text())["packages"][0]["name"] == "asteroids"
    # The old version is as it was.
    assert {p.name: p.version for p in installed(old.site)} == {
        "asteroids": "1.2",
        "comets": "1.0",
        "meteors": "3.0",
    }


def test_a_restore_that_was_cut_short_goes_on(wheels, on):
    for name in ("asteroids", "comets"):
        make_wheel(wheels, name, "1.0", "")
    pip(on(OLD), "install", "-q", "asteroids", "comets")
    new = on(NEW)
    # As a kill in the middle leaves it: one is there, nothing is written down.
    python = [str(new.python), "-m", "pip", "install", "-q", "--no-deps", "asteroids==1.0"]
    subprocess.run(python, check=True)
    plan = new.plan()
    assert {package.name: package.fate for package in plan.packages} == {
        "asteroids": Fate.THERE,
        "comets": Fate.SAME,
    }
    new.restore()
    assert [package.name for package in installed(new.site)] == ["asteroids", "comets"]
    assert new.plan() is None


def test_a_package_that_the_version_has_itself_is_not_installed_again(wheels, on):
    have = next(
        p for p in installed(Path(sys.prefix) / "lib" / "python3.11" / "site-packages") if p.name == "idna"
    )
    old = on(OLD)
    make_wheel(wheels, "idna", have.version, "")
    subprocess.run(
        [
            str(old.python),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--ignore-installed",
            f"idna=={have.version}",
        ],
        check=True,
    )
    old.record()
    plan = on(NEW).plan()
    assert [(p.name, p.fate) for p in plan.packages] == [("idna", Fate.THERE)]


def test_doing_without_is_remembered(wheels, on):
    make_wheel(wheels, "asteroids", "1.2", "")
    pip(on(OLD), "install", "-q", "asteroids")
    new = on(NEW)
    new.dismiss()
    assert new.plan() is None
    assert installed(new.site) == []


def test_the_command_in_a_session(wheels, on):
    make_wheel(wheels, "asteroids", "1.2", "")
    old, new = on(OLD), on(NEW)
    pip(old, "install", "-q", "asteroids")
    assert command(old, "packages").stdout == "asteroids 1.2\n"
    assert "can be installed again as they were: asteroids 1.2" in command(new, "packages", "plan").stdout
    assert "installed as they were: asteroids 1.2" in command(new, "packages", "restore").stdout
    assert command(new, "packages", "restore").stdout == "There is nothing to restore.\n"
    refused = command(new, "storage", check=False)
    assert refused.returncode == 1
    assert "this is no session of a Cupola platform" in refused.stderr


def command(packages, *arguments, check=True):
    environment = {
        **os.environ,
        "CUPOLA_RUNTIME": str(packages.file.parents[1]),
        "CUPOLA_VERSION": packages.digest,
    }
    words = [packages.python.parent / "cupola", *arguments]
    return subprocess.run(words, env=environment, check=check, capture_output=True, text=True)


def test_a_clean_session_says_that_it_has_no_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path))
    monkeypatch.setenv("CUPOLA_CLEAN", "1")
    with pytest.raises(ConflictError, match="not started clean"):
        Packages.here()


def test_a_lock_that_is_broken_is_no_lock(wheels, on):
    make_wheel(wheels, "asteroids", "1.2", "")
    pip(on(OLD), "install", "-q", "asteroids")
    new = on(NEW)
    (new.file.parent / "cccccccccccc.json").write_text("{")
    (new.file.parent / "dddddddddddd.json").write_bytes(b"\xff\xfe")
    assert [package.name for package in new.plan().packages] == ["asteroids"]
