"""A portal for benchmarks: the real one in a process of its own, ``python benchmarks/portal.py ROOT PORT``.

It is spoken to over HTTP; only the hub is missing, so one person is always signed in.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from cupola.models.base import now
from cupola.models.datalab import Version
from cupola.models.person import Person, Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CORES", "portal"]

DIGEST = f"sha256:{'b' * 64}"
CORES = len(os.sched_getaffinity(0))


def serve(root: Path, port: int) -> None:
    """Be the portal."""
    import uvicorn

    from cupola.config import Config
    from cupola.platform.app import create_app
    from cupola.platform.handlers.dependencies import current_person
    from cupola.platform.storage.hub.settings import HubSettings

    settings = HubSettings.from_environment(
        {
            "JUPYTERHUB_API_URL": "http://hub.invalid/hub/api",
            "JUPYTERHUB_API_TOKEN": "none",
            "CUPOLA_INTERNAL_TOKEN": "none",
            "JUPYTERHUB_CLIENT_ID": "service-cupola",
            "JUPYTERHUB_SERVICE_PREFIX": "/services/cupola/",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:services!service=cupola"]',
        }
    )
    no_hub = httpx.MockTransport(lambda _: httpx.Response(503))
    said = json.loads((root / "config.json").read_text())
    config = Config.model_validate({"state": str(root), **said}, strict=False)
    app = create_app(config, settings, hub_transport=no_hub)
    person = Person(name="bench", profile=Profile(cores=CORES, memory_mib=4096))
    app.dependency_overrides[current_person] = lambda: person
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


@contextlib.contextmanager
def portal(place: Path | None, *, around: dict[str, str] | None = None, **settings: Any) -> Iterator[Path]:
    """Start a portal and let this process be a session of it; yield a folder beside its own.

    Parameters
    ----------
    place
        Where its folder is made.
    around
        What it finds in its environment, where not that of this process.
    settings
        What its configuration says.
    """
    with tempfile.TemporaryDirectory(dir=place) as folder:
        root = Path(folder)
        _make_version(root)
        (root / "config.json").write_text(json.dumps(settings))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, __file__, str(root), str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=around,
        )
        try:
            os.environ["CUPOLA_API_URL"] = f"http://127.0.0.1:{port}/services/cupola/api"
            os.environ["CUPOLA_TOKEN"] = "none"  # noqa: S105 - nobody asks for it
            _wait_for(process, os.environ["CUPOLA_API_URL"])
            yield root
        finally:
            process.terminate()
            process.wait()


def _make_version(root: Path) -> None:
    """Let the Lab have one version, whose tasks run in this environment."""
    short = DIGEST.removeprefix("sha256:")[:12]
    built = root / "environments" / "lab" / short
    (built / "bin").mkdir(parents=True)
    (built / "bin" / "python").symlink_to(sys.executable)
    for part in ("lib", "pyvenv.cfg"):  # by them Python knows that it is an environment
        (built / part).symlink_to(Path(sys.prefix) / part)
    version = Version(digest=DIGEST, label="bench", created=now(), ready=True)
    (built / "version.json").write_text(version.model_dump_json())


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/jobs").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise SystemExit("The portal did not start.")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
