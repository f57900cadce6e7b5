"""A full home: it stops its owner's writing, and still opens. On real btrfs, with a real Jupyter server."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from cupola.hub.processes import end
from cupola.platform.storage.quotas import BtrfsQuota, Limit, LoopQuota, Owner
from cupola.processes import marked_with
from support.disks import as_user, disk, needs, unmount_below, write_as
from support.kernels import run_in
from support.platform import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

MIB = 2**20
TOKEN = "of-the-test"
SERVE = """
import sys
from cupola.lab.session import prepare, settings
prepare()
from jupyterlab.labapp import LabApp
# There is no hub here to ask who somebody is.
of_the_hub = ("--ServerApp.identity_provider_class", "--ServerApp.authorizer_class")
sys.argv = ["jupyter-lab", *(line for line in settings() if not line.startswith(of_the_hub)), *sys.argv[1:]]
LabApp.launch_instance()
"""


@pytest.fixture
def folder():
    place = Path(tempfile.mkdtemp(prefix="cupola-full-"))
    place.chmod(0o755)
    yield place
    unmount_below(place)
    shutil.rmtree(place)


@pytest.fixture(params=["btrfs", "loop"])
def homes(request, folder):
    """A quota of each kind that can be tried here."""
    if request.param == "loop":
        needs("mkfs.ext4", "debugfs")
        quota = LoopQuota([folder / "homes"])
        quota.check()
        yield quota
        return
    needs("btrfs", "mkfs.btrfs")
    with disk(folder, "btrfs", 300) as place:
        quota = BtrfsQuota([place / "homes"])
        quota.check()
        yield quota


def fill(home):
    """Leave no byte and no inode."""
    for size in (MIB, 65536, 4096, 512, 1):
        number = 0
        try:
            while True:
                (home / f"fill-{size}-{number}").write_bytes(os.urandom(size))
                number += 1
        except OSError:
            continue


class Server:
    """A Jupyter server with the settings of a session, without a hub."""

    def __init__(self, home, log):
        self.port = free_port()
        self.session = f"quota-{secrets.token_hex(4)}"
        self.address = f"http://127.0.0.1:{self.port}/"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUPOLA_", "JUPYTER"))}
        environment = {
            **kept,
            "HOME": str(home),
            "CUPOLA_SESSION": self.session,
            "CUPOLA_VERSION": "sha256:" + "ab" * 32,
            "CUPOLA_VOLUMES": "[]",
            "CUPOLA_RUNTIME": str(home / ".cupola"),
        }
        arguments = [
            f"--ServerApp.port={self.port}",
            f"--IdentityProvider.token={TOKEN}",
            "--no-browser",
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVE, *arguments],
                env=environment,
                cwd=home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.http = httpx.Client(
            base_url=self.address, headers={"Authorization": f"token {TOKEN}"}, timeout=60, trust_env=False
        )
        try:
            self._wait(log)
        except AssertionError:
            self.close()
            raise

    def _wait(self, log):
        until = time.monotonic() + 90
        while True:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            try:
                if self.http.get("api").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)

    def run(self, code):
        """Start a kernel and run one cell."""
        kernel = self.http.post("api/kernels", json={"name": "python3"})
        assert kernel.status_code == 201, kernel.text
        address = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel.json()['id']}/channels?token={TOKEN}"
        with connect(address, max_size=None) as socket:
            return run_in(socket, code)

    def close(self):
        self.http.close()
        self.process.terminate()
        self.process.wait(30)
        # Kernels outlive their server.
        end(marked_with("CUPOLA_SESSION", self.session), seconds=5)


NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize("used_before", [True, False], ids=["used", "new"])
def test_a_full_home_opens_and_its_owner_can_delete(homes, folder, used_before):
    home = homes.roots[0] / "ada"
    neighbour = homes.roots[0] / "ben"
    for place in (home, neighbour):
        homes.prepare(place, Owner(None), Limit(64 * MIB, 3000))
    if used_before:
        first = Server(home, folder / "first.log")
        assert first.run("print(6 * 7)") == "42\n"
        first.close()
    (home / "kept.ipynb").write_text(json.dumps(NOTEBOOK))
    fill(home)
    held = homes.usage(home)
    assert held.used <= 64 * MIB + MIB
    (neighbour / "mine").write_bytes(os.urandom(8 * MIB))
    server = Server(home, folder / "second.log")
    try:
        page = server.http.get("lab")
        assert page.status_code == 200
        assert "jupyter-config-data" in page.text
        assert server.run("print(6 * 7)") == "42\n"
        # What cannot be saved is said, and says why.
        body = {"type": "notebook", "content": {**NOTEBOOK, "metadata": {"x": "y" * 200_000}}}
        refused = server.http.put("api/contents/new.ipynb", json=body)
        assert refused.status_code >= 400
        assert re.search("quota|No space|full", refused.text), refused.text
        refused = server.http.put("api/contents/kept.ipynb", json=body)
        assert refused.status_code >= 400
        assert json.loads((home / "kept.ipynb").read_text()) == NOTEBOOK
        # Deleting works, at once and for good.
        for name in sorted(item.name for item in home.iterdir() if item.name.startswith(f"fill-{MIB}-"))[:8]:
            assert server.http.delete(f"api/contents/{name}").status_code == 204
        small = [item.name for item in home.iterdir() if re.match("fill-(1|512|4096)-", item.name)]
        for name in small[:300]:
            assert server.http.delete(f"api/contents/{name}").status_code == 204
        saved = server.http.put("api/contents/new.ipynb", json=body)
        assert saved.is_success, saved.text
        assert server.run("print(6 * 7)") == "42\n"
    finally:
        server.close()


def test_a_neighbour_of_a_full_home_writes_on(homes):
    ada, ben = homes.roots[0] / "ada", homes.roots[0] / "ben"
    for place, number in ((ada, 21001), (ben, 21002)):
        homes.prepare(place, Owner(number), Limit(24 * MIB, 400))
    assert write_as(21001, ada / "large", 60).returncode != 0
    overshoot = homes.usage(ada).used - 24 * MIB
    assert overshoot <= MIB
    assert write_as(21002, ben / "small", 12).returncode == 0
    assert as_user(21001, f"rm {ada}/large").returncode == 0
