"""What the launch page says about packages, read from homes that belong to people."""

from __future__ import annotations

import json
import os

import pytest

from cupola.config import StatePaths
from cupola.models.person import Person, Profile
from cupola.platform.services.sessions.packages import PackageService

pytestmark = pytest.mark.asyncio

ADA = Person(name="ada", profile=Profile(cores=1, memory_mib=1024))
NEW, OLD = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32


@pytest.fixture
def paths(tmp_path):
    return StatePaths(tmp_path / "state")


@pytest.fixture
def folder(paths):
    place = paths.home("ada") / ".cupola" / "packages"
    place.mkdir(parents=True)
    return place


def lock(folder, digest, *names, changed="2026-10-01T00:00:00Z", **more):
    content = {
        "digest": digest,
        "label": "2026.10",
        "python": "3.11",
        "made": changed,
        "changed": changed,
        **more,
    }
    content["packages"] = [{"name": name, "version": "1.0"} for name in names]
    (folder / f"{digest[7:19]}.json").write_text(json.dumps(content))


async def test_packages_of_another_version_are_named(paths, folder):
    lock(folder, OLD, "sunpy", "pvl")
    hint = await PackageService(paths=paths).hint(ADA, NEW)
    assert (hint.here, hint.elsewhere, hint.label, hint.names) == (0, 2, "2026.10", ["sunpy", "pvl"])
    assert hint.sentence == (
        "You installed 2 packages on version 2026.10; the session will offer to install them here again."
    )


async def test_packages_of_this_version_are_there(paths, folder):
    lock(folder, OLD, "pvl")
    lock(folder, NEW, "sunpy")
    hint = await PackageService(paths=paths).hint(ADA, NEW)
    assert (hint.here, hint.elsewhere) == (1, 0)
    assert hint.sentence == "One package that you installed on this version will be there."


async def test_who_did_without_is_not_asked_again(paths, folder):
    lock(folder, OLD, "pvl")
    lock(folder, NEW, answered=True)
    assert (await PackageService(paths=paths).hint(ADA, NEW)).sentence == ""


async def test_no_link_is_followed_and_no_large_or_odd_file_read(paths, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    lock(secret, OLD, "stolen")
    (folder / "b2b2b2b2b2b2.json").symlink_to(secret / "b2b2b2b2b2b2.json")
    (folder / "large.json").write_bytes(b" " * 3_000_000 + b"{}")
    (folder / "odd.json").write_text("[]")
    os.mkfifo(folder / "pipe.json")
    assert (await PackageService(paths=paths).hint(ADA, NEW)).elsewhere == 0
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.symlink_to(secret)
    assert (await PackageService(paths=paths).hint(ADA, NEW)).elsewhere == 0


async def test_without_a_home_there_is_nothing_to_say(paths):
    hint = await PackageService(paths=paths).hint(ADA, NEW)
    assert (hint.here, hint.elsewhere, hint.sentence) == (0, 0, "")
