from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from cupola.exceptions import UnavailableError
from cupola.models.datalab import Version
from cupola.platform.services.datalabs import fetches
from cupola.platform.services.datalabs.fetches import FetchService
from cupola.platform.storage.environments import BuiltVersion

pytestmark = pytest.mark.asyncio

DIGEST = f"sha256:{'a' * 64}"
SESSION = SimpleNamespace(datalab="lab", version=DIGEST)


class Registered:
    """One version, which is fetched when the test says so."""

    def __init__(self, image="registry.example.org/cupola/lab:1"):
        self.version = Version(
            digest=DIGEST, label="1", created="2026-11-21T00:00:00Z", ready=False, image=image
        )
        self.go, self.begun, self.wrong, self.asked = threading.Event(), threading.Event(), None, 0

    def versions(self, datalab):
        return [BuiltVersion(self.version, None)] if datalab == "lab" else []

    def fetch(self, datalab, version, watch=None):  # noqa: ARG002 - the store's own shape
        self.asked += 1
        watch(0.5)
        watch(0.25)
        self.begun.set()
        assert self.go.wait(30)
        if self.wrong:
            raise self.wrong


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(fetches, "_TELL_S", 0.01)


class Told:
    def __init__(self):
        self.lines, self.half = [], asyncio.Event()

    async def __call__(self, message, progress):
        self.lines.append((message, progress))
        if "50%" in message:
            self.half.set()


async def test_all_who_wait_for_a_version_wait_for_one_fetch_and_hear_how_far_it_is():
    kept = Registered()
    service = FetchService(kept)
    told = [Told(), Told(), Told()]
    waiting = [asyncio.create_task(service.have(SESSION, tell)) for tell in told]
    for tell in told:
        await asyncio.wait_for(tell.half.wait(), 30)
    # Who gives up leaves the fetch to the others.
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert not waiting[1].done()
    kept.go.set()
    assert await asyncio.gather(*waiting[1:]) == [None, None]
    assert kept.asked == 1
    assert told[1].lines[-1] == ("Fetching version 1 from its registry: 50%", 9)
    # What is lost again is fetched again.
    assert await service.have(SESSION, Told()) is None
    assert kept.asked == 2


async def test_what_cannot_be_fetched_says_why():
    kept = Registered()
    kept.wrong = UnavailableError("The registry sleeps.")
    kept.go.set()
    assert await FetchService(kept).have(SESSION, Told()) == "The registry sleeps."


@pytest.mark.parametrize("change", [{"ready": True}, {"image": "cupola/lab:1"}, {"digest": "sha256:b"}])
async def test_what_is_here_or_in_no_registry_is_not_fetched(change):
    kept = Registered()
    kept.version = kept.version.model_copy(update=change)
    assert await FetchService(kept).have(SESSION, Told()) is None
    assert kept.asked == 0
