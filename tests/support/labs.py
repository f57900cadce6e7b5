"""A platform with real Labs for the tests of security, and people who have sessions in it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from cupola.models.session import SessionState
from support.people import people
from support.platform import Platform

__all__ = ["ENVIRON", "PYTHON", "labs", "together", "unguarded", "until_ended"]

PROCESSES = 256
"""Of each session."""
PYTHON = "/opt/cupola/bin/python"
ENVIRON = "dict(__import__('os').environ)"


@pytest.fixture(scope="package")
def together(tmp_path_factory, images):
    """A platform with room for two small sessions at a time."""
    images.have("lab")
    place = Platform(
        tmp_path_factory.mktemp("together"), settings=images.settings + f"  processes: {PROCESSES}\n"
    )
    place.engine = images.engine
    try:
        place.start()
        yield place
    finally:
        place.clean()


@asynccontextmanager
async def labs(place, *names):
    """Sign people in, start a Lab for each, and open a kernel in it."""
    async with people(place, *names) as guests:
        found = []
        for guest in guests:
            session = await guest.visitor.press_play("lab")
            ready = await guest.visitor.wait_for(session, SessionState.READY, seconds=300)
            found.append((guest, ready, await guest.visitor.open_kernel(ready)))
        try:
            yield found
        finally:
            for guest, session, _ in found:
                await guest.call("POST", f"/sessions/{session.id}/stop")
                await until_ended(guest, session.id)


async def until_ended(guest, session):
    async with asyncio.timeout(120):
        while (await guest.call("GET", f"/sessions/{session}"))["state"] not in {"stopped", "failed"}:  # noqa: ASYNC110 - the platform tells over REST only
            await asyncio.sleep(0.2)


def unguarded(place, session, *command, **options):
    """Run a command in a container of the session's image as the engine makes it by itself; return its output."""
    found = place.engine.client.containers.run(
        session.version, list(command), network_mode="none", remove=True, stderr=True, **options
    )
    return found.decode(errors="replace")
