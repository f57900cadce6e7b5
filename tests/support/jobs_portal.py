"""The real portal in a process of its own, with one person always signed in and this environment as the Lab's version.

``python -m support.jobs_portal ROOT PORT`` from the folder of tests runs it; `Portal` starts, kills and restarts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from cupola.models.base import now
from cupola.models.datalab import Version
from cupola.models.person import Person, Profile
from support.ports import free_port

DIGEST = f"sha256:{'c' * 64}"
ADA = Person(name="ada", profile=Profile(cores=2, memory_mib=4096))
SECONDS = 180


class Portal:
    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        (root / "settings.json").write_text(json.dumps(settings))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/services/cupola/api"
        self.home = root / "homes" / "ada"
        _make_version(root, self.home)
        self._process = None

    def start(self) -> None:
        with (self.root / "portal.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.jobs_portal", self.root, str(self.port)],
                cwd=Path(__file__).parents[1],
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("CUPOLA")},
            )
        end = time.monotonic() + SECONDS
        while True:
            try:
                if httpx.get(f"{self.url}/jobs").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            assert self._process.poll() is None, (self.root / "portal.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it and what a failed test left running."""
        self.kill()
        for signed in self.home.glob(".cupola/jobs/*/pool.json"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(json.loads(signed.read_bytes())["pid"])
                if process.environ().get("CUPOLA_JOB") == signed.parent.name:
                    process.terminate()
                    process.wait(SECONDS)


def _make_version(root: Path, home: Path) -> None:
    short = DIGEST.removeprefix("sha256:")[:12]
    built = root / "environments" / "lab" / short
    (built / "bin").mkdir(parents=True)
    (built / "bin" / "python").symlink_to(sys.executable)
    version = Version(digest=DIGEST, label="test", created=now(), ready=True)
    (built / "version.json").write_text(version.model_dump_json())
    # What the owner installed: this environment. It is known by the pyvenv.cfg beside its bin, and is no link itself.
    overlay = home / ".cupola" / "environments" / short
    (overlay / "bin").mkdir(parents=True)
    (overlay / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyvenv.cfg", "lib"):
        (overlay / name).symlink_to(Path(sys.prefix) / name)


def main(root: Path, port: int) -> None:
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
    more = json.loads((root / "settings.json").read_text())
    config = Config.model_validate({"state": str(root), "engines": {"local": {"cores": 2}}, **more})
    app = create_app(config, settings, hub_transport=no_hub)
    app.dependency_overrides[current_person] = lambda: ADA
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
