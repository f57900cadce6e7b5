from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from cupola.config.database import PORTAL_SCHEMA, schema_url
from cupola.exceptions import InputError, NotFoundError, UnavailableError
from cupola.models.base import now
from cupola.models.job import Job, JobCounts, JobState
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.jobs import JobStore, StoredJob
from cupola.platform.storage.database.tables import metadata, sessions
from support.postgresql import server
from support.threads import sqlite_threads_end

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path):
    return tmp_path / "portal" / "cupola.sqlite"


@pytest.fixture(scope="session")
def postgresql():
    with server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def connect(request, path):
    """Return a function that opens the one database of the test, as often as it is asked."""
    if request.param == "sqlite":
        return lambda: Database.at(path)
    address = request.getfixturevalue("postgresql").new_database()
    return lambda: Database(schema_url(address, PORTAL_SCHEMA))


def job(name, owner="maria", **more):
    about = {"counts": JobCounts(inputs=3), "tasks": 1, "chunk": 3, "created": now(), "version": "sha256:1"}
    told = Job(id=name, owner=owner, name="n", state="queued", engine="local", folder="/x", **about)
    return StoredJob(job=told.model_copy(update=more), python="/bin/python")


async def test_the_migrations_make_exactly_the_tables(connect):
    database = connect()
    await database.migrate()
    async with database.reading() as connection:
        differences = await connection.run_sync(
            lambda inner: compare_metadata(MigrationContext.configure(inner), metadata)
        )
    await database.aclose()
    assert differences == []


async def test_the_folder_of_the_file_is_private(path):
    database = Database.at(path)
    await database.migrate()
    await database.aclose()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_two_portals_may_start_at_once_on_an_empty_folder(connect):
    databases = [connect() for _ in range(4)]
    await asyncio.gather(*(database.migrate() for database in databases))
    for database in databases:
        await database.aclose()


async def test_who_comes_while_another_makes_the_file_waits(path):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE begun (x)")
        other.execute("BEGIN IMMEDIATE")
        database = Database.at(path)
        waiting = asyncio.create_task(database.migrate())
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        other.execute("ROLLBACK")
    assert not done
    await waiting
    await database.aclose()


async def test_a_file_that_is_no_database_is_told(path):
    path.parent.mkdir()
    path.mkdir()
    database = Database.at(path)
    with pytest.raises(UnavailableError, match="does not answer"):
        await database.migrate()
    await database.aclose()
    await sqlite_threads_end()


async def test_a_failed_write_leaves_nothing(connect):
    database = connect()
    await database.migrate()
    store = JobStore(database)
    await store.insert(job("one"))

    def broken(_):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it says nothing
        await store.update("one", broken)
    assert (await store.get("one")).native is None
    async with database.reading() as connection:
        assert (await connection.execute(select(sessions))).all() == []
    await database.aclose()


async def test_changes_at_the_same_time_do_not_lose_each_other(connect):
    first, second = connect(), connect()
    await first.migrate()
    await JobStore(first).insert(job("one"))

    def more(stored):
        return stored.model_copy(update={"retries": stored.retries + 1})

    stores = [JobStore(first), JobStore(second)]
    await asyncio.gather(*(store.update("one", more) for store in stores * 10))
    assert (await stores[0].get("one")).retries == 21
    await first.aclose()
    await second.aclose()


async def test_jobs_come_back_as_they_went(connect):
    database = connect()
    await database.migrate()
    store = JobStore(database)
    full = job(
        "full", started=now(), ended=now(), state=JobState.DONE, products="/p", session="lab-1", reason="x"
    )
    full = full.model_copy(update={"native": "17:3.5"})
    full = StoredJob.model_validate(full.model_dump())
    await store.insert(full)
    await store.insert(job("active"))
    assert await store.get("full") == full
    assert [stored.job.id for stored in await store.active()] == ["active"]
    page = await store.page("maria", limit=1)
    assert [stored.job.id for stored in page.items] == ["active"]
    assert (await store.page("maria", limit=1, cursor=page.next)).items == [full]
    assert (await store.page("paul")).items == []
    with pytest.raises(InputError):
        await store.page("maria", cursor="nonsense")
    await store.delete("full")
    assert await store.get("full") is None
    with pytest.raises(NotFoundError):
        await store.update("full", lambda stored: stored)
    await database.aclose()


async def test_jobs_are_found_by_state_and_text_page_by_page(connect):
    database = connect()
    await database.migrate()
    store = JobStore(database)
    for number in range(3):
        made = job(f"ndvi-{number}", state=JobState.FAILED)
        named = made.job.model_copy(update={"name": f"NDVI 50%_{number}"})
        await store.insert(made.model_copy(update={"job": named}))
    await store.insert(job("dust", engine="slurm", state=JobState.DONE))

    async def found(**wish):
        return {stored.job.id for stored in (await store.page("maria", **wish)).items}

    assert await found(text="ndvi") == {"ndvi-0", "ndvi-1", "ndvi-2"}
    assert await found(text="50%_1") == {"ndvi-1"}
    assert await found(text="0%0") == set()
    assert await found(text="Slurm") == {"dust"}
    assert await found(states=[JobState.DONE]) == {"dust"}
    assert await found(states=[JobState.DONE], text="ndvi") == set()
    first = await store.page("maria", text="ndvi", limit=2)
    second = await store.page("maria", text="ndvi", limit=2, cursor=first.next)
    assert [len(first.items), len(second.items), second.next] == [2, 1, None]
    await database.aclose()
