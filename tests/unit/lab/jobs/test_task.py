# ruff: noqa: S301 - what these tests pickled themselves
from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.lab import task
from cupola.lab.jobs.packing import pack
from cupola.lab.task import Exit, Plan, load_payload, run_task
from cupola.models.job import TaskFailure, TaskPlan


def run(folder, number=0):
    before = Path.cwd(), list(sys.path)
    try:
        return run_task(folder, Plan.read(folder), number, load_payload(folder))
    finally:
        os.chdir(before[0])
        sys.path[:] = before[1]


def results(folder):
    return {file.name: pickle.loads(file.read_bytes()) for file in (folder / "results").glob("*.pkl")}


def failure(folder, number):
    return TaskFailure.model_validate_json((folder / "results" / f"{number}.error").read_bytes())


def test_the_plan_is_read_as_the_model_writes_it(job_folder):
    folder = job_folder(
        abs, [1, 2, 3], chunk=2, cpus=2, memory_mib=77, retries=4, at_once=3, only=[1], attempt=2
    )
    plan, model = Plan.read(folder), TaskPlan.model_validate_json((folder / "job.json").read_bytes())
    for name in ("tag", "inputs", "chunk", "tasks", "cpus", "memory_mib", "retries", "at_once", "attempt"):
        assert getattr(plan, name) == getattr(model, name)
    assert list(plan.only) == model.only
    assert plan.task_inputs(1) == model.task_inputs(1) == range(2, 3)


def test_only_the_inputs_of_the_task_are_computed(job_folder):
    folder = job_folder(abs, [-1, -2, -3, -4, -5], chunk=2)
    assert run(folder, 1) == Exit.DONE
    assert results(folder) == {"2.pkl": 3, "3.pkl": 4}


def test_one_bad_input_does_not_stop_the_others(job_folder):
    def invert(x):
        return 1 / x

    folder = job_folder(invert, [1, 0, 2])
    assert run(folder) == Exit.FAILED
    assert results(folder) == {"0.pkl": 1.0, "2.pkl": 0.5}
    told = failure(folder, 1)
    assert (told.input, told.label, told.error, told.task) == (1, "0", "ZeroDivisionError", 0)
    assert told.line.endswith("return 1 / x")


def test_what_is_settled_is_not_computed_again(job_folder, tmp_path):
    log = tmp_path / "calls"

    def note(x):
        with log.open("a") as file:
            file.write(f"{x}\n")
        return x

    folder = job_folder(note, [0, 1, 2])
    (folder / "results" / "0.pkl").write_bytes(pickle.dumps("kept"))
    (folder / "results" / "1.error").write_text("{}")
    assert run(folder) == Exit.FAILED
    assert log.read_text() == "2\n"
    assert results(folder)["0.pkl"] == "kept"


def test_an_empty_result_that_a_power_cut_left_is_computed(job_folder):
    folder = job_folder(abs, [-1])
    (folder / "results" / "0.pkl").touch()
    assert run(folder) == Exit.DONE
    assert results(folder) == {"0.pkl": 1}


def test_leaving_python_fails_the_input_only(job_folder):
    folder = job_folder(lambda x: sys.exit(3) if x else x, [1, 0])
    assert run(folder) == Exit.FAILED
    assert failure(folder, 0).error == "SystemExit"
    assert results(folder) == {"1.pkl": 0}


def test_an_interrupt_ends_the_task_and_no_input(job_folder):
    def interrupt(_):
        raise KeyboardInterrupt

    folder = job_folder(interrupt, [1])
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert list((folder / "results").iterdir()) == []


def test_a_result_that_cannot_be_kept_is_a_failure_with_the_way_out(job_folder):
    folder = job_folder(lambda x: (y for y in range(x)), [3])
    assert run(folder) == Exit.FAILED
    assert "return plain data, arrays or the name of a file" in failure(folder, 0).message


def test_a_result_of_a_class_of_the_notebook_is_kept(job_folder):
    class Mine:
        value = 7

    Mine.__module__ = "__main__"
    folder = job_folder(lambda _: Mine(), [1])
    assert run(folder) == Exit.DONE
    assert results(folder)["0.pkl"].value == 7


def test_a_missing_module_is_one_sentence_for_each_input(job_folder):
    payload = pickle.dumps(pickle.loads(pack(abs, [1]))) + b"cnot_installed_here\nfunction\n."
    folder = job_folder(abs, [1, 2], payload=payload)
    assert run(folder) == Exit.FAILED
    for number in range(2):
        assert "needs the module 'not_installed_here'" in failure(folder, number).message
        assert "pip install" in failure(folder, number).message


def test_another_python_is_one_sentence(job_folder):
    place = {"python": "3.9", "cwd": "/", "path": [], "sources": {}}
    folder = job_folder(abs, [1], payload=pickle.dumps(place) + b"broken")
    run(folder)
    assert "made by Python 3.9" in failure(folder, 0).message


def test_a_torn_payload_is_a_failure(job_folder):
    folder = job_folder(abs, [1], payload=b"\x80")
    assert run(folder) == Exit.FAILED
    assert "could not be loaded" in failure(folder, 0).message


def test_a_full_disk_is_a_failure_and_leaves_no_half_file(job_folder, monkeypatch):
    folder = job_folder(lambda _: b"x" * 1000, [1])
    write = os.write

    def full(file, data):
        if len(data) > 900:
            write(file, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(task.os, "write", full)
    assert run(folder) == Exit.FAILED
    assert failure(folder, 0).error == "DiskFull"
    assert [file.name for file in (folder / "results").iterdir()] == ["0.error"]


def test_a_disk_too_full_for_a_failure_ends_the_task(job_folder, monkeypatch):
    folder = job_folder(abs, [1, 2])

    def full(_file, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(task.os, "write", full)
    assert run(folder) == Exit.DISK_FULL
    assert list((folder / "results").iterdir()) == []


def test_a_process_that_the_function_forked_and_forgot_does_not_go_on(job_folder, tmp_path):
    log = tmp_path / "calls"

    def forks(x):
        with log.open("a") as file:
            file.write(f"{x}\n")
        if x == 0 and os.fork():
            os.wait()
        return x

    folder = job_folder(forks, [0, 1])
    done = subprocess.run([sys.executable, "-m", "cupola.lab.task", folder, "0"], check=False)
    assert done.returncode == 0
    assert log.read_text() == "0\n1\n"


def test_the_command_writes_the_log_and_works_in_the_notebooks_folder(job_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("here")

    def read(name):
        print("reading", name)  # noqa: T201
        return Path(name).read_text()

    folder = job_folder(read, ["data.txt"])
    done = subprocess.run([sys.executable, "-m", "cupola.lab.task", folder, "0"], check=False, cwd="/")
    assert done.returncode == 0
    assert (folder / "log" / "0.out").read_text() == "reading data.txt\n"
    assert results(folder) == {"0.pkl": "here"}


def test_wrong_arguments_are_refused(capsys):
    assert task.main(["only-one"]) == 2
    assert "Say which task to run" in capsys.readouterr().err


def test_failures_are_valid_json_whatever_the_text(job_folder):
    def odd(_):
        raise ValueError("\udcff broken \x00 text")

    folder = job_folder(odd, [1])
    run(folder)
    assert "broken" in json.loads((folder / "results" / "0.error").read_bytes())["message"]
