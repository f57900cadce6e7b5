"""What the engine has, and what the containers of sessions use."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import requests

from cupola.exceptions import UnavailableError
from cupola.models.containers import PLATFORM_LABEL, SESSION_LABEL
from cupola.models.resources import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ContainerMeter"]

_MIB = 2**20
_QUICK_S = 5
_AT_ONCE = 8
"""Containers that are asked about at a time: the engine answers each within some milliseconds."""
_REMEMBERED_S = 300.0
"""A machine does not grow while it runs."""


@dataclass(frozen=True)
class _Look:
    """The look before: busy time only says something between two of them."""

    time: float
    cpu_ns: int
    peak: int


class ContainerMeter:
    """Measures the containers of one platform.

    Parameters
    ----------
    host
        Where the engine listens: ``unix:///var/run/docker.sock``.
    key
        The platform's, as its containers are labelled.
    """

    def __init__(self, host: str, key: str) -> None:
        self._host = host
        self._key = key
        self._client: docker.APIClient | None = None
        self._turn = threading.Lock()
        self._before: dict[str, _Look] = {}
        self._machine: tuple[float, tuple[float, int]] | None = None

    def machine(self) -> tuple[float, int]:
        """Return the cores and the memory in MiB that the engine has.

        Raises
        ------
        UnavailableError
            If it does not answer.
        """
        if self._machine is None or time.monotonic() - self._machine[0] > _REMEMBERED_S:
            try:
                told = self._engine().info()
            except (docker.errors.DockerException, requests.RequestException) as error:
                raise self._silent(error) from error
            self._machine = time.monotonic(), (float(told["NCPU"]), int(told["MemTotal"]) // _MIB)
        return self._machine[1]

    def usages(self, sessions: Sequence[str]) -> dict[str, Usage]:
        """Return what each of the running sessions uses; one without a container is left out.

        The first look at a session cannot tell how busy it is: it says 0 cores.

        Raises
        ------
        UnavailableError
            If the engine does not answer.
        """
        wanted = set(sessions)
        with self._turn:
            try:
                engine = self._engine()
                rows = engine.containers(
                    filters={"label": f"{PLATFORM_LABEL}={self._key}", "status": "running"}
                )
            except (docker.errors.DockerException, requests.RequestException) as error:
                raise self._silent(error) from error
            running = {
                row["Labels"][SESSION_LABEL]: row["Id"] for row in rows if SESSION_LABEL in row["Labels"]
            }
            self._before = {name: look for name, look in self._before.items() if name in running}
            asked = [(name, identity) for name, identity in running.items() if name in wanted]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                found = list(pool.map(lambda one: self._usage(engine, *one), asked))
        return {name: usage for (name, _), usage in zip(asked, found, strict=True) if usage is not None}

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _usage(self, engine: docker.APIClient, session: str, identity: str) -> Usage | None:
        try:
            told = engine.stats(identity, stream=False, one_shot=True)
        except (docker.errors.DockerException, requests.RequestException):
            return None  # it ended just now
        memory, cpu = told.get("memory_stats", {}), told.get("cpu_stats", {}).get("cpu_usage", {})
        if "usage" not in memory:
            return None
        used = max(0, memory["usage"] - _only_copies(memory))
        at, busy = time.monotonic(), int(cpu.get("total_usage", 0))
        before = self._before.get(session)
        cores = (busy - before.cpu_ns) / 1e9 / (at - before.time) if before and at > before.time else 0.0
        peak = max(used, before.peak if before else 0)
        self._before[session] = _Look(at, busy, peak)
        return Usage(
            cores=round(max(0.0, cores), 2),
            memory_mib=used // _MIB,
            peak_memory_mib=peak // _MIB,
            processes=told.get("pids_stats", {}).get("current"),
        )

    def _engine(self) -> docker.APIClient:
        if self._client is None:
            self._client = docker.APIClient(
                base_url=self._host, version="auto", timeout=_QUICK_S, num_pools=_AT_ONCE
            )
        return self._client

    def _silent(self, error: Exception) -> UnavailableError:
        self.close()
        said = " ".join(str(error).split())[:200]
        return UnavailableError(
            f"The Docker engine at {self._host} does not answer ({said}): try again in a moment."
        )


def _only_copies(memory: dict[str, Any]) -> int:
    """Return the bytes that are a copy of files and would be given back: in the layouts v1 and v2 of control groups."""
    stats = memory.get("stats", {})
    return int(stats.get("total_inactive_file", stats.get("inactive_file", 0)))
