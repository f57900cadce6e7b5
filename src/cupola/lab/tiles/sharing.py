"""More machines for the tiles of a session: the workers of a Dask cluster, or tasks of a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola.exceptions import InputError, UnavailableError
from cupola.lab.tiles import remote as room
from cupola.lab.tiles.node import task, write

if TYPE_CHECKING:
    from cupola.lab.jobs import Job

__all__ = ["nodes", "release", "use"]

CONNECT_SECONDS = 20.0
"""So long a scheduler may take to answer."""

_STARTED: list[subprocess.Popen[str]] = []
"""Nodes that this process, a worker of a Dask cluster, has started."""


def use(  # noqa: PLR0913 - a cluster, or what a task may use
    cluster: Any = None,
    *,
    tasks: int = 0,
    cpus: int = 2,
    memory: str | int = "4 GiB",
    hours: float = 2.0,
    engine: str | None = None,
) -> Job | list[str]:
    """Have the tiles of this session computed on more machines, beside the session's own cores.

    What they compute are the same tiles, from the same files: these have to be at the same paths there, as volumes are
    in jobs, or at addresses. When a machine goes, its tiles are computed elsewhere. Only your sessions can feed these
    workers: they write where they listen, and with which key, into a file that only you can read.

    Parameters
    ----------
    cluster
        A Dask cluster: a ``distributed.Client``, a cluster object, or the address of its scheduler. Each of its
        workers begins a process beside itself that computes as many tiles at a time as it has threads.
    tasks
        Instead: how many tasks of a job are to be workers.
    cpus, memory, engine
        Of each task, as in `cupola.map`; a task computes as many tiles at a time as it has cores.
    hours
        After which the tasks end by themselves.

    Returns
    -------
    :
        The job, or the names of the nodes of the cluster.

    Raises
    ------
    InputError
        Neither a cluster nor tasks are given, or both.
    UnavailableError
        The cluster cannot be reached, or its workers cannot run Cupola.
    """
    if (cluster is None) == (tasks <= 0):
        raise InputError(
            "Give a Dask cluster, such as cupola.tiles.use(client), or a number of tasks, such as use(tasks=4)."
        )
    if cluster is not None:
        return _use_dask(cluster)
    from cupola.lab.jobs import map as run

    place = str(room.folder())
    return run(
        task,
        [(place, cpus, hours * 3600)] * tasks,
        name="tiles",
        labels=[f"tiles {number + 1}" for number in range(tasks)],
        cpus=cpus,
        memory=memory,
        time=timedelta(hours=hours, minutes=10),
        engine=engine,
        notify=False,
        retries=1,
    )


def nodes() -> list[str]:
    """Return the names of the nodes that told of themselves."""
    return [str(about["name"]) for about in room.known().values()]


def release() -> list[str]:
    """Let all nodes go; returns their names. They end within seconds, and the session's own cores compute again."""
    gone = []
    for path, about in room.known().items():
        path.unlink(missing_ok=True)
        gone.append(str(about["name"]))
    return gone


def _use_dask(cluster: Any) -> list[str]:
    """Start a node beside each worker of a cluster."""
    try:
        from distributed import Client
    except ImportError:
        raise UnavailableError(
            "Dask is not here: use a version of the environment that has the package distributed."
        ) from None
    client = cluster
    try:
        if not isinstance(cluster, Client):
            client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        started = client.run(start_beside, on_error="return")
    except (OSError, TimeoutError, ValueError) as error:
        raise UnavailableError(
            f"The Dask cluster cannot be reached ({error}); look at its address."
        ) from error
    finally:
        if client is not cluster and client is not None and isinstance(client, Client):
            client.close()  # type: ignore[no-untyped-call]
    good = [about for about in started.values() if isinstance(about, dict)]
    if not good:
        why = next(iter(started.values()), "it has no workers")
        raise UnavailableError(
            f"No worker of the Dask cluster can compute tiles ({why}); its environment needs the package cupola[lab]."
        )
    for about in good:
        write(room.folder(), about)
    return [about["name"] for about in good]


def start_beside(dask_worker: Any = None) -> dict[str, Any]:
    """Start a node beside this worker of a Dask cluster, which ends with it; return where it listens.

    Raises
    ------
    RuntimeError
        It did not start.
    """
    slots = max(int(getattr(getattr(dask_worker, "state", None), "nthreads", 0)) or os.cpu_count() or 1, 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "cupola.lab.tiles.node", "-", f"--slots={slots}", f"--parent={os.getpid()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.home(),
    )
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"the node ended with exit code {process.wait()}")
    # Its end is taken note of, or it would stay in the list of processes.
    threading.Thread(target=process.wait, daemon=True).start()
    _STARTED.append(process)
    about: dict[str, Any] = json.loads(line)
    return about
