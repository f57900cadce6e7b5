from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from cupola.exceptions import InputError, NotFoundError
from cupola.models.base import now
from cupola.models.packages import Package, PackageLock
from cupola.models.session import Plan, ProcessPlan, Session, SessionState
from cupola.models.volume import Access, Mount
from cupola.platform.storage.database.connection import Database
from cupola.platform.storage.database.sessions import SessionStore, StoredSession
from support.jobs_service import ADA, BUILT, EVE, PYTHON, job_places, request

pytestmark = pytest.mark.asyncio


def session(home, *, environment=None):
    mount = Mount(volume="dem", source="/data/dem", target=home / "volumes" / "dem", access=Access.READ)
    return StoredSession(
        session=Session(
            id="lab-1",
            owner="ada",
            datalab="lab",
            version=BUILT.version.digest,
            title="Lab",
            state=SessionState.READY,
            created=now(),
        ),
        plan=Plan(
            session="lab-1",
            owner="ada",
            datalab="lab",
            version=BUILT.version.digest,
            ready_path="/lab",
            mounts=[mount],
            process=ProcessPlan(command=["x"], environment=environment or {}, folder=home, log=home / "log"),
        ),
    )


class OneSession:
    def __init__(self, stored=None):
        self.stored = stored

    async def get(self, name):
        return self.stored if self.stored and name == self.stored.session.id else None


def places(tmp_path, stored=None):
    return job_places(tmp_path, OneSession(stored))


def overlay(home):
    python = home / ".cupola" / "environments" / ("a" * 12) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return python


async def test_what_the_person_installed_is_there_for_tasks_too(tmp_path):
    python = overlay(tmp_path / "ada")
    place = await places(tmp_path).place(ADA, request(abs, [1]), "job-1")
    assert place.python == python
    assert place.environment["CUPOLA_PYTHON"] == str(python)
    assert place.environment["PATH"].startswith(f"{python.parent}:")
    assert place.folder == tmp_path / "ada" / ".cupola" / "jobs" / "job-1"


async def test_a_clean_session_has_clean_tasks(tmp_path):
    overlay(tmp_path / "ada")
    stored = session(tmp_path / "ada", environment={"CUPOLA_CLEAN": "1"})
    place = await places(tmp_path, stored).place(ADA, request(abs, [1], session="lab-1"), "job-1")
    assert place.python == BUILT.python


async def test_tasks_see_the_volumes_of_their_session(tmp_path):
    stored = session(tmp_path / "ada")
    place = await places(tmp_path, stored).place(ADA, request(abs, [1], session="lab-1"), "job-1")
    assert [mount["volume"] for mount in json.loads(place.environment["CUPOLA_VOLUMES"])] == ["dem"]


async def test_a_session_of_somebody_else_is_refused(tmp_path):
    stored = session(tmp_path / "ada")
    for person, name in ((EVE, "lab-1"), (ADA, "lab-2")):
        with pytest.raises(NotFoundError, match="You have no session"):
            await places(tmp_path, stored).place(person, request(abs, [1], session=name), "job-1")


async def test_the_stored_session_is_understood(tmp_path):
    database = Database.at(tmp_path / "portal.sqlite")
    try:
        await database.migrate()
        made = job_places(tmp_path, SessionStore(database))
        with pytest.raises(NotFoundError):
            await made.place(ADA, request(abs, [1], session="lab-1"), "job-1")
    finally:
        await database.aclose()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"python": "3.9"}, "made by Python 3.9 and the tasks would run Python"),
        (
            {"packages": {"no-such-package": "1.2"}},
            "uses no-such-package 1.2, which the tasks would not have",
        ),
        ({"packages": {"numpy": "99.1"}}, "uses numpy 99.1 and the tasks would have numpy "),
    ],
)
async def test_a_function_that_the_tasks_could_not_run_is_refused_before_any_starts(tmp_path, said, problem):
    with pytest.raises(InputError, match=problem) as refused:
        await places(tmp_path).place(ADA, request(abs, [1], **said), "job-1")
    assert str(refused.value).endswith(
        "start the job from a session of version test of lab, where its tasks run."
    )


async def test_what_is_alike_is_taken_and_what_the_person_has_installed_counts(tmp_path):
    packages = {"numpy": f"{version('numpy').partition('.')[0]}.0.0", "mine": "3.2"}
    lock = PackageLock(
        digest=BUILT.version.digest,
        python=PYTHON,
        made=now(),
        changed=now(),
        packages=[Package(name="mine", version="3.1")],
    )
    file = tmp_path / "ada" / ".cupola" / "packages" / f"{'a' * 12}.json"
    file.parent.mkdir(parents=True)
    file.write_text(lock.model_dump_json())
    place = await places(tmp_path).place(ADA, request(abs, [1], packages=packages), "job-1")
    assert place.version == BUILT.version.digest


async def test_another_version_than_the_sessions_runs_the_tasks_where_it_is_asked_for(tmp_path):
    stored = session(tmp_path / "ada")
    newer = stored.session.model_copy(update={"version": f"sha256:{'b' * 64}"})
    stored = stored.model_copy(update={"session": newer})
    wanted = request(abs, [1], session="lab-1", version=BUILT.version.digest)
    place = await places(tmp_path, stored).place(ADA, wanted, "job-1")
    assert (place.version, place.environment["CUPOLA_VERSION"]) == (BUILT.version.digest,) * 2


async def test_a_version_that_is_gone_is_told(tmp_path):
    wanted = request(abs, [1], session="lab-1", version=f"sha256:{'c' * 64}")
    with pytest.raises(NotFoundError, match=r"version cccccccccccc is not on this platform any more"):
        await places(tmp_path, session(tmp_path / "ada")).place(ADA, wanted, "job-1")
