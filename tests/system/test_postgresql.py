"""Hub and portal on PostgreSQL: a schema each, an outage that is told and survived, and no session started twice."""

from __future__ import annotations

import asyncio
import os

import httpx
import psycopg
import pytest

from cupola.exceptions import CupolaError, UnavailableError
from cupola.models.session import LaunchRequest, SessionState
from support.postgresql import server
from system.test_platform import launch, signed_in, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900), pytest.mark.asyncio]

AWAY_S = float(os.environ.get("CUPOLA_TEST_OUTAGE", "10"))
"""The matrix asks for 60 s; it makes no difference to what is tested."""


@pytest.fixture
def postgresql():
    with server() as made:
        yield made


async def test_an_outage_of_postgresql_is_told_and_survived(new_platform, postgresql, tmp_path):
    address = postgresql.new_database()
    file = tmp_path / "database"
    file.write_text(address + "\n")
    platform = new_platform(settings=f"database:\n  url_file: {file}\n")
    platform.start()
    assert not (platform.paths.hub / "jupyterhub.sqlite").exists()
    assert not platform.paths.portal_database.exists()
    async with signed_in(platform) as (visitor, client):
        before = await launch(client)
        kernel = await visitor.open_kernel(before)
        postgresql.stop()
        started = asyncio.get_event_loop().time()
        with pytest.raises(UnavailableError) as told:
            await client.launch(LaunchRequest(datalab="lab"), key="one-wish")
        assert "try again" in str(told.value)
        page = await visitor.http.get("/services/cupola/sessions")
        assert page.status_code == 503
        assert "try again" in page.text.lower()
        # Nobody is signed out by it: a hub that cannot look does not say that it knows nobody.
        hub = await visitor.http.get("/hub/api/user")
        assert hub.status_code == 503
        assert "try again" in hub.json()["message"]
        # What runs, runs on.
        assert (await kernel.run("print(6 * 7)")).text == "42\n"
        await asyncio.sleep(max(0.0, AWAY_S - (asyncio.get_event_loop().time() - started)))
        postgresql.start()

        async def answers():
            try:
                return bool(await client.sessions())
            except (CupolaError, httpx.HTTPError):
                return False

        await until(answers, "the portal answers again")
        # The same wish again, twice at once: one session.
        wishes = [client.launch(LaunchRequest(datalab="lab"), key="one-wish") for _ in range(2)]
        [one] = {session.id for session in await asyncio.gather(*wishes)}
        await visitor.wait_for(one, SessionState.READY)
        assert {session.id for session in await client.sessions()} == {before.id, one}
        assert (await client.session(before.id)).state is SessionState.READY
    with psycopg.connect(address) as connection:
        rows = connection.execute("SELECT schemaname, tablename FROM pg_tables").fetchall()
    schemas = {schema for schema, _ in rows}
    assert {"cupola_hub", "cupola_portal"} <= schemas
    assert not [name for schema, name in rows if schema == "public"]


async def test_an_address_that_is_wrong_is_told_without_its_password(new_platform, tmp_path):
    file = tmp_path / "database"
    file.write_text("mysql://cupola:secret-word@db/cupola\n")
    platform = new_platform(settings=f"database:\n  url_file: {file}\n")
    done = platform.run("up", seconds=300)
    assert done.returncode != 0
    assert "holds no address of a PostgreSQL database" in done.stdout + done.stderr
    assert "secret-word" not in done.stdout + done.stderr
