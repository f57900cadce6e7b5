"""A real Docker engine for tests, and a small image whose sessions do what a test tells them to.

The engine is the one that ``CUPOLA_TEST_DOCKER`` names (``unix:///...``), else one that is started for this run: its images stay
in ``.cache/docker`` of the checkout. The engine changes the machine's packet filter, so on a machine with another
engine name that one, or run the tests in a network namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors
import docker.transport.unixconn
import pytest

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache" / "docker"
STUB = "cupola-test/stub"
LAYOUT = b"2"
"""Another one where `stub_files` changes: the image is made anew then."""
PATIENCE = 180


def _connect(self):
    """Connect as the library does, but close what did not connect: it would show as a leak in whichever test comes next."""
    attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        attempt.settimeout(self.timeout)
        attempt.connect(self.unix_socket)
    except BaseException:
        attempt.close()
        raise
    self.sock = attempt


docker.transport.unixconn.UnixHTTPConnection.connect = _connect


@dataclass
class Engine:
    """A Docker engine that answers.

    ``client`` is a client of its API; ``folder`` is set where the engine was started by the tests.
    """

    host: str
    folder: Path | None = None
    data: Path | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def client(self) -> docker.DockerClient:
        if not hasattr(self, "_client"):
            self._client = docker.DockerClient(base_url=self.host, version="auto", timeout=60)
        return self._client

    def answers(self) -> bool:
        # First without the library, which leaves a socket open where nobody listens.
        with socket.socket(socket.AF_UNIX) as knock:
            if knock.connect_ex(self.host.removeprefix("unix://")) != 0:
                return False
        try:
            with contextlib.closing(docker.DockerClient(base_url=self.host, timeout=20)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False

    # -- an engine of our own ---------------------------------------------------------------------------------

    @classmethod
    def start(cls, data: Path) -> Engine:
        """Start containerd and dockerd, with what they keep in `data`."""
        data.mkdir(parents=True, exist_ok=True)
        # A socket's path may have 107 characters, so not below pytest's folder.
        folder = Path(tempfile.mkdtemp(prefix="cup-dk-"))
        one = cls(f"unix://{folder}/d.sock", folder, data)
        try:
            one.start_containerd()
            one.start_daemon()
        except BaseException:
            one.stop()
            raise
        return one

    def start_containerd(self) -> None:
        # Of its own, since the daemon's own one is left behind by kill -9, and stands in the way of the next start.
        settings = self.folder / "containerd.toml"
        settings.write_text(
            f'version = 2\nroot = "{self.data}/containerd"\nstate = "{self.folder}/containerd"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self.folder}/c.sock"\n'
        )
        self._run("containerd", ["containerd", "--config", str(settings)])
        self._until((self.folder / "c.sock").exists, "containerd")

    def start_daemon(self) -> None:
        command = ["dockerd", "--config-file", str(self.folder / "none.json"), "--host", self.host]
        command += ["--data-root", str(self.data), "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/d.pid", "--containerd", f"{self.folder}/c.sock"]
        # No bridge of its own: it would be the one of another engine on this machine.
        command += ["--live-restore", "--bridge", "none"]
        self._run("dockerd", command)
        self._until(self.answers, "dockerd")

    def kill_daemon(self) -> None:
        """End the daemon as ``kill -9`` does."""
        process = self.processes.pop("dockerd")
        process.kill()
        process.wait()

    def _run(self, name: str, command: list[str]) -> None:
        (self.folder / "none.json").write_text("{}")
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _until(self, question, name: str) -> None:
        end = time.monotonic() + PATIENCE
        while not question():
            if self.processes[name].poll() is not None or time.monotonic() > end:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"{name} did not start:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End what was started, with all containers, but keep the images."""
        if self.folder is None:
            return
        with contextlib.suppress(docker.errors.DockerException, OSError):
            for container in self.client.containers.list(all=True):
                container.remove(force=True, v=True)
            self.client.networks.prune()
        for name in ("dockerd", "containerd"):
            if process := self.processes.pop(name, None):
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for line in Path("/proc/self/mounts").read_text().splitlines():
            place = line.split()[1]
            if place.startswith((f"{self.folder}/", f"{self.data}/")) or place == str(self.data):
                subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- images -----------------------------------------------------------------------------------------------

    def stub(self) -> str:
        """Return the id of an image whose sessions are those of ``stub_session.py``; it is made once."""
        source = Path(__file__).with_name("stub_session.py").read_bytes()
        content = hashlib.sha256(source + sys.version.encode() + LAYOUT).hexdigest()[:16]
        reference = f"{STUB}:{content}"
        with contextlib.suppress(docker.errors.ImageNotFound):
            return str(self.client.images.get(reference).id)
        changes = ["ENV PATH=/opt/cupola/bin:/usr/local/bin", "ENV PYTHONUNBUFFERED=1"]
        self.client.api.import_image_from_data(
            stub_files(source), repository=STUB, tag=content, changes=changes
        )
        return str(self.client.images.get(reference).id)

    def remove(self, **labels: str) -> None:
        """Remove the containers and networks with all of these labels."""
        chosen = {"label": [f"{name}={value}" for name, value in labels.items()]}
        for container in self.client.containers.list(all=True, filters=chosen):
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
        for network in self.client.networks.list(filters=chosen):
            with contextlib.suppress(docker.errors.APIError):
                network.remove()


def stub_files(session: bytes) -> bytes:
    """Return the files of the stub image as a tar archive: this very Python, its libraries, and the stub session."""
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    inside = f"usr/local/lib/{library.name}"
    left_out = {"test", "tests", "site-packages", "idlelib", "tkinter", "lib2to3", "ensurepip", "__pycache__"}
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:

        def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            parts = Path(entry.name).parts
            if left_out & set(parts) or any(part.startswith("config-") for part in parts):
                return None
            entry.uid = entry.gid = 0
            return entry

        tar.add(library, inside, filter=keep)
        _add(tar, f"usr/local/bin/{python.name}", python.resolve())
        for place, file in _libraries([python.resolve(), *library.glob("lib-dynload/*.so")]).items():
            _add(tar, place, file)
        _link(tar, "opt/cupola/bin/python", f"/usr/local/bin/{python.name}")
        for name in ("session", "app"):
            _text(tar, f"{inside}/site-packages/cupola/lab/{name}.py", session)
        for folder in ("tmp", "run", "home", "volumes", "proc", "sys", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
    return memory.getvalue()


def _libraries(programs: list[Path]) -> dict[str, Path]:
    """Return the shared libraries that programs load, by their places in the image."""
    found: dict[str, Path] = {}
    for program in programs:
        said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        for word in said.split():
            if word.startswith("/") and Path(word).is_file():
                system = word.startswith(("/lib", "/usr/lib"))
                found[word.lstrip("/") if system else f"usr/lib/{Path(word).name}"] = Path(word).resolve()
    return found


def _add(tar: tarfile.TarFile, name: str, file: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = file.stat().st_size, 0o755
    with file.open("rb") as content:
        tar.addfile(entry, content)


def _text(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def why_no_engine() -> str | None:
    """Return why no engine can be had here; nothing where one can."""
    if os.environ.get("CUPOLA_TEST_DOCKER"):
        return None
    if os.geteuid() != 0:
        return "a Docker engine is started by root only; name a running one in CUPOLA_TEST_DOCKER"
    missing = [name for name in ("dockerd", "containerd", "iptables") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install docker.io iptables)"
    return None


@pytest.fixture(scope="session")
def engine():
    """A Docker engine; shared, so a test removes what it made."""
    if reason := why_no_engine():
        pytest.skip(reason)
    if named := os.environ.get("CUPOLA_TEST_DOCKER"):
        one = Engine(named)
        assert one.answers(), f"no engine answers at {named}, which CUPOLA_TEST_DOCKER names"
        yield one
        one.client.close()
        return
    CACHE.parent.mkdir(exist_ok=True)
    with (CACHE.parent / "docker.lock").open("w") as lock:
        # Two engines cannot share a folder: another run of the tests is waited for.
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = Engine.start(CACHE)
        try:
            yield one
        finally:
            one.stop()
            one.client.close()
