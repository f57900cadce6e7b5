"""The rules that hold for the repository as a whole, and the tools that check them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tracked(repository):
    """All text files that git knows."""
    if not shutil.which("git") or not (repository / ".git").exists():
        pytest.skip("this is no git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True
    )
    files = {name: repository / name for name in done.stdout.split("\0") if name}
    binary = {".png", ".ico", ".woff2", ".pkl", ".tif"}
    return {name: file for name, file in files.items() if file.is_file() and file.suffix not in binary}


def test_limits_names_what_is_too_long(tool, tmp_path):
    limits = tool("tools/limits.py")
    file = tmp_path / "a.py"
    body = "    pass\n"
    file.write_text(
        "def short():\n"
        + body * 59
        + "\n\n@dec\nclass A:\n    @dec\n    def long(self):\n"
        + ("    " + body) * 59
    )
    assert list(limits.too_long(file)) == [f"{file}:65: long has 61 lines; split it (at most 60)"]
    file.write_text("x = 1\n" * 501)
    assert list(limits.too_long(file)) == [f"{file}: 501 lines; split it (at most 500)"]
    assert limits.main([str(tmp_path)]) == 1
    file.write_text("x = 1\n" * 500)
    assert limits.main([str(tmp_path)]) == 0
    assert limits.main([str(tmp_path / "none")]) == 1


def test_fragments_are_checked_and_gathered(tool, tmp_path):
    changes = tool("tools/changes.py")
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    (folder / "README.md").write_text("# No fragment\n")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n{changes.MARK}\n## 0.0.1 (2026-01-01)\n")
    assert changes.main(["--release", "0.1.0"], tmp_path) == 1  # there is nothing to release
    (folder / "a.md").write_text("### New\n\n- One\n  thing.\n")
    (folder / "b.md").write_text("### Fixed\n\n- Another.\n\n### New\n\n- Two.\n")
    assert changes.main([], tmp_path) == 0
    for wrong in ("## New\n- a\n", "### Added\n- a\n", "### New\n", "words\n", ""):
        (folder / "c.md").write_text(wrong)
        assert changes.main([], tmp_path) == 1, wrong
        assert changes.main(["--release", "0.1.0"], tmp_path) == 1, wrong
    (folder / "c.md").unlink()
    assert changes.main(["--release", "next"], tmp_path) == 1
    assert changes.main(["--release", "0.1.0"], tmp_path) == 0
    text = (tmp_path / "CHANGELOG.md").read_text()
    assert "### New\n\n- One\n  thing.\n- Two.\n\n### Fixed\n\n- Another.\n\n## 0.0.1" in text
    assert [file.name for file in folder.iterdir()] == ["README.md"]


def test_ci_runs_the_test_command_of_the_readme_and_nothing_else(repository):
    lines = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines == ["#!/usr/bin/env bash", "set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert (repository / ".ci" / "run").stat().st_mode & 0o111
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\$ (make \w+)", readme, re.MULTILINE) == ["make up", "make test"]


def test_make_lists_its_commands(repository):
    if not shutil.which("make"):
        pytest.skip("make is missing: apt-get install make")
    done = subprocess.run(["make"], cwd=repository, capture_output=True, text=True, check=True)
    named = re.findall(r"^  make (\w+) +\S", done.stdout, re.MULTILINE)
    targets = re.findall(r"^(\w+):", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert named == targets


# Put together here, so that this file does not name them either.
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry." + "npmjs",
    "registry.yarn" + "pkg",
    "deb." + "debian.org",
]


def test_no_committed_file_names_a_registry_or_a_place_of_one_machine(tracked):
    places = ["/work/" + "main", "/work/" + "shared", "/root" + "/."]
    for name, file in tracked.items():
        text = file.read_text(encoding="utf-8")
        # Recipes speak of the home of root in an image, not of this machine's.
        recipe = name.startswith(("environments/", "src/cupola/platform/storage/docker/", "deploy/"))
        for word in [*HOSTS, *(places[:2] if recipe else places)]:
            assert word not in text, f"{name} names {word}"


def test_no_committed_file_is_large_or_third_party(tracked):
    for name, file in tracked.items():
        assert "node_modules" not in name
        assert "/vendor/" not in name
        assert file.stat().st_size < 600_000, name


@pytest.mark.parametrize(
    "name",
    [
        "requirements/uv.lock",
        "requirements/platform.lock",
        "requirements/develop.lock",
        "environments/lab/requirements.lock",
    ],
)
def test_every_locked_package_has_its_version_and_hashes(repository, name):
    text = (repository / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        assert re.match(r"[a-z0-9.-]+==[^ ;]+ ", line), line[:80]
        assert HASH.search(line), line[:80]
    assert "://" not in text
    assert not re.search(r"^cupola==", text, re.MULTILINE)


def locked(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", file.read_text(encoding="utf-8"), re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    found = [
        re.match(r"[A-Za-z0-9._-]+", line.strip())
        for line in requirements
        if not line.strip().startswith("#")
    ]
    return {match.group().lower().replace("_", "-").replace(".", "-") for match in found if match}


def test_all_dependencies_are_locked(repository, project):
    extras = project["project"]["optional-dependencies"]
    base = names(project["project"]["dependencies"])
    build = names(project["build-system"]["requires"])
    groups = names([line for group in project["dependency-groups"].values() for line in group])
    lab_in = names((repository / "environments/lab/requirements.in").read_text(encoding="utf-8").splitlines())
    platform = locked(repository / "requirements/platform.lock")
    develop = locked(repository / "requirements/develop.lock")
    lab = locked(repository / "environments/lab/requirements.lock")
    assert base | names(extras["platform"]) | build <= set(platform)
    assert base | names(extras["lab"]) | names(extras["platform"]) | groups <= set(develop)
    assert base | names(extras["lab"]) | lab_in <= set(lab)
    assert names((repository / "requirements/build.in").read_text(encoding="utf-8").splitlines()) == build
    for name in set(platform) & set(develop):
        assert platform[name] == develop[name], f"{name} would change between make install and make test"
    assert platform["jupyterhub"] == lab["jupyterhub"], "hub and sessions speak the same version"


def test_the_npm_lock_names_no_server(repository):
    assets = repository / "src/cupola/platform/assets"
    assert "://" not in re.sub(
        r'"url": "[^"]*"', "", (assets / "package-lock.json").read_text(encoding="utf-8")
    )
    assert "omit-lockfile-registry-resolved=true" in (assets / ".npmrc").read_text(encoding="utf-8")


def test_import_contracts_say_what_contributing_says(project):
    contracts = {contract["name"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    layers = contracts["everything stands on client and models"]["layers"]
    assert layers[0] == "cupola.cli"
    assert layers[-2:] == ["cupola.models", "cupola.exceptions"]
    assert "cupola.hub | cupola.lab | cupola.platform" in layers[1]


def test_every_lint_exception_has_a_reason(repository):
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    ignored = text.split("[tool.ruff.lint]")[1].split("ignore = [")[1].split("\n]")[0]
    for line in ignored.strip().splitlines():
        assert "#" in line, f"say why {line.strip()} is ignored"


def test_yaml_and_toml_files_are_well_formed(tracked):
    for name, file in tracked.items():
        if file.suffix in {".yaml", ".yml"}:
            yaml.safe_load(file.read_text(encoding="utf-8"))
        elif file.suffix == ".toml":
            assert tomllib.loads(file.read_text(encoding="utf-8")), name
