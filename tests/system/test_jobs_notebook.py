"""Jobs as a notebook has them: `cupola.map` against the real portal over HTTP."""

from __future__ import annotations

import re
import threading
import time

import httpx
import pytest

import cupola
from cupola.exceptions import ConflictError, InputError, NotFoundError, TaskError
from cupola.models.job import JobState
from support.jobs_portal import Portal

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    made = Portal(tmp_path_factory.mktemp("platform"))
    made.start()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def session(portal, monkeypatch, tmp_path):
    monkeypatch.setenv("CUPOLA_API_URL", portal.url)
    monkeypatch.setenv("CUPOLA_TOKEN", "anybody")
    monkeypatch.delenv("CUPOLA_SESSION", raising=False)
    monkeypatch.setenv("HOME", str(portal.home))
    monkeypatch.chdir(tmp_path)


def invert(x):
    """Return one over x."""
    print("inverting", x)  # noqa: T201
    return 1 / x


def test_results_come_in_the_order_of_the_inputs():
    job = cupola.map(invert, (2, 4, 8), name="thirds", labels=["two", "four", "eight"])
    assert list(job.results()) == [0.5, 0.25, 0.125]
    assert job.wait(progress=False) is job
    assert (job.state, job.counts.done, job.result(1)) == (JobState.DONE, 3, 0.25)
    assert repr(job) == f"Job 'thirds' ({job.id}): done, 3 of 3 inputs done"
    assert "return 1 / x" in job.refresh().source
    assert job.logs(2) == "inverting 8\n"
    assert [one.id for one in cupola.jobs()].count(job.id) == 1
    assert cupola.job("thirds").id == cupola.job(job.id).id == job.id


def test_a_failed_input_raises_its_traceback_or_is_skipped_or_returned():
    job = cupola.map(invert, [1, 0, 2])
    with pytest.raises(TaskError, match=r"Input 1 \(0\) failed: ZeroDivisionError(.|\n)*return 1 / x"):
        list(job.results())
    assert list(job.results(errors="skip")) == [1.0, 0.5]
    first, error, last = job.results(errors="return")
    assert (first, last) == (1.0, 0.5)
    assert isinstance(error, TaskError)
    assert job.wait(progress=False).state is JobState.PARTLY_FAILED
    assert job.failures()[0].inputs == [1]
    with pytest.raises(InputError, match="use 'raise', 'skip' or 'return'"):
        next(job.results(errors="ignore"))
    with pytest.raises(InputError, match="inputs 0 to 2, and no input 3"):
        job.result(3)


def test_a_cancelled_job_says_so_and_retry_completes_it(tmp_path):
    gate = tmp_path / "gate"

    def wait(x):
        while not gate.exists():
            time.sleep(0.01)
        return x

    job = cupola.map(wait, range(5)).cancel()
    job.wait(progress=False)
    with pytest.raises(TaskError, match="Input 0 was not computed: the job 'wait' is cancelled"):
        list(job.results())
    gate.touch()
    assert list(job.retry().results()) == [0, 1, 2, 3, 4]
    with pytest.raises(ConflictError):
        job.wait(progress=False).retry()


def test_waiting_has_an_end_and_tells_how_far_it_is(tmp_path, capsys):
    gate = tmp_path / "gate"

    def wait(x):
        while not gate.exists():
            time.sleep(0.01)
        return x

    job = cupola.map(wait, range(2), name="slow")
    with pytest.raises(TimeoutError, match=r"'slow' has not ended after 0\.2 s; it runs on"):
        job.wait(timeout=0.2)
    assert "Job 'slow'" in capsys.readouterr().out
    gate.touch()
    assert job.wait().state is JobState.DONE
    assert "2 of 2 inputs done" in capsys.readouterr().out


def test_a_job_without_products_says_where_its_results_are():
    job = cupola.map(abs, [-1])
    with pytest.raises(InputError, match=r"job\.results\(\)"):
        _ = job.products


def test_a_name_that_is_not_known_offers_the_known_ones():
    cupola.map(abs, [-1], name="known")
    with pytest.raises(NotFoundError, match="there is: known"):
        cupola.job("unknown")


def test_the_portal_may_die_while_a_notebook_waits(portal, tmp_path):
    gate = tmp_path / "gate"

    def wait(x):
        while not gate.exists():
            time.sleep(0.01)
        return x

    job = cupola.map(wait, range(4))
    found = []
    reader = threading.Thread(target=lambda: found.extend(job.results()))
    reader.start()
    portal.kill()
    gate.touch()
    portal.start()
    assert job.wait(progress=False).state is JobState.DONE
    reader.join()
    assert found == [0, 1, 2, 3]


def test_the_rest_api_streams_changes_and_results(portal):
    job = cupola.map(abs, [-1, -2])
    with httpx.stream("GET", f"{portal.url}/jobs/{job.id}/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    assert re.findall(r"^event: (\S+)$", text, re.MULTILINE)[-1] == "job"
    assert '"state":"done"' in text.splitlines()[-2]
    answer = httpx.get(f"{portal.url}/jobs/{job.id}/results/1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    missing = httpx.get(f"{portal.url}/jobs/{job.id}/results/9")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    wrong = httpx.post(f"{portal.url}/jobs/{job.id}/explode")
    assert wrong.status_code == 422
    assert httpx.delete(f"{portal.url}/jobs/{job.id}").status_code == 204
    assert httpx.get(f"{portal.url}/jobs/{job.id}").status_code == 404


def test_results_are_fetched_where_the_folder_is_not_at_hand(monkeypatch):
    job = cupola.map(invert, [4, 0])
    job.wait(progress=False)
    elsewhere = job.refresh().model_copy(update={"folder": job.folder / "elsewhere"})
    monkeypatch.setattr(job, "_state", elsewhere)
    monkeypatch.setattr(job, "refresh", lambda: elsewhere)
    assert job.result(0) == 0.25
    with pytest.raises(TaskError, match=r"Input 1 \(0\) failed: ZeroDivisionError(.|\n)*return 1 / x"):
        job.result(1)
