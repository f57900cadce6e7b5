"""What Slurm is given for an array, and how its answers are read; its commands are scripts that say what a cluster said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cupola.config import SlurmSettings
from cupola.exceptions import InputError, LimitError, UnavailableError
from cupola.models.job import TaskState
from cupola.platform.storage.engine import Array, Control
from cupola.platform.storage.slurm import Slurm
from cupola.platform.storage.slurm.describe import Part, Person, name_of, parts, script, words

ARRAY = Array(
    tag="job-0123456789",
    folder=Path("/data/homes/ada/.cupola/jobs/job-0123456789"),
    python=Path("/data/environments/lab/0123/bin/python"),
    tasks=40,
    owner="ada",
    at_once=8,
    environment={"HOME": "/data/homes/ada", "ODD": """it's "$HOME" \\"""},
)
HUGE = replace(
    ARRAY, cpus=4, memory_mib=4096, gpus=2, time_s=61, team="mars", attempt=2, folder=Path("/data/100 %/x")
)


@pytest.fixture
def cluster(tmp_path):
    """Return an engine whose commands print what a test says."""

    def made(**said):
        for name in ("sbatch", "scancel", "scontrol", "sinfo", "squeue"):
            program = tmp_path / name
            text = said.get(name, "")
            program.write_text(
                f"#!/bin/sh\necho {name} \"$@\" >> {tmp_path}/asked\ncat <<'END'\n{text}\nEND\n"
            )
            program.chmod(0o755)
        return Slurm(
            {"PATH": f"{tmp_path}:/usr/bin:/bin"}, settings=SlurmSettings(**said.get("settings", {}))
        )

    return made


def test_a_plain_array(golden):
    part = Part(0, 40)
    golden("plain", {"words": words(ARRAY, part), "script": script(ARRAY, part)})


def test_all_that_can_be_asked_for(golden):
    part = Part(20, 20)
    said = words(HUGE, part, account="cupola", person=Person(1001, 1002), extra=["--partition=short"])
    golden("all", {"words": said, "script": script(HUGE, part)})


def test_an_array_is_cut_where_slurm_takes_no_more():
    assert list(parts(ARRAY, most=16)) == [Part(0, 16), Part(16, 16), Part(32, 8)]


def test_the_nodes_tell_what_there_is(cluster):
    engine = cluster(
        sinfo="n1|8|16000+|2/6/0/8|gpu:a100:2(S:0-1),gpu:1\nn1|8|16000|2/6/0/8|gpu:a100:2,gpu:1\nn2|4|64000|0/0/4/4|(null)"
    )
    room = engine.capacity()
    assert (room.cores, room.free_cores, room.widest, room.memory_mib, room.gpus) == (12, 6, 8, 64000, 3)
    # Each node alone is too small for the two together.
    with pytest.raises(LimitError, match="no node of the Slurm cluster has together"):
        engine.submit(replace(ARRAY, cpus=8, memory_mib=32000))


def row(place, state, status=0, reason="None", native=7):
    return f"{native:<20}{place:<20}{state:<20}{status:<20}{reason:<60}{name_of(ARRAY):<80}"


def test_a_number_that_slurm_gave_to_another_job_is_not_touched(cluster, tmp_path):
    running, lost = (row(0, state).replace(ARRAY.tag, "job-9876543210") for state in ("RUNNING", "NODE_FAIL"))
    assert cluster(squeue=running, scontrol="MaxArraySize = 1001").poll([(ARRAY, "7")]) == {}
    assert cluster(squeue=lost, scontrol="MaxArraySize = 1001").losses(ARRAY, "7") == {}
    # Asked by name, it has none of this one's.
    engine = cluster(squeue="", scontrol="MaxArraySize = 1001")
    engine.control(replace(ARRAY, folder=tmp_path), "7", Control.CANCEL)
    assert "scancel" not in (tmp_path / "asked").read_text()


def test_lost_tasks_are_told_with_their_reason(cluster):
    rows = [
        row(0, "COMPLETED"),
        row(1, "FAILED", 256, "NonZeroExitCode"),
        row(2, "FAILED", 9, "JobLaunchFailure"),
        row(3, "FAILED", 4021, "JobLaunchFailure"),
        row(4, "OUT_OF_MEMORY", 125, "OutOfMemory"),
        row(5, "TIMEOUT", 1, "TimeLimit"),
        row(6, "NODE_FAIL", 1, "NodeDown"),
        row(7, "CANCELLED", 15, "None"),
        row(8, "PENDING", 0, "launch failed requeued held"),
        row(9, "RUNNING"),
        row(3, "NODE_FAIL", native=8),
    ]
    engine = cluster(squeue="\n".join(rows), scontrol="MaxArraySize            = 1001")
    losses = engine.losses(replace(ARRAY, time_s=60), "7")
    assert {task: (loss.error, loss.again) for task, loss in losses.items()} == {
        2: ("Killed", True),
        3: ("Killed", True),
        4: ("OutOfMemory", False),
        5: ("TimeLimit", False),
        6: ("Killed", True),
        7: ("Killed", False),
        8: ("Killed", True),
    }
    assert "1,024 MiB it asked for" in losses[4].message
    assert "60 s it asked for" in losses[5].message


def test_what_slurm_will_never_start_is_lost_and_cleared_away(cluster, tmp_path):
    stuck = row(0, "PENDING", 0, "launch failed requeued held")
    engine = cluster(
        squeue="\n".join([stuck, row(1, "PENDING", 0, "JobHeldUser")]), scontrol="MaxArraySize = 1001"
    )
    states = engine.poll([(ARRAY, "7")])[ARRAY.tag]
    assert (states[0], states[1], states[2]) == (TaskState.LOST, TaskState.QUEUED, TaskState.DONE)
    alone = cluster(squeue=stuck, scontrol="MaxArraySize = 1001")
    assert alone.poll([(ARRAY, "7")]) == {}
    alone.losses(ARRAY, "7")
    assert "scancel --quiet 7_0\n" in (tmp_path / "asked").read_text()


def test_who_has_no_account_is_refused(cluster):
    engine = cluster(sinfo="n1|8|16000|2/6/0/8|(null)", settings={"as_person": True})
    for owner in ("nobody-of-this-name", "root"):
        with pytest.raises(InputError, match=f"no account '{owner}'"):
            engine.submit(replace(ARRAY, owner=owner))


def test_commands_that_are_not_there_are_told():
    engine = Slurm({"PATH": "/nowhere"}, settings=SlurmSettings())
    with pytest.raises(UnavailableError, match=r"sets engines\.slurm\.programs"):
        engine.capacity()
