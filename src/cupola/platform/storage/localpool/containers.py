"""The embedded engine where sessions are containers: a container per job, with its owner's number, mounts and no more.

Each gets cores of its own when it starts, and what finds none free waits its turn. What runs is known by labels, so that a
portal that was killed finds all of it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cupola.models.job import TaskState
    from cupola.models.session import ContainerPlan

__all__ = ["ContainerPool"]

WAITS = "waits"
"""Stands for the native id of a job that no container runs yet: there is no core for it."""
SECONDS = 60
OWN_MEMORY_MIB = 512
"""For the supervisor, which holds the function and the libraries that all tasks share."""
TAKEN = 409


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
        with self._lock, self._client() as client:
            return self._begin(client, array, self._running(client)) or WAITS

    def find(self, array: Array) -> str | None:
        """Return the container that runs this array."""
        with self._client() as client:
            found = self._running(client).get(array.tag)
        return None if found is None else str(found["Id"])

    def poll(self, arrays: Sequence[tuple[Array, str]]) -> dict[str, dict[int, TaskState]]:
        """Return the arrays that run or wait; those that wait are started where there is room now."""
        with self._lock, self._client() as client:
            running = self._running(client)
            for array, native in arrays:
                if native == WAITS and array.tag not in running and self._begin(client, array, running):
                    running = self._running(client)
            self._tidy(set(running))
        return {array.tag: {} for array, native in arrays if native == WAITS or array.tag in running}

    def control(self, array: Array, native: str, wish: Control) -> None:
        """Write the wish down, where the supervisor looks ten times a second; wake it to cancel."""
        del native  # one that waited may run by now
        JobFolder(array.folder).want(wish)
        if wish is Control.CANCEL:
            with self._client() as client:
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

    def _begin(
        self, client: docker.DockerClient, array: Array, running: dict[str, dict[str, Any]]
    ) -> str | None:
        """Start an array, if there are cores for one task of it at least."""
        if array.container is None:
            raise UnavailableError(
                "This job was made for another compute driver: start it again from a session of now."
            )
        if array.tag in running:  # a portal was killed between the start and its note of it
            return str(running[array.tag]["Id"])
        taken = sum(int(row["Labels"].get(CORES_LABEL, 1)) for row in running.values())
        tasks = min(array.at_once, array.tasks, (self._cores - taken) // array.cpus)
        if tasks < 1:
            return None
        return self._start(client, array, array.container, tasks)

    def _start(self, client: docker.DockerClient, array: Array, plan: ContainerPlan, tasks: int) -> str:
        cores = tasks * array.cpus
        place = self._make_cores(array.tag, cores, plan)
        # The most that its tasks may have together; each one alone is watched by the supervisor.
        memory = min(tasks * array.memory_mib + OWN_MEMORY_MIB, self.capacity().memory_mib)
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
