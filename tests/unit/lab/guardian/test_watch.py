from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupola.lab.guardian.folder import KernelFolder
from cupola.lab.guardian.kernels.watch import GATHER_SECONDS
from cupola.lab.guardian.kernels.watch_journal import MOST_WAITING, SEGMENT, TAIL, Journal
from support.disks import command, needs
from support.ports import free_port

WATCH = Path(sys.modules[Journal.__module__].__file__ or "").with_name("watch.py")
PATIENCE = 60
SPEAKS = """
import json, os, signal, subprocess, sys, time, zmq
info = json.load(open(sys.argv[1]))
socket = zmq.Context().socket(zmq.PUB)
socket.sndhwm = 0
if info.get("curve_secretkey"):
    socket.curve_server, socket.curve_secretkey = True, info["curve_secretkey"].encode()
    socket.curve_publickey = info["curve_publickey"].encode()
socket.bind(f"tcp://127.0.0.1:{info['iopub_port']}")
asked = json.dumps({"msg_id": "one", "msg_type": "execute_request", "session": "page"}).encode()
def say(kind, parent=asked, buffers=(), **content):
    header = {"msg_id": "x", "msg_type": kind, "session": "kernel", "date": "2026-01-01T00:00:00Z"}
    frames = [b"topic", b"<IDS|MSG>", b"sign", json.dumps(header).encode(), parent, b"{}"]
    socket.send_multipart([*frames, json.dumps(content).encode(), *buffers])
time.sleep(1)
def done():
    say("status", execution_state="idle")
    socket.context.destroy(linger=60000)
"""
"""A kernel that says what a test wants, without waiting to be asked."""


class Guarded:
    """A guardian and its kernel."""

    def __init__(self, folder, code="", *, command=None, more=None, info=None):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        ports = {"iopub_port": free_port(), "stdin_port": free_port(), **(info or {})}
        (folder / "connection.json").write_text(json.dumps({"transport": "tcp", "ip": "127.0.0.1", **ports}))
        run = command or [sys.executable, "-c", SPEAKS + code, str(folder / "connection.json")]
        self.errors = folder.parent / "errors.txt"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(WATCH), str(folder), "made-up", "python", "--", *run],
                env={**os.environ, "CUPOLA_SESSION": "unit", **(more or {})},
                stderr=errors,
                start_new_session=True,
            )

    @property
    def records(self):
        found = []
        for file in sorted((self.folder / "journal").glob("*.jsonl")):
            found += [json.loads(line) for line in file.read_bytes().splitlines()]
        return found

    @property
    def record(self):
        place = self.folder / "kernel.json"
        return json.loads(place.read_text()) if place.exists() else {}

    def end(self):
        return self.process.wait(PATIENCE)


def until(true):
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def guarded(tmp_path):
    made = []

    def make(*given, **named):
        made.append(Guarded(tmp_path / "k1", *given, **named))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()


def records_of(folder):
    return [
        json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()
    ]


def test_how_the_kernel_before_ended_is_written_down(guarded):
    first = guarded("os.kill(os.getpid(), signal.SIGKILL)")
    first.end()
    assert first.record["before"] is None
    # By the server that ended it.
    (first.folder / "kernel.json").write_text(json.dumps(first.record | {"ended": "culled"}))
    second = guarded("time.sleep(600)")
    before = until(lambda: second.record.get("before"))
    (end,) = [one for one in second.records if one["type"] == "end"]
    assert before == {"epoch": 1, "ended": "culled", "t": end["t"], "code": -9, "signal": 9}
    until(lambda: [one for one in second.records if one.get("epoch") == 2])
    second.process.kill()
    second.end()
    third = guarded("done()")
    third.end()
    assert third.record["before"]["epoch"] == 2
    assert "code" not in third.record["before"], "nobody has seen its end"
    assert third.record["before"]["t"] >= end["t"]


# -- journal --------------------------------------------------------------------------------------------------


def test_numbers_go_on_when_a_kernel_is_restarted(tmp_path):
    for epoch in (1, 2):
        journal = Journal(str(tmp_path), 1 << 20)
        journal.say("start", epoch=epoch)
        journal.flush()
    assert [(one["n"], one["epoch"]) for one in records_of(tmp_path)] == [(1, 1), (2, 2)]


def test_a_half_written_last_line_is_passed_over_by_the_next_guardian(tmp_path):
    journal = Journal(str(tmp_path), 1 << 20)
    journal.say("start", epoch=1)
    journal.flush()
    with (tmp_path / "00000001.jsonl").open("a") as file:
        file.write('{"n":2,"type"')
    again = Journal(str(tmp_path), 1 << 20)
    again.say("start", epoch=2)
    again.flush()
    assert (tmp_path / "00000002.jsonl").read_text().startswith('{"n":2,')


def test_a_damaged_journal_goes_on_with_higher_numbers(tmp_path):
    (tmp_path / "00000003.jsonl").write_bytes(b"\0" * 5000)
    journal = Journal(str(tmp_path), 1 << 20)
    journal.say("start", epoch=1)
    journal.flush()
    assert json.loads((tmp_path / "00000004.jsonl").read_text())["n"] > 10**9


def test_segments_have_a_size(tmp_path):
    journal = Journal(str(tmp_path), 100 << 20)
    for _ in range(6):
        journal.add(b'"type":"stream","content":"' + b"x" * (SEGMENT // 4) + b'"')
        journal.flush()
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert [one["n"] for one in records_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_the_middle_of_a_flood_is_dropped_and_its_end_is_kept(tmp_path):
    journal = Journal(str(tmp_path), 1 << 20)
    text = b"x" * 1000
    for number in range(10_000):
        journal.add(b'"type":"stream","number":%d,"text":"%s"' % (number, text), essential=False)
        journal.flush()
    journal.add(b'"type":"status"')
    journal.flush()
    records = records_of(tmp_path)
    numbers = [one["number"] for one in records if one["type"] == "stream"]
    (gap,) = [one for one in records if one["type"] == "gap"]
    assert numbers[0] == 0
    assert numbers[-1] == 9999
    assert gap["messages"] == 10_000 - len(numbers)
    assert "1 MiB" in gap["why"]
    assert records[-1]["type"] == "status"
    assert [one["n"] for one in records] == list(range(1, len(records) + 1))
    assert sum(file.stat().st_size for file in tmp_path.glob("*")) < (1 << 20) + 2 * TAIL


def test_a_journal_that_was_cut_has_room_again(tmp_path):
    journal = Journal(str(tmp_path), 1 << 20)
    journal.size = SEGMENT + 1
    journal.before = 2 << 20
    journal.flush()  # another segment; what was there is measured
    assert not journal.crowded


@pytest.fixture
def small_disk(tmp_path):
    needs("mount")
    place = tmp_path / "small"
    place.mkdir()
    mounted = command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place), check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    command("umount", "-l", str(place), check=False)


def test_a_full_disk_loses_nothing_that_fits_into_memory(small_disk):
    (small_disk / "other").write_bytes(b"x" * 700_000)
    journal = Journal(str(small_disk / "journal"), 512 << 20)
    for number in range(1000):
        journal.add(b'"type":"stream","number":%d,"text":"%s"' % (number, b"x" * 500), essential=False)
        journal.flush()
    read = [json.loads(line) for line in (small_disk / "journal/00000001.jsonl").read_bytes().splitlines()]
    assert 0 < len(read) < 1000
    (small_disk / "other").unlink()
    journal.flush()
    assert [one["number"] for one in records_of(small_disk / "journal")] == list(range(1000))


def test_a_disk_that_stays_full_costs_a_bounded_memory_and_the_gap_is_told(small_disk):
    (small_disk / "other").write_bytes(b"x" * 900_000)
    journal = Journal(str(small_disk / "journal"), 512 << 20)
    many = 2 * MOST_WAITING // 1000
    for number in range(many):
        journal.add(b'"type":"stream","number":%d,"text":"%s"' % (number, b"x" * 1000), essential=False)
        journal.flush(now=False)
    assert journal.waiting_bytes + journal.tail_bytes < MOST_WAITING + 2 * TAIL
    command("mount", "-o", "remount,size=64m", str(small_disk))
    journal.flush()
    journal.say("end", code=0)
    journal.flush()
    records = records_of(small_disk / "journal")
    numbers = [one["number"] for one in records if one["type"] == "stream"]
    (gap,) = [one for one in records if one["type"] == "gap"]
    assert gap["messages"] == many - len(numbers)
    assert "space" in gap["why"]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == many - 1
    assert records[-1]["type"] == "end"


# -- guardian -------------------------------------------------------------------------------------------------


def test_what_a_kernel_says_is_written_down_in_order(guarded):
    code = """
say("status", execution_state="busy")
say("execute_input", code="x", execution_count=1)
for number in range(3000):
    say("stream", name="stdout", text=f"{number}\\n")
say("comm_msg", comm_id="c", data={}, buffers=(b"\\0\\1",))
say("debug_event")
say("status", json.dumps({"msg_id": "i", "msg_type": "kernel_info_request"}).encode(), execution_state="idle")
done()
"""
    one = guarded(code)
    assert one.end() == 0
    records = one.records
    kinds = [record["type"] for record in records if record["type"] != "stream"]
    assert kinds == ["start", "status", "execute_input", "comm_msg", "status", "end"]
    printed = [record["content"]["text"] for record in records if record["type"] == "stream"]
    assert printed == [f"{number}\n" for number in range(3000)]
    assert all(record["id"] == "one" for record in records if "id" in record)
    assert next(record for record in records if record["type"] == "comm_msg")["buffers"] == ["AAE="]
    assert records[-1]["code"] == 0


def test_of_a_flood_all_is_written_down_or_counted(guarded):
    code = """
for number in range(50_000):
    say("stream", name="stdout", text=f"{number}\\n")
done()
"""
    one = guarded(code)
    assert one.end() == 0
    records = one.records
    kept = [int(record["content"]["text"]) for record in records if record["type"] == "stream"]
    assert kept == sorted(set(kept))
    assert len(kept) + sum(record["messages"] for record in records if record["type"] == "gap") == 50_000
    assert [record["type"] for record in records[-2:]] == ["status", "end"]


def test_lines_that_come_one_by_one_are_taken_together(guarded):
    code = """
for number in range(3000):
    say("stream", name="stdout", text=f"{number}\\n")
    time.sleep(0.0003)
say("stream", name="stdout", text="3000\\n")
time.sleep(1000)
"""
    one = guarded(code)
    said = until(
        lambda: (
            (found := [record for record in one.records if record["type"] == "stream"])
            and len(found) == 3001
            and found
        )
    )
    fields = dict(line.split(": ") for line in Path(f"/proc/{one.process.pid}/io").read_text().splitlines())
    # Each time it wakes it writes once, and its library tells it so by two writes more at most.
    wakes = (said[-1]["t"] - said[0]["t"]) / GATHER_SECONDS
    assert int(fields["syscw"]) < 3 * wakes + 200


def test_what_is_no_message_does_not_shift_those_that_follow(guarded):
    code = """
say("stream", name="stdout", text="one")
for frames in ([b"x"], [b"<IDS|MSG>"], [b"a", b"b", b"<IDS|MSG>", b"sign", b"{"], [b""] * 20):
    socket.send_multipart(frames)
header = json.dumps({"msg_id": '"msg_type": "error"', "msg_type" : "stream"}, separators=(",", "  : ")).encode()
socket.send_multipart([b"a", b"b", b"<IDS|MSG>", b"s", header, asked, b"{}", b'{"name":"stdout","text":"two"}', b"more"])
say("stream", name="stdout", text="three")
done()
"""
    one = guarded(code)
    assert one.end() == 0
    said = [record for record in one.records if record["type"] not in {"start", "status", "end"}]
    assert [(record["type"], record["content"]["text"]) for record in said] == [
        ("stream", "one"),
        ("stream", "two"),
        ("stream", "three"),
    ]
    assert said[1]["buffers"] == ["bW9yZQ=="]


def test_a_kernel_that_speaks_as_soon_as_it_is_heard_is_heard_from_the_first_word(guarded, tmp_path):
    waits = """
ear = os.path.join(os.path.dirname(sys.argv[1]), "hears")
while not os.path.exists(ear):
    time.sleep(0.001)
"""
    code = SPEAKS.replace("time.sleep(1)", waits).replace("socket.bind", "time.sleep(0.5); socket.bind")
    code += "for number in range(10): say('stream', name='stdout', text=str(number))\ndone()\n"
    (tmp_path / "k1").mkdir()
    # Of the kernel before.
    (tmp_path / "k1" / "hears").touch()
    run = [sys.executable, "-c", code, str(tmp_path / "k1" / "connection.json")]
    one = guarded(command=run)
    assert one.end() == 0
    said = [record["content"]["text"] for record in one.records if record["type"] == "stream"]
    assert said == [str(number) for number in range(10)]


def test_an_encrypted_kernel_is_heard(guarded):
    import zmq

    public, secret = (key.decode() for key in zmq.curve_keypair())
    info = {"curve_publickey": public, "curve_secretkey": secret}
    one = guarded('say("stream", name="stdout", text="secret"); done()', info=info)
    assert one.end() == 0
    assert [record["content"]["text"] for record in one.records if record["type"] == "stream"] == ["secret"]


def test_a_command_that_is_not_there_is_told(guarded):
    one = guarded(command=["/nowhere/kernel"])
    assert one.end() == 127
    assert "/nowhere/kernel" in one.errors.read_text()
    assert one.records[-1] == {"n": 2, "t": one.records[-1]["t"], "type": "end", "code": 127}


def test_a_kernel_that_ends_at_once_leaves_its_words_in_the_log(guarded):
    one = guarded(command=[sys.executable, "-c", "raise SystemExit('no such module')"])
    assert one.end() == 1
    assert "no such module" in one.errors.read_text()
    assert one.records[-1]["code"] == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_kernel_that_does_not_want_to_end_is_ended_with_what_it_started(guarded, times):
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True)\n"
    one = guarded(stubborn + "say('stream', text=str(child.pid)); time.sleep(1000)")
    child = int(
        until(lambda: [record for record in one.records if record["type"] == "stream"])[0]["content"]["text"]
    )
    for _ in range(times):
        one.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert one.end() == 128 + signal.SIGKILL
    assert one.records[-1]["signal"] == signal.SIGKILL
    until(lambda: not Path(f"/proc/{child}").exists() or "Z (zombie)" in _status(child))


def _status(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "Z (zombie)"


def test_a_kernel_does_not_outlive_its_guardian(guarded):
    one = guarded("time.sleep(1000)")
    kernel = until(lambda: one.record.get("kernel"))
    one.process.kill()
    one.process.wait()
    until(lambda: "Z (zombie)" in _status(kernel))
    assert not KernelFolder(one.folder).alive


def test_an_interrupt_reaches_the_kernel_alone(guarded):
    code = (
        "signal.signal(signal.SIGINT, lambda *_: (say('stream', text='interrupted'), done(), os._exit(3)))\n"
    )
    one = guarded(code + "say('stream', text='ready')\ntime.sleep(1000)")
    until(lambda: [record for record in one.records if record["type"] == "stream"])
    os.killpg(one.record["kernel"], signal.SIGINT)
    assert one.end() == 3
    assert one.records[-3]["content"]["text"] == "interrupted"


def test_who_looks_whether_it_lives_does_not_keep_a_guardian_from_starting(guarded, tmp_path):
    (tmp_path / "k1").mkdir()
    lock = os.open(tmp_path / "k1" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    one = guarded("time.sleep(1000)")
    time.sleep(0.3)
    assert not one.record
    os.close(lock)
    until(lambda: one.record)
    assert KernelFolder(one.folder).guardian == one.process.pid


def test_one_folder_has_one_guardian(guarded):
    first = guarded("time.sleep(1000)")
    kernel = until(lambda: first.record.get("kernel"))
    second = guarded("time.sleep(1000)")
    assert second.end() == 1
    assert first.record["kernel"] == kernel
    assert "has a guardian already" in second.errors.read_text()


def test_a_guardian_needs_at_most_20_mb(guarded):
    one = guarded("say('stream', text='x')\ntime.sleep(1000)")
    until(lambda: len(one.records) > 1)
    pages = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1])
    assert pages * os.sysconf("SC_PAGESIZE") < 20e6


def test_a_pid_that_is_anothers_by_now_is_not_believed(guarded):
    one = guarded("time.sleep(1000)")
    record = until(lambda: one.record)
    folder = KernelFolder(one.folder)
    folder.record_file.write_text(json.dumps({**record, "guardian": os.getpid()}))
    assert folder.alive
    assert folder.guardian is None
