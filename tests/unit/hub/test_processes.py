from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cupola.hub.drivers.base import code_of, describe
from cupola.hub.drivers.process import MARK, end_of_return_code, end_of_wait_status, module_of, stop_session
from cupola.hub.processes import KnownProcess, end, output_tail, read_record, write_record
from cupola.models.session import EndCause, SessionEnd
from cupola.processes import marked_with, wait_for

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(100)"


@pytest.fixture
def run():
    started = []

    def start(code, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_is_known_again_by_its_creation_time(tmp_path, run):
    process = run("import time; time.sleep(100)")
    known = KnownProcess.of(process.pid)
    write_record(tmp_path / "it.json", known)
    again = read_record(tmp_path / "it.json")
    assert again == known
    assert again.alive
    # The same pid, handed out again to another program.
    assert not KnownProcess(process.pid, known.created - 100).alive
    process.kill()
    process.wait()
    assert not again.alive
    assert KnownProcess.of(process.pid) is None


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def numbered(run, number, **environment):
    """Start a program under a process number of one's own choice."""
    for _ in range(50):
        try:
            LAST_PID.write_text(str(number - 1))
        except OSError as error:
            pytest.skip(f"{LAST_PID} cannot be written: {error}")
        process = run("import time; time.sleep(100)", **environment)
        if process.pid == number:
            return process
        process.kill()  # somebody was quicker
    pytest.fail(f"the number {number} was never free")


def test_whoever_has_a_number_that_another_had_is_ended(run):
    first = run("import time; time.sleep(100)", **{MARK: "numbers"})
    assert [one.pid for one in marked_with(MARK, "numbers")] == [first.pid]
    first.kill()
    first.wait()
    # The system counts the starts of processes in hundredths of a second.
    time.sleep(0.05)
    second = numbered(run, first.pid, **{MARK: "numbers"})
    end(marked_with(MARK, "numbers"), seconds=5)
    second.wait(5)
    assert not psutil.pid_exists(second.pid)


def test_a_number_that_is_a_threads_by_now_is_waited_for(run):
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(100,)).start(); print(flush=True)"
    )
    process = run(code)
    process.stdout.readline()
    (thread,) = [one.id for one in psutil.Process(process.pid).threads() if one.id != process.pid]
    # As psutil sees it: what it knew by this number is no process of its own.
    number = psutil.Process(thread)
    assert wait_for([number], seconds=0.1) == [number]
    process.kill()
    process.wait()
    assert wait_for([number], seconds=5) == []


def test_a_zombie_is_not_alive(run):
    process = run("pass")
    known = KnownProcess.of(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert not known.alive


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"pid": "x", "created": 1}', '{"pid": null, "created": 1}']
)
def test_a_damaged_record_names_nobody(tmp_path, content):
    (tmp_path / "it.json").write_text(content)
    assert read_record(tmp_path / "it.json") is None


def test_what_does_not_end_when_asked_is_killed(run):
    process = run(STUBBORN)
    assert process.stdout.readline() == "on\n"
    assert end([psutil.Process(process.pid)], seconds=0.2) == 1
    assert not psutil.pid_exists(process.pid)


def test_what_ends_when_asked_is_not_killed(run):
    process = run("import time; print('on', flush=True); time.sleep(100)")
    process.stdout.readline()
    assert end([psutil.Process(process.pid)], seconds=20) == 0
    assert not psutil.pid_exists(process.pid)


def test_a_session_ends_with_what_left_its_process_group(run):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(100)"
    )
    server = run(code, **{MARK: "lab-1"})
    other = run("import time; time.sleep(100)", **{MARK: "lab-2"})
    child = psutil.Process(int(server.stdout.readline()))
    stop_session("lab-1", KnownProcess.of(server.pid), seconds=5)
    server.wait()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert other.poll() is None


def test_the_end_is_told_in_words():
    assert describe(end_of_return_code(-9)) == "was ended by the signal SIGKILL"
    assert describe(end_of_return_code(3)) == "ended with exit code 3"
    assert end_of_wait_status(signal.SIGTERM).signal == "SIGTERM"
    assert end_of_wait_status(2 << 8).exit_code == 2
    assert describe(SessionEnd(cause=EndCause.LOST)) == "was gone"
    memory = SessionEnd(cause=EndCause.OUT_OF_MEMORY, signal="SIGKILL", memory_limit_mib=512)
    assert "its limit of 512 MiB" in describe(memory)
    assert [code_of(end_of_return_code(code)) for code in (3, -9)] == [3, 137]
    assert code_of(SessionEnd(cause=EndCause.LOST)) == 1


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "-P", "-m", "cupola.lab.session", "--a"], ("cupola.lab.session", ["--a"])),
        (["python", "-m", "x"], ("x", [])),
        (["python", "-m"], None),
        (["python", "script.py", "-m", "x"], None),
        (["app"], None),
    ],
)
def test_only_a_module_can_be_forked(command, expected):
    assert module_of(command) == expected


def test_the_tail_of_a_log_is_one_line(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"\xff start\n" + b"x\n" * 9000 + b"\nfirst\n\nlast\n")
    assert output_tail(log, 2) == "first | last"
    assert output_tail(tmp_path / "missing") == ""
