"""The how-tos of deferred processing, block by block, with a real portal that runs their jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.lab.samples import make
from support.jobs_portal import DIGEST, Portal

pytestmark = pytest.mark.system

HOWTOS = Path(__file__).parents[2] / "docs" / "howto"
TERMINAL = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    made = Portal(tmp_path_factory.mktemp("platform"))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make(tmp_path_factory.mktemp("samples") / "sample-archive", small=True)


@pytest.fixture(autouse=True)
def session(portal, archive, monkeypatch, tmp_path):
    mount = {"volume": "sample-archive", "source": str(archive), "target": str(archive), "access": "read"}
    monkeypatch.setenv("CUPOLA_API_URL", portal.url)
    monkeypatch.setenv("CUPOLA_TOKEN", "anybody")
    monkeypatch.setenv("CUPOLA_VOLUMES", json.dumps([mount]))
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.delenv("CUPOLA_SESSION", raising=False)
    monkeypatch.setenv("HOME", str(portal.home))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["earth", "mars", "moon-pole", "planetary-steps", "products", "sky-images", "swath", "terrain"]
)
def test_its_blocks_run_one_after_the_other(name, capsys):
    names = {"__name__": "__main__"}
    blocks = BLOCK.findall((HOWTOS / f"{name}.md").read_text(encoding="utf-8"))
    assert len(blocks) > 3
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{name}.md, block {number}", "exec"), names)  # noqa: S102 - the how-to is our own
    job = names["job"]
    assert job.state == "done"
    assert len(job.products) > 0
    assert all(asset.reachable for item in job.products for asset in item.assets.values())
    assert capsys.readouterr().out.strip()
    for line in TERMINAL.findall((HOWTOS / f"{name}.md").read_text(encoding="utf-8")):
        run_in_a_terminal(line.strip())


def run_in_a_terminal(line):
    """Run a line of the how-to as a person types it; its first word is this environment's."""
    place = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": place, "CUPOLA_VERSION": DIGEST}
    done = subprocess.run(
        ["bash", "-euc", line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    assert done.stdout.strip()
