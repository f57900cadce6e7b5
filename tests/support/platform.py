"""A real platform for tests: ``cupola up`` in a state folder of its own, on a free port.

The Lab's locked environment is kept in ``.cache/environments`` of the checkout, so that it is built once for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cupola.config import load
from cupola.hub.shutdown import Leftovers
from cupola.lab.samples import make as make_samples
from support.ports import free_port

if TYPE_CHECKING:
    from cupola.config import StatePaths

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENTS = CHECKOUT / ".cache" / "environments"
IMAGES = CHECKOUT / ".cache" / "images"
KEPT = 3
"""Environments that stay in the cache: each change of the sources makes a new one."""
PATIENCE = 300
"""Seconds that a start may take: the first one builds the environment."""
OWNER = "ada"


@dataclass
class Platform:
    """One platform, running or not.

    ``settings`` are further lines of ``cupola.yaml``.
    """

    folder: Path
    settings: str = ""
    sample_archive: bool = False
    more: dict[str, str] = field(default_factory=dict)
    """Further environment variables."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(
            f"state: state\nowner: {OWNER}\nserver:\n  port: {self.port}\n"
            f"sample_archive: {str(self.sample_archive).lower()}\n"
            f"folders:\n  environments: {ENVIRONMENTS}\n  images: {IMAGES}\n{self.settings}"
        )

    @property
    def config_file(self) -> Path:
        return self.folder / "cupola.yaml"

    @property
    def paths(self) -> StatePaths:
        return load(self.config_file).paths

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output_file(self) -> Path:
        return self.folder / f"up-{self.starts}.log"

    @property
    def output(self) -> str:
        """What the last ``cupola up`` has printed."""
        return self.output_file.read_text() if self.output_file.exists() else ""

    def environment(self) -> dict[str, str]:
        left_out = ("CUPOLA_", "JUPYTERHUB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # Python writes to a file in blocks otherwise, and a test reads while it runs.
        return {**kept, "PYTHONUNBUFFERED": "1", **self.more}

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a verb of ``cupola`` for this platform."""
        verb, *options = arguments
        return subprocess.run(
            [sys.executable, "-m", "cupola.cli", verb, "--config", str(self.config_file), *options],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self.environment(),
            cwd=self.folder,
        )

    def start(self) -> None:
        """Run ``cupola up`` and wait until it has shown the sign-in link."""
        self.starts += 1
        if self.sample_archive and not self.paths.sample_archive.exists():
            # Small images: cupola up finds the archive there, and does not take half a minute to make the large ones.
            make_samples(self.paths.sample_archive, small=True)
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cupola.cli", "up", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.folder,
            )
        until = time.monotonic() + PATIENCE
        while "/hub/sign-in?token=" not in self.output:
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"cupola up did not start:\n{self.output}\n{self.logs()}")
            time.sleep(0.1)

    @property
    def first_link(self) -> str:
        """The sign-in link that ``cupola up`` printed."""
        return next(word for word in self.output.split() if "/hub/sign-in?token=" in word)

    def link(self) -> str:
        """Make a new sign-in link."""
        made = self.run("status", "--link")
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def pid(self, name: str) -> int:
        """Return the noted pid of ``hub``, ``proxy`` or ``platform`` (``cupola up`` itself)."""
        return int(json.loads((self.paths.lock.parent / f"{name}.json").read_text())["pid"])

    def part(self, name: str) -> psutil.Process:
        """Return the process of a part."""
        return psutil.Process(self.pid(name))

    def stop(self) -> None:
        """End ``cupola up`` as Ctrl-C does, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=120)

    def kill(self) -> None:
        """Kill ``cupola up`` itself, and nothing else."""
        self.process.kill()
        self.process.wait()

    def clean(self) -> None:
        """Leave nothing behind, whatever happened."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        Leftovers.find(self.paths).stop(lambda _: None, seconds=3)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """Return every living process that has to do with this platform's folder."""
        found = []
        psutil.process_iter.cache_clear()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    seen = [*process.cmdline(), *process.environ().values()]
                    if any(str(self.folder) in text for text in seen):
                        found.append(process)
        return found

    def programs(self, *, name: str = "", word: str = "") -> list[psutil.Process]:
        """Return those of its living processes that have this name, or this word in their command."""
        found = []
        for process in self.processes():
            # It may end between two looks at it.
            with contextlib.suppress(psutil.Error):
                if process.name() == name or word in process.cmdline():
                    found.append(process)
        return found

    def logs(self, lines: int = 30) -> str:
        """Return the ends of all logs, for the message of a failed test."""
        parts = []
        for file in sorted(self.paths.log.rglob("*.log")):
            tail = file.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {file.name}\n" + "\n".join(tail))
        return "\n".join(parts)


def prune_environments() -> None:
    """Remove old environments from the cache, but for those that something still runs in."""
    folders = [file.parent for file in ENVIRONMENTS.glob("*/*/version.json")]
    folders.sort(key=lambda folder: (folder / "version.json").stat().st_mtime)
    commands = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            commands.extend(process.cmdline()[:1])
    for folder in folders[:-KEPT]:
        if not any(command.startswith(f"{folder}/") for command in commands):
            # First the marker: an environment without one is taken for unfinished, and built again.
            (folder / "version.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
