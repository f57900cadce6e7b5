"""A real image registry for tests: Debian's ``docker-registry`` on loopback, with what it keeps in a folder."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

from support.platform import free_port

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "docker-registry"
PATIENCE = 120
SETTINGS = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """One registry; engines trust those on loopback without certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """What ``docker.registry`` says."""
        return f"127.0.0.1:{self.port}/cupola"

    def start(self) -> None:
        settings = self.folder / "registry.yml"
        settings.write_text(SETTINGS.format(folder=self.folder, port=self.port))
        with (self.folder / "registry.log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "serve", str(settings)], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self.answers():
            said = (self.folder / "registry.log").read_text()
            assert self.process.poll() is None, f"the registry ended: {said}"
            assert time.monotonic() < end, f"the registry does not answer: {said}"
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None
