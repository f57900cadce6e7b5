from __future__ import annotations

import pytest

from cupola import cli
from cupola.cli.logs import OVERLAP, _news


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CUPOLA_API_URL", "CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN", "CUPOLA_JOB"):
        monkeypatch.delenv(name, raising=False)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return int(left.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize(
    "arguments", [["ps"], ["logs", "ndvi"], ["stop", "ndvi"], ["run", "json:dumps", "--from", "list"]]
)
def test_outside_a_session_each_verb_says_what_to_set(capsys, tmp_path, arguments):
    (tmp_path / "list").write_text("a\n")
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "set CUPOLA_API_URL (ends in /services/cupola/api) and CUPOLA_TOKEN" in err


def test_in_a_task_there_are_no_jobs(capsys, monkeypatch):
    monkeypatch.setenv("CUPOLA_JOB", "job-1")
    code, _, err = run(capsys, "ps")
    assert (code, "A task cannot start or see jobs" in err) == (1, True)


def test_the_help_tells_verbs_of_jobs_from_those_of_the_platform(capsys):
    _, out, _ = run(capsys, "--help")
    platform, jobs = out.index("The platform"), out.index("Your jobs")
    places = {verb: out.index(f"│ {verb} ") for verb in cli.VERBS}
    assert all(platform < places[verb] < jobs for verb in cli.VERBS if verb not in cli.PANELS)
    assert all(jobs < places[verb] for verb in cli.PANELS)


def test_what_is_new_in_a_log_of_which_only_the_last_part_is_sent():
    assert _news("", "one\n") == "one\n"
    assert _news("one\n", "one\ntwo\n") == "two\n"
    long = "".join(f"line {number}\n" for number in range(500))
    assert _news(long, long[len(long) // 2 :] + "more\n") == "more\n"
    assert len(long) > 2 * OVERLAP
    assert _news("one\n", "all else\n") == "all else\n"
