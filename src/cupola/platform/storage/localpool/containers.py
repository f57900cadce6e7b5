"""The embedded engine where sessions are containers: a container per job, with its owner's number, mounts and no more.

Cores are dealt out to people first and to the jobs of one person second, again and again: a job that has more than its share
starts fewer tasks from then on, and what its tasks give back as they end goes to those who wait. What runs is known by labels,
so that a portal that was killed finds all of it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import docker
import docker.errors
import psutil
import requests

from cupola.containers.making import container_settings
from cupola.exceptions import UnavailableError
from cupola.models.containers import CORES_INSIDE, CORES_LABEL, JOB_LABEL, PLATFORM_LABEL
from cupola.models.resources import Resources
from cupola.models.session import ContainerMount
from cupola.platform.storage.engine import Array, Capacity, Control, Loss
from cupola.platform.storage.files.jobs import JobFolder
from cupola.platform.storage.localpool.dealing import Claim, Usage, deal
from cupola.platform.storage.localpool.jobs import share_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cupola.models.job import TaskState
    from cupola.models.session import ContainerPlan

__all__ = ["ContainerPool"]

WAITS = "waits"
"""Stands for the native id of a job that no container runs yet: there is no core for it."""
SECONDS = 60
OWN_MEMORY_MIB = 512
"""For the supervisor, which holds the function and the libraries that all tasks share."""
TAKEN = 409
DEAL_S = 1.0
"""Seconds between two deals."""
LAG_S = 5.0
"""Seconds within which a job takes the cores that it was given: its supervisor loads the function first."""


class ContainerPool:
    """Runs arrays in containers of this host.

    Parameters
    ----------
    folder
        Where the cores of each job lie, one file each: ``FOLDER/JOB/core-0`` ...
    host
        Where the Docker engine listens.
    key
        The platform's.
    cores
        How many cores all jobs together may use.
    teams
        Those that have a share of their own; the jobs of others count for their owners.
    """

    supervised: ClassVar[bool] = True

    def __init__(
        self, folder: Path, *, host: str, key: str, cores: int, teams: frozenset[str] = frozenset()
    ) -> None:
        self._folder = folder
        self._host = host
        self._key = key
        self._cores = cores
        self._teams = teams
        # Two that start at once must not both take the last cores.
        self._lock = threading.Lock()
        self._known: dict[str, Array] = {}
        """The arrays that run or wait, as they were last asked about, the oldest first."""
        self._told: dict[str, tuple[int, int]] = {}
        """By job: how many tasks it may run, and how many cores its container may use."""
        self._raised: dict[str, float] = {}
        """By job: when it was told to run more, which takes it a moment."""
        self._usage = Usage()
        self._dealt = 0.0

    def capacity(self) -> Capacity:
        """Return the cores that jobs may use, and this machine's memory."""
        return Capacity(cores=self._cores, memory_mib=psutil.virtual_memory().total >> 20)

    def submit(self, array: Array) -> str:
        """Start an array where there are cores for a task of it; else it waits, and the polls start it.

        Raises
        ------
        UnavailableError
            The engine does not answer, or refuses.
        """
        if array.container is None:
            raise UnavailableError(
                "This job was made for another compute driver: start it again from a session of now."
            )
        with self._lock, self._client() as client:
            self._known[array.tag] = array
            found = self._deal(client).get(array.tag)
            return WAITS if found is None else str(found["Id"])

    def find(self, array: Array) -> str | None:
        """Return the container that runs this array."""
        with self._client() as client:
            found = self._running(client).get(array.tag)
        return None if found is None else str(found["Id"])

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the arrays that run or wait; those that wait are started where there is room now."""
        with self._lock, self._client() as client:
            self._known |= {array.tag: array for array, _ in arrays}
            soon = time.monotonic() - self._dealt > DEAL_S
            running = self._deal(client) if soon else self._running(client)
            ended = [array for array, native in arrays if native != WAITS and array.tag not in running]
            for array in ended:
                self._known.pop(array.tag, None)
        return {
            array.tag: {}
            for array, native in arrays
            if array.tag in running
            # One that is cancelled before it ran has no supervisor to tell its end.
            or (native == WAITS and JobFolder(array.folder).control() != Control.CANCEL)
        }

    def throttle(self, array: Array, native: str, at_once: int) -> None:
        """Let so many tasks run at a time, as far as the job has cores."""
        del native
        with self._lock, self._client() as client:
            self._known[array.tag] = replace(array, at_once=at_once)
            self._deal(client)

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Write the wish down, where the supervisor looks ten times a second; wake it to cancel."""
        del native  # one that waited may run by now
        JobFolder(array.folder).want(wish)
        if wish is Control.CANCEL:
            with self._client() as client:
                self._known.pop(array.tag, None)
                found = self._running(client).get(array.tag)
                if found is not None:
                    with contextlib.suppress(docker.errors.APIError):  # it has just ended
                        client.api.kill(found["Id"], "SIGTERM")

    def log(self, array: Array, task: int) -> str:
        """Return the last part of what a task printed."""
        return JobFolder(array.folder).log(task)

    def losses(self, array: Array, native: str) -> dict[int, Loss]:
        """Return nothing: the supervisor has told of each task."""
        del array, native
        return {}

    def ahead(self, array: Array, native: str) -> int | None:
        """Return nothing: supervisors share the cores, none waits behind another."""
        del array, native
        return None

    def last_words(self, array: Array) -> str:
        """Return the last line that the supervisor wrote into its log."""
        lines = [line.strip() for line in JobFolder(array.folder).log("pool").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    # -- the steps --------------------------------------------------------------------------------------------

    def _running(self, client: docker.DockerClient) -> dict[str, dict[str, Any]]:
        """Return the containers of jobs that live, by job; those that ended the engine removes by itself."""
        labels = [f"{PLATFORM_LABEL}={self._key}", JOB_LABEL]
        rows = client.api.containers(filters={"label": labels})
        return {row["Labels"][JOB_LABEL]: row for row in rows}

    def _deal(self, client: docker.DockerClient) -> dict[str, dict[str, Any]]:
        """Deal out the cores anew, start what has some now, and return what runs."""
        running = self._running(client)
        self._dealt = time.monotonic()
        self._tidy(set(running))
        has = {job: self._held(job) for job in running}
        free = self._cores - sum(has.values())
        claims = [self._claim(array) for array in self._known.values() if self._wants(array, running)]
        held: Counter[str] = Counter()
        for claim in claims:
            held[claim.share] += has.get(claim.job, 0)
        self._usage.add(held, time.monotonic())
        # What nobody has asked about since the portal was started keeps what it has.
        unknown = sum(cores for job, cores in has.items() if job not in self._known)
        for job, tasks in deal(claims, self._cores - unknown, self._usage.used).items():
            array, busy = self._known[job], has.get(job, 0)
            more = max(0, min(tasks - busy // array.cpus, free // array.cpus))
            free -= more * array.cpus
            tasks = min(tasks, busy // array.cpus + more)  # noqa: PLW2901 - what others have not given back yet must wait
            if job in running:
                self._change(client, array, running[job], tasks, cores=max(busy, tasks * array.cpus))
            elif tasks:
                self._start(client, array, tasks)
        return self._running(client)

    def _held(self, job: str) -> int:
        """Return how many cores a job has: those of its tasks, and those it was just given."""
        fresh = time.monotonic() - self._raised.get(job, -LAG_S) < LAG_S
        return max(self._busy(job), self._told[job][1] if fresh and job in self._told else 0)

    def _busy(self, job: str) -> int:
        """Return how many cores the tasks of a job hold now: its supervisor locks a file for each."""
        busy = 0
        for file in (self._folder / job).glob("core-*"):
            with contextlib.suppress(OSError), file.open("rb") as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy += 1
        return busy

    def _wants(self, array: Array, running: Mapping[str, Any]) -> bool:
        """Say whether a job runs or is to run: one on hold gives its cores to others."""
        return array.container is not None and (
            array.tag in running or JobFolder(array.folder).control() == Control.RUN
        )

    def _claim(self, array: Array) -> Claim:
        held = JobFolder(array.folder).control() == Control.HOLD
        most = 0 if held else min(array.at_once, array.tasks)
        return Claim(array.tag, share_of(array, self._teams), array.cpus, most)

    def _change(
        self, client: docker.DockerClient, array: Array, row: Mapping[str, Any], tasks: int, *, cores: int
    ) -> None:
        """Let a job run another number of tasks, and its container use no more cores than these have."""
        if self._told.get(array.tag) == (tasks, cores):
            return
        api = client.api
        with contextlib.suppress(
            docker.errors.NotFound, OSError
        ):  # it has just ended, or its folder was removed
            JobFolder(array.folder).let_run(tasks)
            # The client's own method does not know this setting.
            limits = {"NanoCpus": max(1, cores) * 10**9}
            answer = api._post_json(api._url("/containers/{0}/update", row["Id"]), data=limits)  # noqa: SLF001
            api._raise_for_status(answer)  # noqa: SLF001
            if tasks > self._told.get(array.tag, (0, 0))[0]:
                self._raised[array.tag] = time.monotonic()
            self._told[array.tag] = (tasks, cores)

    def _start(self, client: docker.DockerClient, array: Array, tasks: int) -> str:
        plan = array.container
        assert plan is not None  # noqa: S101 - those without one claim nothing
        cores, most = tasks * array.cpus, max(1, min(array.tasks, self._cores // array.cpus))
        place = self._make_cores(array.tag, most * array.cpus, plan)
        JobFolder(array.folder).let_run(tasks)
        self._told[array.tag], self._raised[array.tag] = (tasks, cores), time.monotonic()
        # The most that its tasks may ever have together; each one alone is watched by the supervisor.
        memory = min(most * array.memory_mib + OWN_MEMORY_MIB, self.capacity().memory_mib)
        whole = plan.model_copy(
            update={
                "resources": Resources(cores=cores, memory_mib=memory),
                "mounts": [*plan.mounts, ContainerMount(source=place, target=Path(CORES_INSIDE))],
            }
        )
        labels = {**plan.labels, CORES_LABEL: str(cores)}
        settings = container_settings(client.api, whole, plan.environment, labels)
        settings["HostConfig"]["AutoRemove"] = True
        try:
            made = client.api.create_container_from_config(settings, plan.name)
        except docker.errors.APIError as exc:
            if exc.status_code != TAKEN:
                raise
            # One that was made and never started: the portal was killed in between.
            client.api.remove_container(plan.name, force=True)
            made = client.api.create_container_from_config(settings, plan.name)
        client.api.start(made["Id"])
        return str(made["Id"])

    def _make_cores(self, job: str, cores: int, plan: ContainerPlan) -> Path:
        place = self._folder / job
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700, parents=True)
        files = [place / f"core-{number}" for number in range(cores)]
        for file in files:
            file.touch(mode=0o600)
        for path in (place, *files):
            if os.geteuid() == 0:
                os.chown(path, plan.user, plan.group)
        return place

    def _tidy(self, running: set[str]) -> None:
        """Remove the cores of jobs that ended."""
        with contextlib.suppress(OSError):
            for place in self._folder.iterdir():
                if place.name not in running:
                    shutil.rmtree(place, ignore_errors=True)
                    self._told.pop(place.name, None)

    @contextlib.contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        client = None
        try:
            client = docker.DockerClient(base_url=self._host, timeout=SECONDS, version="auto")
            yield client
        except (docker.errors.DockerException, requests.RequestException) as exc:
            reason = " ".join(str(getattr(exc, "explanation", None) or exc).split())[:300].rstrip(".")
            raise UnavailableError(
                f"The Docker engine, which runs jobs, does not do it ({reason}): try again in a minute."
            ) from exc
        finally:
            if client is not None:
                client.close()
