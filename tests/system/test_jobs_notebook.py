"""Jobs as a notebook and a terminal have them: `cupola.map` and `cupola run` against the real portal over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

import cupola
from cupola import cli
from cupola.cli import logs
from cupola.exceptions import ConflictError, InputError, NotFoundError, TaskError
from cupola.models.job import JobState
from support.jobs_portal import Portal

pytestmark = pytest.mark.system

SHOUT = """
import pathlib, sys
source, target = map(pathlib.Path, sys.argv[1:3])
print("shouting", source.name, file=sys.stderr)
if source.name == "mute.txt" and not pathlib.Path("cured").exists():
    target.write_text("half")
    sys.exit("no voice")
target.write_text(source.read_text().upper())
"""

SCRIPT = """
import helper

def length(path):
    print("measuring", path)
    return helper.size(path)

def wait_for(path):
    import pathlib, time
    while not pathlib.Path(path).exists():
        time.sleep(0.05)
    print("it is there")
"""

HELPER = """
import os

def size(path):
    return os.stat(path).st_size
"""


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


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Programs and files in the present folder; what a program imports is forgotten."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name, text in {"shout.py": SHOUT, "script.py": SCRIPT, "helper.py": HELPER}.items():
        (tmp_path / name).write_text(text)
    for name in ("loud one.txt", "mute.txt"):
        (tmp_path / name).write_text(name)
    yield tmp_path
    for name in ("script", "helper", "script_of_job"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(capsys, files):  # noqa: ARG001 - it is there
    """Run the command and return exit code, stdout and stderr."""

    def do(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        return int(left.value.code or 0), *capsys.readouterr()

    return do


def _wait_for(path):
    import pathlib
    import time

    print("waiting", flush=True)  # noqa: T201
    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    print("it is there")  # noqa: T201


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


COMMAND = f"{sys.executable} shout.py {{input}} {{output}}"


def test_a_program_over_files_fails_is_mended_and_keeps_what_is_done(files):
    job = cupola.map(
        command=COMMAND, inputs=["loud one.txt", "mute.txt"], outputs="{stem}.up", folder="out", time="10 min"
    )
    job.wait(progress=False)
    done = files / "out" / "loud one.up"
    assert (job.name, job.state, job.result(0)) == (
        Path(sys.executable).name,
        JobState.PARTLY_FAILED,
        done,
    )
    with pytest.raises(
        TaskError, match=r"(?s)Input 1 \(mute.txt\) failed: CommandError: .*exit code 1:.*no voice"
    ):
        job.result(1)
    assert [path.name for path in done.parent.iterdir()] == [done.name]
    assert "shouting mute.txt" in job.logs(1)
    assert job.refresh().time_s == 600
    assert job.refresh().source.endswith("shout.py '{input}' '{output}'")
    written = done.stat().st_mtime_ns
    (files / "cured").touch()
    assert [path.read_text() for path in job.retry().results()] == ["LOUD ONE.TXT", "MUTE.TXT"]
    again = cupola.map(command=COMMAND, inputs=["loud one.txt"], outputs="{stem}.up", folder="out")
    assert list(again.results()) == [done]
    assert again.logs(0) == f"{done} is there already\n"
    assert done.stat().st_mtime_ns == written


def test_outputs_that_collide_are_refused_before_the_submit():
    known = {job.id for job in cupola.jobs()}
    with pytest.raises(InputError, match="would both be written"):
        cupola.map(command=COMMAND, inputs=["a/x.txt", "b/x.txt"], folder="out")
    assert {job.id for job in cupola.jobs()} == known


def test_jobs_are_a_table_that_is_asked_by_name_or_id():
    first, second = (cupola.map(abs, [-1], name="twice").wait(progress=False) for _ in range(2))
    found = cupola.jobs()
    assert found["twice"].id == found[second.id].id == found[0].id == second.id
    assert [one.id for one in found[:2]] == [second.id, first.id]
    lines = repr(found).splitlines()
    assert lines[0].split() == ["name", "id", "state", "done", "failed", "engine", "started"]
    assert lines[1].split()[:6] == ["twice", second.id, "done", "1", "of", "1"]
    assert f"<td>{second.id}</td><td>done</td>" in found._repr_html_()
    with pytest.raises(NotFoundError, match="You have no job 'thrice'; there is: twice"):
        found["thrice"]


def test_a_job_waits_for_others_and_counts_what_it_uses(tmp_path):
    gate = tmp_path / "gate"

    def wait(path):
        import time
        from pathlib import Path

        while not Path(path).exists():
            time.sleep(0.02)
        return bytearray(1)

    first = cupola.map(wait, [str(gate)], name="first", memory="2 GiB")
    second = cupola.map(abs, [-1], after=[first, "first", first.id])
    assert second.refresh().after == [first.id] * 3
    assert second.state is JobState.QUEUED
    gate.touch()
    assert list(second.results()) == [1]
    used = first.wait(progress=False).resources
    assert (used.cpus, used.memory_mib, used.core_hours > 0, first.core_hours > 0) == (1, 2048, True, True)
    assert (used.seconds_per_task or 0) > 0
    assert repr(used).startswith("cores    1 a task, used: ")
    assert any("MiB of the 2,048 MiB asked for: ask for memory=" in hint for hint in used.hints)
    assert repr(used).endswith(used.hints[-1])
    with pytest.raises(NotFoundError, match="no job 'missing'"):
        cupola.map(abs, [-1], after="missing")


def test_run_a_function_of_a_file(run, tmp_path):
    code, out, err = run(
        "run", "script.py:length", "*.txt", "--wait", "--memory", "512MiB", "--name", "sizes"
    )
    assert (code, err) == (0, f"Job 'sizes' ({out.strip()}): done, 2 of 2 inputs done\n")
    job = cupola.job(out.strip())
    assert list(job.results()) == [12, 8]
    assert run("logs", "sizes", 1) == (0, f"measuring {tmp_path / 'mute.txt'}\n", "")
    assert run("logs", "sizes", 2)[0] == 1


SORT = ["run", "--command", "sort {input} > {output}", "--shell", "--output", "{stem}-{number}.sorted"]
SORT += ["--from", "-", "--wait"]


def test_run_a_program_in_a_session_whose_files_come_from_a_list(files):
    """By the command as a session has it."""
    done = subprocess.run(
        [sys.executable, "-m", "cupola.lab", *SORT],
        input="loud one.txt\n\nnone.txt\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "1 of 2 inputs done, 1 failed" in done.stderr
    assert "1 times CommandError: sort ended with exit code 2" in done.stderr
    assert (files / "loud one-0.sorted").read_text() == "loud one.txt\n"


def test_what_is_to_run_and_over_what_is_looked_at_first(run, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    for arguments, text in (
        (["script.py:length"], "There are no inputs"),
        (["script.py", "mute.txt"], "'script.py' names no function: write script.py:function"),
        (["script.py:size", "mute.txt"], "script.py has no function 'size'; it has: length, wait_for."),
        (["other.py:size", "mute.txt"], "There is no file 'other.py'"),
        (["broken.py:size", "mute.txt"], "broken.py cannot be loaded (ZeroDivisionError: division by zero)"),
        (["script.py:length", "*.tif"], "No file is called like '*.tif'"),
        (["script.py:length", "a.tif"], "There is no file 'a.tif'"),
        (["helper:size", "mute.txt", "--time", "soon"], "time='soon' is no length of time"),
        (["--command", "copy {input} {output}", "mute.txt"], "nothing says where"),
        (["helper:size", "mute.txt", "--engine", "abacus"], "There is no engine 'abacus' here"),
    ):
        code, out, err = run("run", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert text in err


def test_ps_logs_and_stop_while_a_job_runs(run, tmp_path, monkeypatch):
    code, out, err = run("run", "script.py:wait_for", "mute.txt", "--name", "quick one", "--wait")
    assert code == 0
    (tmp_path / "waited.txt").touch()
    monkeypatch.setattr(logs, "PAUSE_S", 0.02)
    gate = tmp_path / "gate"
    job = cupola.map(_wait_for, [str(gate)], name="held up")
    code, out, _ = run("ps")
    assert (code, [line.split()[:2] for line in out.splitlines()[1:]]) == (0, [["held", "up"]])
    assert {one["name"] for one in json.loads(run("ps", "--json", "--all")[1])["jobs"]} >= {
        "held up",
        "quick one",
    }
    opener = threading.Timer(0.3, gate.touch)
    opener.start()
    code, out, err = run("logs", "held up", "--follow")
    opener.join()
    assert (code, out) == (0, "waiting\nit is there\n")
    gate.unlink()
    job = cupola.map(_wait_for, [str(gate)] * 2, name="held up")
    code, out, err = run("stop", "held up", "unknown")
    assert (code, "You have no job 'unknown'" in err) == (1, True)
    assert out.startswith(f"Job 'held up' ({job.id}): ")
    assert job.wait(progress=False).state is JobState.CANCELLED
    code, _, err = run("stop", job.id)
    assert (code, "has ended (cancelled): there is nothing to cancel" in err) == (1, True)
    assert run("ps")[:2] == (0, "No job of yours runs or waits: --all shows ended ones.\n")
    with pytest.raises(ConflictError):
        job.cancel()
