from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import nbformat
import pytest
from tornado.web import HTTPError

import cupola
from cupola.client.fake import FakePortal
from cupola.exceptions import InputError, NotFoundError, UnavailableError
from cupola.lab.jobs.failure import describe
from cupola.lab.notebooks import handlers, start
from cupola.lab.notebooks.__main__ import answer
from cupola.lab.notebooks.reading import Notebook, plain, said_in_words
from cupola.lab.notebooks.results import NotebookError, Result, newest, result_name
from cupola.lab.notebooks.task import NotebookRun, run


@pytest.fixture
def notebook(tmp_path):
    def write(*cells, tags=("parameters",), name="analysis", kernel=("conda-old", "python")):
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        made[0].metadata["tags"] = list(tags)
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Dust"), *made])
        book.metadata["kernelspec"] = {"name": kernel[0], "display_name": "x", "language": kernel[1]}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(book, path)
        return path

    return write


@pytest.fixture
def submitted(monkeypatch):
    """What would be sent to the portal."""
    found = []

    def submit(name, function, inputs, **more):
        found.append({"name": name, "function": function, "inputs": inputs, **more})
        return found

    monkeypatch.setattr(start, "submit", submit)
    return found


def test_parameters_are_found_as_python_reads_them(notebook):
    path = notebook(
        "%matplotlib inline\nyear: int = 2019  # of the scene\ncrs = 'a=b'; box = dict(x=1)\nprint(1)"
    )
    found = Notebook.read(path)
    assert [(one.name, one.default, one.help) for one in found.parameters] == [
        ("year", "2019", "of the scene"),
        ("crs", "'a=b'", ""),
        ("box", "dict(x=1)", ""),
    ]


def test_a_notebook_of_r_is_read_by_papermill(notebook, submitted, monkeypatch, tmp_path):
    path = notebook("year <- 2019", kernel=("ir", "R"))
    assert (Notebook.read(path).kernel, Notebook.read(path).language) == ("ir", "R")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"written in R and this session has no kernel 'ir' \(it has "):
        cupola.run_notebook(path, {"year": 2020})
    (tmp_path / "kernels" / "ir").mkdir(parents=True)
    (tmp_path / "kernels" / "ir" / "kernel.json").write_text(
        json.dumps({"argv": ["R"], "display_name": "R", "language": "R"})
    )
    cupola.run_notebook(path, {"year": 2020})
    assert (submitted[0]["inputs"][0].kernel, submitted[0]["inputs"][0].jupyter_path) == ("ir", str(tmp_path))


def test_a_job_has_the_notebook_as_it_was_and_a_run_for_each_set(notebook, submitted):
    path = notebook("year = 2019", "print(year)")
    cupola.run_notebook(path, [{"year": 2020}, {"year": 2021}], engine="pool", time="2 h")
    path.write_text("something else")
    (job,) = submitted
    assert job["name"] == "analysis"
    assert job["labels"] == ["year=2020", "year=2021"]
    assert (job["memory"], job["chunk"], job["engine"], job["time"]) == ("2 GiB", 1, "pool", "2 h")
    assert job["source"] == "# %%\nyear = 2019\n\n# %%\nprint(year)"
    assert [(one.parameters, one.number, one.inputs) for one in job["inputs"]] == [
        ({"year": 2020}, 0, 2),
        ({"year": 2021}, 1, 2),
    ]
    assert "print(year)" in job["inputs"][0].text


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"yaer": 2020}, "analysis.ipynb has no parameter 'yaer': did you mean 'year'"),
        ({"x": 1}, "has no parameter 'x': it has year"),
        ([{"year": 1}, {"not a name": 1}], "is no set of parameters"),
        ("year=2020", "is no dict and no list of dicts"),
        ({"year": object()}, "'year' has a object, which cannot be written into a cell"),
        ({"year": {1: 2}}, "a dict with texts as keys"),
    ],
)
def test_wrong_parameters_are_refused_before_the_submit(notebook, submitted, parameters, text):
    with pytest.raises(InputError, match=text):
        cupola.run_notebook(notebook("year = 2019"), parameters)
    assert submitted == []


def test_without_the_tag_a_word_says_where_parameters_go(notebook, submitted):
    with pytest.warns(UserWarning, match=r"No cell of analysis.ipynb has the tag 'parameters'.*at the top"):
        cupola.run_notebook(notebook("year = 2019", tags=()), {"anything": 1})
    assert len(submitted) == 1


def test_what_is_no_notebook(tmp_path, notebook, submitted):
    with pytest.raises(NotFoundError, match="There is no notebook"):
        cupola.run_notebook(tmp_path / "none.ipynb")
    (tmp_path / "a.ipynb").write_text("print(1)")
    with pytest.raises(InputError, match="is no notebook"):
        cupola.run_notebook(tmp_path / "a.ipynb")
    with pytest.raises(InputError, match="There is no folder"):
        cupola.run_notebook(notebook("x = 1"), folder=tmp_path / "none")
    assert submitted == []


def test_values_of_other_kinds():
    import numpy as np

    assert plain("x", (np.int64(3), np.float32(0.5), True, None, {"a": "b"})) == [
        3,
        0.5,
        True,
        None,
        {"a": "b"},
    ]
    assert type(plain("x", np.int64(3))) is int


def test_what_is_typed_into_the_form():
    assert said_in_words("year", " 2020 ", "2019") == 2020
    assert said_in_words("band", "B08", "'B04'") == "B08"
    assert said_in_words("band", "'B08'", "'B04'") == "B08"
    for text in ("__import__('os')", "'B08"):
        with pytest.raises(InputError, match="write a value as in Python"):
            said_in_words("year", text, "2019")


def test_nothing_that_is_there_is_written_over(tmp_path, monkeypatch):
    name = result_name(tmp_path / "analysis.ipynb", "job-1")
    first = Result.claim(tmp_path, name, "1")
    second = Result.claim(tmp_path, name, "2")
    # Not every file system has links.
    monkeypatch.setattr(type(tmp_path), "hardlink_to", lambda *_: (_ for _ in ()).throw(PermissionError()))
    third = Result.claim(tmp_path, name, "3")
    second.write("more")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "analysis.job-1.ipynb": "1",
        "analysis.job-1.try2.ipynb": "more",
        "analysis.job-1.try3.ipynb": "3",
    }
    assert third.path.name == "analysis.job-1.try3.ipynb"
    os.utime(first.path, (2**32, 2**32))
    assert newest(tmp_path, tmp_path / "analysis.ipynb", "job-1") == first.path
    assert newest(tmp_path, tmp_path / "analysis.ipynb", "job-2") is None
    assert [result_name(tmp_path / "a.ipynb", "job-1", number, 11) for number in (0, 10)] == [
        "a.job-1-00",
        "a.job-1-10",
    ]


def test_a_failing_cell_leaves_the_result_and_is_named(notebook, monkeypatch, capsys):
    monkeypatch.setenv("CUPOLA_JOB", "job-7")
    path = notebook(
        "year = 2019",
        "import os, sys\nprint('year', year, sys.executable)",
        "print(os.getcwd())\nraise ValueError('no scene')",
        "print('not reached')",
    )
    before = path.read_bytes()
    wish = NotebookRun(path, Notebook.read(path).text, path.parent, {"year": 2031})
    with pytest.raises(NotebookError) as caught:
        run(wish)
    failure = describe(caught.value)
    assert failure.message.startswith(
        "ValueError in cell 4 of 5 (print(os.getcwd())): no scene; the notebook"
    )
    assert failure.message.endswith(f"{path.parent}/analysis.job-7.ipynb.")
    assert failure.line == "cell 4 of 5: print(os.getcwd())"
    log = capsys.readouterr().out.splitlines()
    assert [line for line in log if line.startswith("cell")] == [
        f"cell {number} of 5" for number in (1, 2, 3, 4)
    ]
    assert f"year 2031 {sys.executable}" in log
    assert str(path.parent) in log
    assert path.read_bytes() == before
    book = nbformat.read(path.parent / "analysis.job-7.ipynb", as_version=4)
    assert "papermill-error-cell" in book.cells[0].source
    assert [output.output_type for output in book.cells[6].outputs] == ["stream", "error"]
    assert book.metadata.kernelspec.name == "python3"
    assert sorted(file.name for file in path.parent.iterdir()) == ["analysis.ipynb", "analysis.job-7.ipynb"]


def test_an_allowed_error_goes_on_and_a_dead_kernel_is_told(notebook, tmp_path):
    path = notebook("1 / 0", "print('went on')", "import os; os._exit(1)", tags=("raises-exception",))
    with pytest.raises(NotebookError, match=r"The kernel died in cell 3 of 3 \(import os; os._exit\(1\)\)"):
        run(NotebookRun(path, Notebook.read(path).text, tmp_path))
    book = nbformat.read(tmp_path / "analysis.job.ipynb", as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert [output.get("text", output.get("ename")) for output in outputs] == [
        "ZeroDivisionError",
        "went on\n",
    ]


def test_the_form_sends_what_was_changed(notebook, monkeypatch):
    class Submitted:
        id, name = "job-1", "analysis"

    sent = []
    monkeypatch.setattr(start, "submit", lambda *said, **_: sent.append(said[2][0].parameters) or Submitted)
    path = str(notebook("year = 2000 + 19\nband = 'B04'"))
    seen = answer({"do": "look", "path": path})
    assert (seen["name"], seen["tagged"]) == ("analysis.ipynb", True)
    assert seen["parameters"][0] == {"name": "year", "default": "2000 + 19", "help": ""}
    for band in ("'B04'", "B08"):
        typed = {"year": "2000 + 19", "band": band}
        told = answer({"do": "start", "path": path, "parameters": typed, "options": {"cpus": 1}})
        assert told == {"id": "job-1", "name": "analysis"}
    assert sent == [{}, {"band": "B08"}]


def test_the_form_offers_the_engines_that_there_are(notebook, monkeypatch, tmp_path):
    path = str(notebook("year = 2019"))
    assert answer({"do": "look", "path": path})["engines"] == [], "this is no session"
    portal = FakePortal(tmp_path)
    monkeypatch.setattr("cupola.lab.jobs.start.client", portal.client)
    slurm = portal.engines[0].model_copy(
        update={
            "name": "slurm",
            "title": "Slurm",
            "default": False,
            "answers": False,
            "problem": "It is down.",
        }
    )
    portal.engines.append(slurm)
    local, other = answer({"do": "look", "path": path})["engines"]
    assert (local["title"], local["default"], local["text"]) == (
        "This platform",
        True,
        "2 cores; a task gets at most 2 cores.",
    )
    assert (other["name"], other["answers"], other["text"]) == ("slurm", False, "It is down.")


def test_the_server_asks_a_process_of_its_own(notebook, monkeypatch):
    monkeypatch.setenv("CUPOLA_PYTHON", sys.executable)
    monkeypatch.setenv("CUPOLA_API_URL", "http://door:1/base/services/cupola/api")
    for name in ("JUPYTERHUB_API_TOKEN", "CUPOLA_TOKEN", "CUPOLA_JOB"):
        monkeypatch.delenv(name, raising=False)
    path = notebook("year = 2019")
    # What lies beside the notebook stands in for no library.
    (path.parent / "json.py").write_text("raise SystemExit('wrong')")
    asked = {"do": "start", "path": str(path), "parameters": {"year": "2020"}, "options": {"cpus": 1}}
    told = asyncio.run(handlers.ask(asked))
    assert told["status"] == 401
    assert "no session" in told["problem"]
    assert handlers.page("job-1") == "/base/services/cupola/jobs/job-1"


def test_paths_of_the_lab_stay_in_the_home(tmp_path):
    assert handlers.find(str(tmp_path), "a/b.ipynb") == tmp_path / "a" / "b.ipynb"
    for path in ("../b.ipynb", "a/../../b.ipynb", "b.txt", ""):
        with pytest.raises(HTTPError):
            handlers.find(str(tmp_path), path)


def test_the_server_loads_nothing_for_it():
    program = "import sys, cupola.lab.notebooks.handlers; print({'papermill', 'nbclient', 'cloudpickle'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
