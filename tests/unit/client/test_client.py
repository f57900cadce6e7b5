from __future__ import annotations

import asyncio

import httpx
import pytest

from cupola.client import AsyncClient, from_environment
from cupola.client.fake import FakePortal
from cupola.exceptions import ConflictError, NotFoundError, NotSignedInError, UnavailableError
from cupola.models.datalab import Datalab
from cupola.models.job import JobAction, JobRequest, JobState
from cupola.models.resources import Resources, Usage
from cupola.models.session import LaunchRequest, SessionReport, SessionState
from cupola.models.volume import Bucket, NewVolume, VolumeChange

LAB = Datalab(name="lab", title="Cupola Lab", summary="JupyterLab")


@pytest.fixture
def portal(tmp_path):
    return FakePortal(tmp_path, datalabs=[LAB])


@pytest.fixture
def client(portal):
    with portal.client() as client:
        yield client


def test_a_session_from_launch_to_forgotten(client, portal):
    session = client.launch(LaunchRequest(datalab="lab"))
    assert session.state is SessionState.REQUESTED
    portal.advance_session(session.id, SessionState.READY, "here it is")
    assert [event.message for event in client.session_events(session.id)] == ["asked for", "here it is"]
    with pytest.raises(ConflictError, match="has not ended"):
        client.delete_session(session.id)
    assert client.stop_session(session.id).state is SessionState.STOPPED
    client.delete_session(session.id)
    assert client.sessions() == []


def test_a_session_is_renamed_measured_read_and_restarted_bigger(client, portal):
    size = Resources(cores=1, memory_mib=1024)
    old = client.launch(LaunchRequest(datalab="lab", resources=size, environment={"A": "1"}))
    assert client.rename_session(old.id, "Dust").title == "Dust"
    with pytest.raises(ConflictError, match="does not run"):
        client.session_usage(old.id)
    portal.usages[old.id] = Usage(cores=0.5, memory_mib=300)
    portal.session_logs[old.id] = "it printed\n"
    assert client.session_usage(old.id).memory_mib == 300
    assert client.session_log(old.id) == "it printed\n"
    new = client.restart_session(old.id, Resources(cores=1, memory_mib=2048))
    assert (new.title, new.environment, new.resources.memory_mib) == ("Dust", {"A": "1"}, 2048)
    assert client.restart_session(new.id).resources.memory_mib == 2048
    assert client.session(old.id).state is SessionState.STOPPED
    assert client.capacity().free_memory_mib == 4096


def newer(thing):
    """Return what a newer portal would tell: a field more in each object."""
    if isinstance(thing, list):
        return [newer(one) for one in thing]
    if isinstance(thing, dict):
        return {**{name: newer(value) for name, value in thing.items()}, "of-a-newer-portal": "yes"}
    return thing


@pytest.mark.asyncio
async def test_a_session_of_an_older_version_understands_a_newer_portal(portal):
    async with portal.async_client() as plain:

        async def answer(request):
            answered = await plain._http.send(request)
            return httpx.Response(answered.status_code, json=newer(answered.json()))

        async with AsyncClient(plain.url, portal.token, transport=httpx.MockTransport(answer)) as client:
            session = await client.launch(LaunchRequest(datalab="lab"))
            assert (await client.session(session.id)).state is SessionState.REQUESTED
            assert [one.name for one in await client.datalabs()] == ["lab"]
            assert (await client.capacity()).total_cores == 2


def test_a_problem_becomes_our_error(client):
    with pytest.raises(NotFoundError, match="there is no datalab 'lib'"):
        client.datalab("lib")


def test_a_job_and_what_one_does_with_it(client, portal):
    request = JobRequest(name="squares", payload=b"cGlja2xl", labels=["1", "2", "3"], python="3.11", chunk=2)
    job = client.submit(request)
    assert (job.tasks, job.counts.inputs) == (2, 3)
    assert portal.requests[job.id].payload == b"pickle"
    portal.results[job.id, 1] = b"four"
    assert client.job_result(job.id, 1) == b"four"
    with pytest.raises(NotFoundError, match="input 2"):
        client.job_result(job.id, 2)
    assert client.act(job.id, JobAction.CANCEL).state is JobState.CANCELLED
    assert [seen.id for seen in client.jobs().items] == [job.id]


def test_it_works_under_a_running_event_loop(portal):
    async def in_a_notebook():
        with portal.client() as client:
            return client.me().name

    assert asyncio.run(in_a_notebook()) == "ada"


@pytest.mark.asyncio
async def test_the_hub_fetches_a_plan_and_reports(portal):
    async with portal.async_client() as client:
        with pytest.raises(NotFoundError):
            await client.plan("lab-1")
        name = (await client.launch(LaunchRequest(datalab="lab"))).id
        report = SessionReport(state=SessionState.STARTING, message="starting")
        assert (await client.report(name, report)).state is SessionState.STARTING
    assert portal.reports == [(name, report)]


@pytest.mark.asyncio
async def test_a_wrong_token_is_told(portal):
    async with portal.async_client("another") as client:
        with pytest.raises(NotSignedInError):
            await client.me()


@pytest.mark.asyncio
async def test_a_portal_that_is_silent_or_away():
    async def silent(_):
        await asyncio.sleep(60)

    async with AsyncClient(
        "http://p/api", "t", seconds=0.05, transport=httpx.MockTransport(silent)
    ) as client:
        with pytest.raises(UnavailableError, match=r"no answer within 0\.05 s"):
            await client.me()
    async with AsyncClient("http://127.0.0.1:1/api", "t") as client:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await client.me()


@pytest.mark.asyncio
async def test_an_answer_of_the_proxy_is_no_problem_document():
    def proxy(_):
        return httpx.Response(502, text="Bad Gateway")

    async with AsyncClient("http://p/api", "t", transport=httpx.MockTransport(proxy)) as client:
        with pytest.raises(UnavailableError, match="HTTP 502: Bad Gateway"):
            await client.me()


def test_outside_a_session_it_says_what_to_do(monkeypatch):
    for name in ("CUPOLA_API_URL", "CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NotSignedInError, match="set CUPOLA_API_URL"):
        from_environment()
    monkeypatch.setenv("CUPOLA_API_URL", "http://127.0.0.1:1/services/cupola/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "t")
    with from_environment() as client:
        assert client.url.endswith("/api")


def test_volumes_are_added_changed_used_and_removed(client, portal):
    bucket = Bucket(endpoint="https://s3.example.org", bucket="hst")
    new = NewVolume(name="hst", title="HST", bucket=bucket)
    assert client.add_volume(new).owner == portal.person.name
    with pytest.raises(ConflictError):
        client.add_volume(new)
    assert client.change_volume("hst", VolumeChange(mission="Hubble")).mission == "Hubble"
    client.measure_volume("hst")
    session = client.launch(LaunchRequest(datalab="lab", volumes=["hst"]))
    assert [use.session for use in client.volume_uses("hst")] == [session.id]
    with pytest.raises(ConflictError):
        client.remove_volume("hst")
    portal.advance_session(session.id, SessionState.STOPPED, "stopped")
    client.remove_volume("hst")
    assert client.volumes() == []
