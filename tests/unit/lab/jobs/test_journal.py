from __future__ import annotations

import errno
import json
import os

from cupola.lab.jobs import journal as module
from cupola.lab.jobs.journal import Journal
from cupola.models.job import TaskEvent


def lines(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_events_are_what_the_portal_expects(tmp_path):
    journal = Journal(tmp_path)
    journal.write({"task": 3, "state": "failed", "exit_code": 1, "cpu_seconds": 0.5})
    journal.close()
    event = TaskEvent.model_validate_json((tmp_path / "events.jsonl").read_bytes())
    assert (event.task, event.state, event.exit_code) == (3, "failed", 1)


def test_a_full_disk_delays_events_and_loses_none(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    write = os.write

    def full(file, data):
        if (tmp_path / "reserve").exists():
            if len(data) <= 10:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, data[:10])
        return write(file, data)

    monkeypatch.setattr(module.os, "write", full)
    journal.write({"task": 0, "state": "running"})
    journal.write({"task": 0, "state": "done"})
    journal.end({"task": -1, "state": "failed", "message": "full"})
    assert [(line["task"], line["state"]) for line in lines(tmp_path)] == [
        (0, "running"),
        (0, "done"),
        (-1, "failed"),
    ]


def test_the_reserve_takes_space_and_is_given_back(tmp_path):
    journal = Journal(tmp_path)
    assert (tmp_path / "reserve").stat().st_size == module.RESERVE
    journal.end({"task": -1, "state": "done"})
    assert not (tmp_path / "reserve").exists()
