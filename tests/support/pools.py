"""Real HTCondor and Slurm pools for tests: one of each for a whole run, started when the first test wants it.

What they are made of is kept in ``.cache/pools`` of the checkout; ``CUPOLA_TEST_POOLS`` names another folder. Tests that kill
daemons of a pool start one of their own (`htcondor`, `slurm`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from cupola.config import Config
from cupola.platform.storage import htcondor as htcondor_engine
from cupola.platform.storage import slurm as slurm_engine
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cupola.platform.storage.engine import Engine

__all__ = ["HTCondorPool", "Pool", "SlurmPool", "htcondor", "htcondor_pool", "slurm", "slurm_pool"]

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = CHECKOUT / "tests" / "pools"
CACHE = Path(os.environ.get("CUPOLA_TEST_POOLS") or CHECKOUT / ".cache" / "pools")
PATIENCE = 180
"""Seconds: a loaded machine takes several times as long as a quiet one."""


@dataclass
class Pool:
    """One pool, running or not."""

    name: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    """Variables of its script."""
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PREFIX": str(self.prefix), "POOL": str(self.folder), **self.more}

    @property
    def settings(self) -> dict[str, object]:
        """What stands below its name in ``engines`` of ``cupola.yaml``."""
        raise NotImplementedError

    @property
    def yaml(self) -> str:
        """Lines of ``cupola.yaml`` for a platform that takes it as its default engine."""
        lines = "".join(f"    {name}: {value}\n" for name, value in self.settings.items())
        return f"engines:\n  default: {self.name}\n  {self.name}:\n{lines}"

    @property
    def prefix(self) -> Path:
        """The unpacked packages."""
        return CACHE / self.name

    def script(self, *words: str) -> str:
        """Run the pool's script and return what it printed."""
        done = subprocess.run(
            ["bash", str(SCRIPTS / f"{self.name}.sh"), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{self.name}.sh {' '.join(words)}: {done.stderr[-2000:]}"
        return done.stdout

    def build(self) -> None:
        """Unpack what is absent; the test is skipped where it cannot be had."""
        if os.geteuid() != 0:
            pytest.skip(f"a pool of {self.name} is started by root only")
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.script("build")
            except (AssertionError, subprocess.TimeoutExpired) as error:
                if os.environ.get("CI"):
                    raise  # there a skip would hide that nothing of the schedulers was tried
                pytest.skip(f"Debian's packages of {self.name} cannot be had here ({str(error)[-200:]})")

    def up(self) -> None:
        """Start it and wait until it answers."""
        self.build()
        self._guard = self._guarded()
        self.script("up")

    def down(self) -> None:
        """End every daemon and every job of it."""
        self.script("down")
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()

    def _guarded(self) -> subprocess.Popen[bytes]:
        """Start who ends the pool where this process is killed: the daemons have left its session and would stay."""
        return subprocess.Popen(
            [
                "bash",
                "-c",
                'cat; bash "$0" down >/dev/null 2>&1; rm -rf "$POOL"',
                SCRIPTS / f"{self.name}.sh",
            ],
            env=self._environment,
            # Nothing is written to it: it ends when nobody holds its other end any more.
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def engine(self, **settings: object) -> Engine:
        """Return the engine of a platform that has this pool; `settings` are added to the pool's own."""
        config = Config.model_validate({"engines": {self.name: {**self.settings, **settings}}})
        opened = {"htcondor": htcondor_engine.open_engine, "slurm": slurm_engine.open_engine}[self.name](
            config
        )
        assert opened is not None
        return opened


class HTCondorPool(Pool):
    """A pool with one schedd, and one partitionable slot on the machine unless the script was told otherwise."""

    @property
    def settings(self) -> dict[str, object]:
        """The client configuration of the first of the pool's people."""
        return {"config": str(self.folder / "client_config")}

    def tool(self, *words: str, user: str = "") -> str:
        """Run one of HTCondor's own commands as a client, such as ``condor_q -af ClusterId``."""
        config = self.folder / (f"clients/{user}/config" if user else "client_config")
        done = subprocess.run(
            [str(self.prefix / "usr" / "bin" / words[0]), *words[1:]],
            env={"PATH": os.environ["PATH"], "CONDOR_CONFIG": str(config)},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout

    def daemons(self, name: str) -> list[psutil.Process]:
        """Return the living daemons of a name, as ``schedd``, ``negotiator``, ``collector``, ``startd``, ``shadow``."""
        children = []
        for file in [self.folder / "pid", *self.folder.glob("node-*/pid")]:
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                children += psutil.Process(int(file.read_text())).children(recursive=True)
        return [child for child in children if _name(child) == f"condor_{name}"]

    def kill(self, name: str, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to all daemons of a name, once there are any, and return their pids.

        The master starts those that were killed again, in 2 s: until then there are none.
        """
        end = time.monotonic() + PATIENCE
        while not (killed := self.killed(name, number)):
            assert time.monotonic() < end, f"the pool has no {name}"
            time.sleep(0.05)
        return killed

    def killed(self, name: str, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to those daemons of a name that there are now, and return the pids of those that got it."""
        killed = []
        for daemon in self.daemons(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                daemon.send_signal(number)
                killed.append(daemon.pid)
        return killed

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Let all daemons of a name hang for a while; a schedd has children of its name while it answers questions."""
        hanging = self.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in hanging:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def node_up(self, name: str, cpus: int = 1) -> None:
        """Start one more execute node, whose daemons and jobs end together, and wait until the pool knows it."""
        self.script("node-up", name, str(cpus))
        end = time.monotonic() + PATIENCE
        while name not in self.tool("condor_status", "-af", "Machine", "Name"):
            assert time.monotonic() < end, f"the node {name} does not come"
            time.sleep(0.3)

    def node_kill(self, name: str, number: str = "KILL") -> None:
        """End a node at once, or stop it (``STOP``) and let it go on (``CONT``)."""
        self.script("node-kill", name, number)


class SlurmPool(Pool):
    """A cluster with one node, and those that ``NODES`` names."""

    @property
    def settings(self) -> dict[str, object]:
        """The cluster's own configuration and commands."""
        return {"config": str(self.folder / "slurm.conf"), "programs": str(self.folder / "bin")}

    def tool(self, *words: str) -> str:
        """Run one of Slurm's own commands."""
        command = [str(self.folder / "bin" / words[0]), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    def kill(self, name: str, number: str = "KILL") -> None:
        """Send a signal to ``slurmctld``, ``munged``, ``slurmd`` (with all it runs) or ``slurmd-NODE``."""
        self.script("kill", name, number)

    def start(self, name: str, node: str = "") -> None:
        """Start a daemon that was killed."""
        self.script("start", name, node)

    def node_kill(self, name: str, number: str = "KILL") -> None:
        """End a further node at once, with all that runs there."""
        self.script("node-kill", name, number)


def _name(process: psutil.Process) -> str:
    """Return the name of a process; one that has just ended, as a pool's short tasks do all the time, has none."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


@contextlib.contextmanager
def _running(pool: Pool) -> Iterator[Pool]:
    try:
        pool.up()
        yield pool
    finally:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            pool.down()
        shutil.rmtree(pool.folder, ignore_errors=True)


def _folder() -> Path:
    # Short, since sockets lie in it; others than root run in it.
    folder = Path(tempfile.mkdtemp(prefix="cup-"))
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def htcondor(**variables: str) -> Iterator[HTCondorPool]:
    """Start a pool of a test's own; `variables` are those of its script."""
    more = {"PORT": str(free_port()), "CPUS": "4", **variables}
    with _running(HTCondorPool("htcondor", _folder(), more)) as pool:
        assert isinstance(pool, HTCondorPool)
        yield pool


@contextlib.contextmanager
def slurm(**variables: str) -> Iterator[SlurmPool]:
    """Start a cluster of a test's own; `variables` are those of its script."""
    # Each daemon takes one, from the first on.
    ports = [free_port() for _ in range(4)]
    more = {"PORT": str(ports[0]), "CPUS": "4", "MEMORY": "4000", "ARRAY": "51", **variables}
    with _running(SlurmPool("slurm", _folder(), more)) as pool:
        assert isinstance(pool, SlurmPool)
        yield pool


@pytest.fixture(scope="session")
def htcondor_pool() -> Iterator[HTCondorPool]:
    """A running HTCondor pool with 4 cores; shared, so leave its daemons alone and its queue empty."""
    with htcondor() as pool:
        yield pool


@pytest.fixture(scope="session")
def slurm_pool() -> Iterator[SlurmPool]:
    """A running Slurm cluster with one node of 4 cores and 4000 MiB, whose arrays have at most 50 tasks; shared."""
    with slurm() as pool:
        yield pool
