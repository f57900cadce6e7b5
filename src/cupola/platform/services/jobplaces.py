"""Where the tasks of a job run: in the version of the session it came from, with what its owner installed there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import InputError, NotFoundError
from cupola.platform.builders.job import TaskPlace, task_environment
from cupola.platform.builders.session import links
from cupola.platform.storage.files.jobs import JobFolder

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.job import Job, JobRequest
    from cupola.models.person import Person
    from cupola.platform.services.catalogue import CatalogueService
    from cupola.platform.services.volumes import VolumeService
    from cupola.platform.storage.database.sessions import SessionStore

__all__ = ["JobPlace", "JobPlaces"]

DEFAULT_DATALAB = "lab"
"""Whose recommended version runs the jobs that come from no session."""


@dataclass(frozen=True)
class JobPlace:
    """Where one job runs."""

    folder: Path
    """The job's folder, as its owner's sessions see it."""
    python: Path
    """The interpreter, as tasks see it."""
    version: str
    environment: dict[str, str]


class JobPlaces:
    """Decides where jobs run.

    Parameters
    ----------
    catalogue
        Knows the built versions.
    sessions
        The table of sessions: it keeps which version and volumes a session has.
    volumes
        Knows what a person may mount.
    homes
        Folder of the homes.
    """

    def __init__(
        self, *, catalogue: CatalogueService, sessions: SessionStore, volumes: VolumeService, homes: Path
    ) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._volumes = volumes
        self._homes = homes

    def folder(self, job: Job) -> JobFolder:
        """Return the folder of a job, where this host has it."""
        return JobFolder(self._homes / job.owner / ".cupola" / "jobs" / job.id)

    async def place(self, person: Person, request: JobRequest, job: str) -> JobPlace:
        """Return where a new job runs.

        Raises
        ------
        NotFoundError
            The person has no such session, or its version is not there any more.
        InputError
            The function was made by another Python than the tasks would have.
        """
        datalab, digest, plan = DEFAULT_DATALAB, None, None
        if request.session is not None:
            stored = await self._sessions.get(request.session)
            if stored is None or stored.session.owner != person.name:
                raise NotFoundError(
                    f"You have no session {request.session!r}: start the job from one of yours."
                )
            datalab, digest, plan = stored.session.datalab, stored.session.version, stored.plan
        built = await self._catalogue.version(datalab, digest)
        home = self._homes / person.name
        # A session that was started without the person's own packages computes without them too.
        clean = plan is not None and plan.environment.get("CUPOLA_CLEAN") == "1"
        python = built.python if clean else _interpreter(home, built.version.digest, built.python)
        minor = _minor(built.python)
        if minor is not None and minor != request.python:
            raise InputError(
                f"The function was made by Python {request.python} and the tasks run Python {minor}: "
                f"start the job from a session of {datalab}."
            )
        around = TaskPlace(
            home=home,
            python=python,
            version=built.version.digest,
            path=os.environ.get("PATH", os.defpath),
            language=os.environ.get("LANG", "C.UTF-8"),
        )
        if plan is None:
            mounts = links((await self._volumes.chosen(person, None)).volumes, home)
        else:
            mounts = plan.mounts
        environment = task_environment(around, cpus=request.cpus, mounts=mounts)
        return JobPlace(home / ".cupola" / "jobs" / job, python, built.version.digest, environment)


def _interpreter(home: Path, digest: str, locked: Path) -> Path:
    """Return the interpreter that also sees what the person installed; the locked one if nothing was."""
    short = digest.removeprefix("sha256:")[:12]
    overlay = home / ".cupola" / "environments" / short / "bin" / "python"
    return overlay if overlay.exists() else locked


def _minor(python: Path) -> str | None:
    """Return ``major.minor`` of an environment's interpreter, as the names of its folders tell."""
    for folder in (python.parent.parent / "lib").glob("python3.*"):
        return folder.name.removeprefix("python")
    return None
