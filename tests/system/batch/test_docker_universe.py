"""HTCondor's docker universe: tasks in the image of the session's version, under the number of their owner, with their home."""

from __future__ import annotations

import os
import pickle
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cupola.config import HTCondorSettings
from cupola.lab.jobs.packing import pack
from cupola.models.job import TaskPlan
from cupola.models.resources import Resources
from cupola.models.session import ContainerMount, ContainerPlan
from cupola.platform.storage.engine import Array
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.htcondor import HTCondor
from cupola.platform.storage.htcondor.images import NodeImages
from support.pools import htcondor
from support.relay import relay

pytestmark = pytest.mark.system
PATIENCE = 120
JOB = Path(".cupola/jobs/job-docker")


@pytest.fixture
def person():
    """A system account of this test's own: the containers of HTCondor run under the number of the job's owner."""
    name = f"cup{secrets.token_hex(3)}"
    subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield pwd.getpwnam(name)
    subprocess.run(["userdel", name], check=True, capture_output=True)


@pytest.fixture
def homes(person):
    """The homes, which HTCondor mounts at /home as the operator of the nodes says."""
    top = Path(tempfile.mkdtemp(prefix="cup-homes-"))
    top.chmod(0o755)
    (top / person.pw_name).mkdir(mode=0o700)
    yield top
    shutil.rmtree(top)


def program(homes, address):
    """Return the program ``docker`` that HTCondor finds; its daemons are no members of the engine's group."""
    file = homes / "docker"
    file.write_text(f'#!/bin/sh\nDOCKER_HOST={address} exec {shutil.which("docker")} "$@"\n')
    file.chmod(0o755)
    return file


def who(number):
    import os as system

    return number**2, system.getuid(), "JUPYTERHUB_API_TOKEN" in system.environ


def container(person, homes, image):
    name = person.pw_name
    return ContainerPlan(
        name="unused",
        image=image,
        command=[],
        environment={"HOME": f"/home/{name}", "PATH": "/usr/bin:/bin"},
        user=person.pw_uid,
        group=person.pw_gid,
        folder=Path("/home") / name / JOB,
        mounts=[ContainerMount(source=homes / name, target=Path("/home") / name)],
        resources=Resources(cores=1, memory_mib=512),
        processes=100,
        scratch_mib=64,
        network="unused",
        publish=False,
        log=homes,
    )


def write_job(person, homes, inputs):
    folder = JobFolder(homes / person.pw_name / JOB)
    plan = TaskPlan(tag="job-docker", name="docker", inputs=len(inputs), chunk=1, tasks=len(inputs))
    folder.write(plan, pack(who, inputs), [str(one) for one in inputs])
    owner = f"{person.pw_uid}:{person.pw_gid}"
    subprocess.run(["chown", "-R", owner, str(homes / person.pw_name)], check=True)
    return folder


@pytest.mark.timeout(1800)  # the image may have to be built
def test_tasks_run_in_the_image_of_the_session_as_their_owner(engine, images, person, homes):
    image = images.have("lab").digest
    folder = write_job(person, homes, [1, 2, 3])
    with relay(homes / "d.sock", engine.host.removeprefix("unix://")) as address:
        lines = (
            f"DOCKER = {program(homes, address)}",
            "DOCKER_PERFORM_TEST = False",
            "DOCKER_VOLUMES = HOMES",
            f"DOCKER_VOLUME_DIR_HOMES = {homes}:/home",
            "DOCKER_MOUNT_VOLUMES = HOMES",
        )
        with htcondor(MODE="root", TOKEN_USERS=person.pw_name, EXTRA_CONFIG="\n".join(lines)) as pool:
            token = homes / "tokens" / person.pw_name / "token"
            token.parent.mkdir(parents=True)
            shutil.copy(pool.folder / "clients" / person.pw_name / "tokens.d" / person.pw_name, token)
            settings = HTCondorSettings(**pool.settings, universe="docker", tokens=homes / "tokens")
            environment = {"PATH": os.defpath, "CONDOR_CONFIG": str(settings.config)}
            scheduler = HTCondor(environment, settings=settings, images=NodeImages(engine.host))
            array = Array(
                tag="job-docker",
                folder=folder.path,
                python=Path("/opt/cupola/bin/python"),
                tasks=3,
                owner=person.pw_name,
                at_once=4,
                container=container(person, homes, image),
            )
            native = scheduler.submit(array)
            end = time.monotonic() + PATIENCE
            while scheduler.poll([(array, native)]):
                assert time.monotonic() < end
                time.sleep(0.5)
            words = [scheduler.log(array, task) for task in range(3)], scheduler.losses(array, native)
    assert folder.settled().done == {0, 1, 2}, words
    found = []
    for number in range(3):
        with folder.result(number) as file:
            found.append(pickle.load(file))  # noqa: S301 - its own task wrote it
    assert found == [(one, person.pw_uid, False) for one in (1, 4, 9)]
