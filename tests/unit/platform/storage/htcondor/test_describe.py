"""What HTCondor is given for an array: golden files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cupola.config import HTCondorSettings
from cupola.exceptions import InputError
from cupola.models.resources import Resources
from cupola.models.session import ContainerMount, ContainerPlan
from cupola.platform.storage.engine import Array
from cupola.platform.storage.htcondor.describe import Terms, describe
from cupola.platform.storage.htcondor.images import NodeImages
from cupola.platform.storage.htcondor.jobs import HTCondor, _loss, _states, volumes_of

ARRAY = Array(
    tag="job-0123456789",
    folder=Path("/data/homes/ada/.cupola/jobs/job-0123456789"),
    python=Path("/data/environments/lab/0123/bin/python"),
    tasks=40,
    owner="ada",
    at_once=8,
    environment={"HOME": "/data/homes/ada", "ODD": """it's "$HOME" \\"""},
)
CONTAINER = ContainerPlan(
    name="cupola-k-job-0123456789",
    image=f"sha256:{'a' * 64}",
    command=[],
    environment={"HOME": "/home/ada", "CUPOLA_JOB": "job-0123456789"},
    user=20001,
    group=20001,
    folder=Path("/home/ada/.cupola/jobs/job-0123456789"),
    mounts=[ContainerMount(source=Path("/data/homes/ada"), target=Path("/home/ada"))],
    resources=Resources(cores=1, memory_mib=1024),
    processes=100,
    scratch_mib=64,
    network="cupola-k",
    publish=False,
    log=Path("/data/log"),
)


def test_a_plain_array(golden):
    golden("plain", describe(ARRAY, Terms(cores=400)))


def test_all_that_can_be_asked_for(golden):
    array = replace(
        ARRAY, cpus=4, memory_mib=4096, gpus=2, time_s=3600, team="mars", only=(3, 7), attempt=2, retries=3
    )
    terms = Terms(cores=8, group="group_cupola", extra={"requirements": "OpSysMajorVer >= 12"})
    golden("all", describe(array, terms))


@pytest.mark.parametrize("universe", ["docker", "container"])
def test_in_the_image_of_the_session(golden, universe):
    terms = Terms(universe=universe, image=f"registry.example.org/cupola/lab@sha256:{'b' * 64}")
    array = replace(ARRAY, container=CONTAINER, python=Path("/opt/cupola/bin/python"))
    golden(universe, describe(array, terms))


def test_nodes_are_told_the_volumes_of_the_session_and_no_others():
    volumes = [
        ContainerMount(source=Path("/data", name), target=Path("/volumes", name))
        for name in ("team-mars", "kernels")
    ]
    with_volumes = CONTAINER.model_copy(update={"mounts": [*CONTAINER.mounts, *volumes]})
    assert volumes_of(replace(ARRAY, container=with_volumes)) == {"MY.CupolaVolumes": '"kernels,team-mars"'}
    assert volumes_of(replace(ARRAY, container=CONTAINER)) == {"MY.CupolaVolumes": '""'}
    assert volumes_of(ARRAY) == {}


@pytest.mark.parametrize("value", ["two\nlines", "$$(Cpus)"])
def test_a_variable_that_htcondor_would_change_is_refused(value):
    with pytest.raises(InputError, match="variable BAD"):
        describe(replace(ARRAY, environment={"BAD": value}), Terms())


@pytest.mark.parametrize(
    ("universe", "container", "words"),
    [
        ("vanilla", CONTAINER, "set up for tasks without one"),
        ("docker", None, "sessions are no containers here"),
        ("docker", CONTAINER, r"would not run as their owner.*engines\.htcondor\.tokens"),
    ],
)
def test_a_pool_that_is_set_up_for_the_other_way_is_refused(tmp_path, universe, container, words):
    settings = HTCondorSettings(config=tmp_path, universe=universe)
    engine = HTCondor({}, settings=settings, images=NodeImages("unix:///nowhere"))
    with pytest.raises(InputError, match=words):
        engine.submit(replace(ARRAY, container=container))


def test_a_person_without_a_token_is_told_where_it_belongs(tmp_path):
    config = tmp_path / "config"
    config.touch()
    engine = HTCondor({}, settings=HTCondorSettings(config=config, tokens=tmp_path / "tokens"))
    with pytest.raises(InputError, match=r"does not know ada: .*tokens/ada"):
        engine.throttle(ARRAY, "7", 1)


def test_what_the_pool_holds_is_lost_and_what_a_person_holds_waits():
    told = {"next": 3, "procs": [[0, 5, 1], [1, 5, 26], [2, 2, None]]}
    states = _states(replace(ARRAY, tasks=5), told)
    assert {task: state.value for task, state in states.items()} == {
        0: "queued", 1: "lost", 2: "running", 3: "queued", 4: "queued",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ad", "loss"),
    [
        ({"ExitCode": 1}, None),
        ({"ExitBySignal": True, "ExitSignal": 9}, ("Killed", "Its process was killed by signal 9.", False)),
        (
            {
                "RemoveReason": "The job attribute PeriodicRemove expression evaluated to TRUE",
                "HoldReasonCode": 34,
                "HoldReason": "Error from slot1@n: Job has gone over cgroup memory limit of 1024 megabytes. Last measured "
                "usage: 1500 megabytes.  Consider resubmitting with a higher request_memory.",
            },
            (
                "OutOfMemory",
                "It used 1,500 MiB and had asked for 1,024: ask for more with memory=... or give it less data at a time.",
                False,
            ),
        ),
        (
            {"RemoveReason": "by PeriodicRemove", "HoldReasonCode": 12, "HoldReason": "No such python"},
            ("Killed", "HTCondor held it: No such python.", True),
        ),
        (
            {"RemoveReason": "via condor_rm (by user root)", "ExitBySignal": True, "ExitSignal": 15},
            ("Killed", "It was removed from HTCondor: via condor_rm (by user root).", False),
        ),
    ],
)
def test_why_a_task_was_lost(ad, loss):
    told = _loss(ad, ARRAY)
    assert (told and (told.error, told.message, told.again)) == loss
