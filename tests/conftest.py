"""What all tests share: the real sample data, and a word on what was skipped."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

# Once, here: a fixture that is imported in several places is made once for each of them.
from support.fixtures import engine, new_platform, platform
from support.images import images
from support.lanes import (
    pytest_collection_modifyitems,
    pytest_configure_node,
    pytest_runtest_protocol,
    pytest_xdist_make_scheduler,
)
from support.matrix import matrix, pytest_sessionfinish, pytest_testnodedown
from support.pools import htcondor_pool, slurm_pool
from support.reports import pytest_runtest_makereport
from support.weak_hub import weak_hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from _pytest.terminal import TerminalReporter

__all__ = [
    "engine",
    "htcondor_pool",
    "images",
    "matrix",
    "new_platform",
    "platform",
    "pytest_collection_modifyitems",
    "pytest_configure_node",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_testnodedown",
    "pytest_xdist_make_scheduler",
    "slurm_pool",
    "weak_hub",
]

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Give requests the time that a loaded machine takes: where a test names no timeout, httpx gives up after 5 s."""
    for wait in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, wait, 60)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden files be written anew."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Compare JSON with the file of that name in the folder ``golden`` beside the test."""

    def compare(name: str, content: Any) -> None:
        file = request.path.parent / "golden" / f"{name}.json"
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        assert file.is_file(), f"{file} is missing: run pytest --update-golden and look at what it wrote"
        assert text == file.read_text(), "run pytest --update-golden if this change is meant"

    return compare


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data of several missions, which is no part of the repository."""
    named = os.environ.get("CUPOLA_SHARED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there are no real sample data in {folder}; CUPOLA_SHARED_DATA names their folder")
    return folder


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """Load a script of the repository, which is no part of the package, as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"tool_{Path(name).stem}", ROOT / name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own platform out of the tests."""
    for name in ("CUPOLA_CONFIG", "CUPOLA_STATE", "CUPOLA_PORT"):
        monkeypatch.delenv(name, raising=False)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print at the end what was skipped, and why: a missing program must not go unnoticed."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        longrepr = report.longrepr
        reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("Skipped")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count} x {reason}")
