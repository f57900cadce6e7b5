"""Whose tasks are whose: real pools whose daemons are root, and two system accounts made for the test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cupola.config import HTCondorSettings
from cupola.exceptions import UnavailableError
from cupola.platform.storage.engine import Array, Control
from cupola.platform.storage.htcondor import HTCondor
from support.pools import htcondor

pytestmark = pytest.mark.system
PATIENCE = 180


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def people():
    """Two system accounts of this test's own."""
    if os.geteuid() != 0:
        pytest.skip("accounts are made by root only")
    names = [f"cup{secrets.token_hex(3)}{letter}" for letter in "ab"]
    for name in names:
        subprocess.run(["useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield names
    for name in names:
        subprocess.run(["userdel", name], check=True, capture_output=True)


@pytest.fixture
def make():
    """Return arrays whose interpreter writes down who runs it, in folders that belong to their owners."""
    top = Path(tempfile.mkdtemp(prefix="cup-homes-"))
    top.chmod(0o755)
    python = top / "python"
    # The interpreter of the tests need not be readable for everybody: this shows the same.
    python.write_text(
        '#!/bin/sh\n{ id -un; id -gn; env; } > "$4/log/who.new"; mv "$4/log/who.new" "$4/log/who"; sleep $NAP\n'
    )
    python.chmod(0o755)

    def written(owner, nap=0):
        folder = top / owner / ".cupola" / "jobs" / f"job-{owner}"
        (folder / "log").mkdir(parents=True)
        account = pwd.getpwnam(owner)
        for path in (folder / "log", *[folder, *folder.parents][:4]):
            os.chown(path, account.pw_uid, account.pw_gid)
        (top / owner).chmod(0o700)
        return Array(
            tag=f"job-{owner}", folder=folder, python=python, tasks=1, owner=owner, at_once=4, environment={"NAP": str(nap)}
        )  # fmt: skip

    yield written
    shutil.rmtree(top)


def who(array):
    file = array.folder / "log" / "who"
    until(file.exists, "the task")
    return file.read_text().splitlines()


def test_on_htcondor_each_task_runs_as_its_owner_and_nobody_elses_token_changes_it(people, make):
    with htcondor(MODE="root", TOKEN_USERS=" ".join(people)) as pool:
        tokens = pool.folder / "tokens"
        for name in people:
            (tokens / name).mkdir(parents=True)
            shutil.copy(pool.folder / "clients" / name / "tokens.d" / name, tokens / name / "token")
        engine = pool.engine(tokens=str(tokens), group="group_cupola")
        arrays = [make(name, nap=600) for name in people]
        natives = [engine.submit(array) for array in arrays]
        for array, name in zip(arrays, people, strict=True):
            user, group, *environment = who(array)
            assert (user, group) == (name, name)
            token = (tokens / name / "token").read_text().strip()
            assert not any(token in line or str(pool.folder / "clients") in line for line in environment)
        said = pool.tool("condor_q", "-allusers", "-af", "Owner", "AccountingGroup").split("\n")
        assert {f"{name} group_cupola.{name}" for name in people} == {line for line in said if line}
        with pytest.raises(UnavailableError, match="belongs to somebody else"):
            engine.control(replace(arrays[0], owner=people[1]), natives[0], Control.HOLD)
        assert len(engine.poll(list(zip(arrays, natives, strict=True)))) == 2
        for array, native in zip(arrays, natives, strict=True):
            engine.control(array, native, Control.CANCEL)
        until(lambda: not engine.poll(list(zip(arrays, natives, strict=True))), "the end")


def test_on_slurm_each_task_runs_as_its_owner(slurm_pool, people, make):
    engine = slurm_pool.engine(as_person=True)
    array = make(people[0])
    native = engine.submit(array)
    user, group, *environment = who(array)
    assert (user, group) == (people[0], people[0])
    assert not any("root" in line for line in environment if not line.startswith(("SLURM_", "PATH=")))
    until(lambda: not engine.poll([(array, native)]), "the end")


def test_a_schedd_that_hangs_is_told_in_seconds_and_the_next_call_works(htcondor_pool, tmp_path):
    settings = HTCondorSettings(**htcondor_pool.settings)
    environment = {"PATH": os.defpath, "CONDOR_CONFIG": str(settings.config)}
    # A loaded machine takes seconds to load the bindings.
    engine = HTCondor(environment, settings=settings, seconds=8)
    array = Array(tag="job-x", folder=tmp_path, python=Path("/bin/true"), tasks=1)
    engine.find(array)
    silent = pytest.raises(UnavailableError, match=r"does not answer \(no answer in 8 s\): try again")
    with htcondor_pool.stopped("schedd"), silent:
        engine.find(array)
    patient = HTCondor(environment, settings=settings)
    assert patient.find(array) is None
    assert engine.find(array) is None


def test_a_missing_token_and_a_missing_configuration_are_told_in_a_sentence(
    htcondor_pool, slurm_pool, tmp_path
):
    array = Array(tag="job-x", folder=tmp_path, python=Path("/bin/true"), tasks=1)
    (tmp_path / "empty").mkdir()
    config = tmp_path / "config"
    config.write_text(
        f"{(htcondor_pool.folder / 'client_config').read_text()}\n"
        f"SEC_TOKEN_DIRECTORY = {tmp_path}/empty\nSEC_TOKEN_SYSTEM_DIRECTORY = {tmp_path}/empty\n"
    )
    with pytest.raises(
        UnavailableError, match=r"without a token, and there is no token in .*/empty: .* mends that\.$"
    ) as stranger:
        htcondor_pool.engine(config=str(config)).submit(array)
    assert "\n" not in str(stranger.value)
    with pytest.raises(UnavailableError, match=r"nowhere/config is not there: .*engines\.htcondor\.config"):
        htcondor_pool.engine(config="/nowhere/config").capacity()
    with pytest.raises(UnavailableError, match=r"nowhere/slurm\.conf is not there: .*engines\.slurm\.config"):
        slurm_pool.engine(config="/nowhere/slurm.conf").capacity()
