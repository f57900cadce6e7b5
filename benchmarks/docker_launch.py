"""From the click to a usable JupyterLab in a container: Cupola against plain JupyterHub 6 with DockerSpawner 14.

Run it with the platform's interpreter, as root: ``python benchmarks/docker_launch.py [--runs 5] [--crowd 20]``. Both start the same
image, that of Cupola's Lab, on the same engine, with the same limits; both hubs and proxies are real (see ``launch.py``). The peer
starts ``jupyterhub-singleuser`` in it, as DockerSpawner does by itself. What is measured:

- the time from the click to a usable JupyterLab, in turn,
- the memory that an idle session holds, as ``docker stats`` counts it,
- launches that fail when many are asked for at once, each with 1 GiB, ours only.

The last line is one JSON object, times in seconds, memory in MiB; memory and crowd are in its list ``also``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import httpx
from launch import Ours, Side, good, measure, ours, peer

from cupola.models.resources import Resources

if TYPE_CHECKING:
    from docker.models.containers import Container

TARGET = 0.8
SPAWNER = "dockerspawner==14.*"
LIMITS = Resources(cores=2, memory_mib=2048)
CROWD_MIB = 1024
"""Of each session of the crowd: a platform promises no more memory than the machine has."""
IDLE_S = 20
"""Until a session that nobody uses has come to rest."""
SETTINGS = """
compute: docker
docker:
  host: {host}
  build: false
  overcommit: 32
  cores: {cores}
  memory_mib: {memory_mib}
profile:
  sessions: {crowd}
  cores: {cores}
  memory_mib: {memory_mib}
"""
PEER_SPAWNER = """
c.JupyterHub.spawner_class = "docker"
c.JupyterHub.hub_ip = {gateway!r}
c.DockerSpawner.client_kwargs = {{"base_url": {host!r}}}
c.DockerSpawner.image = {image!r}
c.DockerSpawner.pull_policy = "never"
c.DockerSpawner.remove = True
c.DockerSpawner.cmd = ["/opt/cupola/bin/jupyterhub-singleuser"]
c.DockerSpawner.cpu_limit = {cores}
c.DockerSpawner.mem_limit = {memory}
c.DockerSpawner.environment = {{"HOME": "/tmp", "PATH": "/opt/cupola/bin:/usr/bin:/bin"}}
c.DockerSpawner.extra_create_kwargs = {{"user": "20001:20001", "working_dir": "/tmp", "entrypoint": []}}
"""


def memory_of(container: Container) -> float:
    """Return what a container holds, in MiB, without what the kernel only keeps of files: as ``docker stats`` counts."""
    memory = container.stats(stream=False)["memory_stats"]
    cached = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    return float(memory["usage"] - cached) / 2**20


def newest(engine: docker.DockerClient, before: set[str]) -> Container:
    """Return the container that was not there before."""
    (found,) = [container for container in engine.containers.list() if container.id not in before]
    return found


def idle_memory(engine: docker.DockerClient, sides: dict[str, Side]) -> dict[str, float]:
    """Return what one idle session of each holds, in MiB."""
    held = {}
    for name, side in sides.items():
        before = {container.id for container in engine.containers.list()}
        side.launch()
        time.sleep(IDLE_S)
        held[name] = memory_of(newest(engine, before))
        side.stop()
    return held


async def crowd(mine: Ours, people: int) -> dict[str, Any]:
    """Press play that many times at once, wait for all, stop all; return how many failed and how long all took."""
    address = str(mine.http.base_url)
    wanted = {"datalab": "lab", "resources": {"cores": 1, "memory_mib": CROWD_MIB}}
    token = mine.http.cookies.get("cupola-csrf", path="/services/cupola/") or ""
    async with httpx.AsyncClient(
        base_url=address, cookies=mine.http.cookies, headers={"X-CSRF-Token": token}, timeout=300
    ) as http:
        begun = time.perf_counter()

        async def one() -> dict[str, Any]:
            asked = await http.post("/services/cupola/api/sessions", json=wanted)
            if asked.status_code != httpx.codes.ACCEPTED:
                return {"state": "refused", "reason": asked.text}
            place = f"/services/cupola/api/sessions/{asked.json()['id']}"
            async with http.stream("GET", f"{place}/events") as events:
                async for _ in events.aiter_lines():
                    pass
            session: dict[str, Any] = (await http.get(place)).json()
            if session["state"] == "ready":
                page = await http.get(session["url"], follow_redirects=True)
                if not page.is_success:
                    return {"state": "unusable", "reason": f"HTTP {page.status_code}", "id": session["id"]}
            return session

        sessions = await asyncio.gather(*(one() for _ in range(people)))
        took = time.perf_counter() - begun
        for session in sessions:
            if "id" in session:
                await http.post(f"/services/cupola/api/sessions/{session['id']}/stop")
    failures = [session for session in sessions if session["state"] != "ready"]
    for session in failures:
        print("failed:", session["state"], session.get("reason"))
    return {"at_once": people, "failures": len(failures), "seconds": round(took, 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--crowd", type=int, default=20)
    said = parser.parse_args()
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    engine = docker.DockerClient(base_url=host)
    took: dict[str, list[float]] = {"ours": [], "peer": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limits = {"cores": round(LIMITS.cores), "memory_mib": LIMITS.memory_mib}
        mine = stack.enter_context(ours(folder, SETTINGS.format(host=host, crowd=said.crowd, **limits)))
        image = good(mine.http.get("/services/cupola/api/datalabs/lab")).json()["recommended"]
        other = PEER_SPAWNER.format(
            host=host,
            image=image,
            gateway=engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"],
            cores=LIMITS.cores,
            memory=LIMITS.memory_mib * 2**20,
        )
        sides: dict[str, Side] = {"ours": mine, "peer": stack.enter_context(peer(folder, other, SPAWNER))}
        measure(sides, said.runs, took)
        memory = idle_memory(engine, sides)
        together = asyncio.run(crowd(mine, said.crowd))
    median = {name: statistics.median(values) for name, values in took.items()}
    told = {
        "name": "docker_launch",
        "ours": round(median["ours"], 3),
        "peer": round(median["peer"], 3),
        "ratio": round(median["ours"] / median["peer"], 3),
        "unit": "s",
        "target": TARGET,
        "runs": said.runs,
        "also": [
            {
                "title": "docker_launch: an idle session",
                **{name: round(value) for name, value in memory.items()},
                "ratio": round(memory["ours"] / memory["peer"], 3),
                "target": 1.0,
                "unit": "MiB",
                "runs": 1,
            },
            {
                "title": f"docker_launch: failures of {said.crowd} at once (all usable after {together['seconds']} s)",
                "ours": together["failures"],
                "peer": "not run",
                "ratio": together["failures"],
                "target": 0,
                "unit": "sessions",
                "runs": 1,
            },
        ],
        "machine": f"{os.cpu_count()} x {platform.machine()}, load {os.getloadavg()[0]:.1f}",
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
