"""How long the hub waits for a new route: our traefik class against the stock one it stands on.

Run it with the platform's interpreter: ``python benchmarks/routes.py [--runs 5]``. Each side starts its own traefik on
loopback in turn and adds ten routes one after the other; the clock covers `add_route` until it returns, which is when the
hub lets a person in. The last line is one JSON object, the median in seconds per route.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from pathlib import Path

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy

from cupola.hub.proxy import FastTraefikFileProxy
from cupola.hub.traefik import program

TARGET = 0.5
ROUTES = 10


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def seconds_per_route(kind: type[TraefikFileProviderProxy]) -> list[float]:
    """Start a proxy of one class, add routes, stop it; return the seconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        proxy = kind(
            static_config_file=str(Path(folder, "static.toml")),
            dynamic_config_file=str(Path(folder, "rules.toml")),
            traefik_api_url=f"http://127.0.0.1:{free_port()}",
            traefik_api_password="for-one-run",  # noqa: S106 - loopback, a minute
            public_url=f"http://127.0.0.1:{free_port()}",
            should_start=True,
            check_route_timeout=60,
        )
        await proxy.start()
        try:
            took = []
            for number in range(ROUTES):
                begun = time.perf_counter()
                await proxy.add_route(f"/user/ada/lab-{number}/", "http://127.0.0.1:9", {})
                took.append(time.perf_counter() - begun)
            return took
        finally:
            await proxy.stop()


def main() -> None:
    """Measure both sides in turn and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    os.environ["PATH"] = os.pathsep.join([str(Path(program()).parent), os.environ["PATH"]])
    ours: list[float] = []
    peer: list[float] = []
    for run in range(runs):
        ours += asyncio.run(seconds_per_route(FastTraefikFileProxy))
        peer += asyncio.run(seconds_per_route(TraefikFileProviderProxy))
        print(
            f"run {run + 1}: ours {statistics.median(ours):.3f} s, peer {statistics.median(peer):.3f} s",
            flush=True,
        )
    mine, other = statistics.median(ours), statistics.median(peer)
    result = {
        "name": "routes",
        "ours": round(mine, 3),
        "peer": round(other, 3),
        "ratio": round(mine / other, 3),
        "unit": "s per route added",
        "target": TARGET,
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
