"""Make this checkout's own environment ``.venv``: what ``make install`` and ``make test`` call.

Usage: ``python3 tools/environment.py platform|develop|debian``. Runs on any Python 3.11 or newer, before anything is installed, so it
uses the standard library only. What is installed is named by hash-locked files; a second call with nothing changed does
nothing. It may be killed at any moment: the note of what is installed is written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
NOTE = VENV / "cupola-installed.json"
FETCHED = (
    ROOT / "src" / "cupola" / "platform" / "static" / "vendor" / ".made-from",
    ROOT / "src" / "cupola" / "lab" / "vendor" / ".made-from",
)
"""Say that the build has fetched what pages and maps need (hatch_build.py)."""
LOCKS = {"platform": ("platform.lock",), "develop": ("platform.lock", "develop.lock")}
OLDEST = (3, 11)
DEBIAN = (
    *("chromium", "fonts-dejavu-core"),
    *("docker.io", "docker-compose", "mmdebstrap", "iptables", "fuse3"),
    *("btrfs-progs", "xfsprogs", "nginx-light", "postgresql", "pebble"),
    "docker-registry",
)
"""The Debian packages that tests take: a browser, a container engine, file systems, the servers Cupola works with."""
PROGRAMS = (
    "chromium",
    "dockerd",
    "docker-compose",
    "mmdebstrap",
    "iptables",
    "fusermount3",
    "mkfs.btrfs",
    "mkfs.xfs",
    "nginx",
    "psql",
    "pebble",
    "docker-registry",
)
"""One of each package, by which it is known to be there."""
POOLS = ("htcondor", "slurm")
"""The schedulers that tests start pools of: `tests/pools` unpacks them."""
UNPACKED = ("criu", "deno", "r")
"""Kernels of other languages, and a program that freezes kernels: `tests/programs` unpacks them."""
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""An account's path need not have the folders of the administrator's programs."""


class Stop(Exception):  # noqa: N818 - it is no error of the program
    """A person has to do something first; the text says what."""


def main(arguments: list[str]) -> int:
    """Do what is asked and return the exit code."""
    try:
        if arguments == ["debian"]:
            debian()
        elif len(arguments) == 1 and arguments[0] in LOCKS:
            install(arguments[0])
        else:
            raise Stop(f"usage: python3 tools/environment.py {'|'.join([*LOCKS, 'debian'])}")  # noqa: TRY301
    except Stop as exc:
        print(exc, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as exc:
        words = " ".join(str(word) for word in exc.cmd[:6])
        print(f"This failed, see above: {words} ...; mend the cause and run make again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def install(level: str) -> None:
    """Bring ``.venv`` to `level`; at once where it is there already."""
    if sys.version_info < OLDEST:
        raise Stop(
            f"Cupola needs Python 3.11 or newer, and python3 is {platform.python_version()}; "
            "name a newer one: make PYTHON=python3.12 ..."
        )
    # Two at once would undo each other. The lock is on a file that is always there and never written.
    with (ROOT / "pyproject.toml").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another make that installs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = digest(LOCKS[level])
        if works() and installed().get(level) == wanted and all(note.exists() for note in FETCHED):
            return
        begun = time.monotonic()
        ensure_venv()
        ensure_uv()
        for name in LOCKS[level]:
            say(f"Installing the packages of requirements/{name}")
            uv("install", "--require-hashes", "-r", str(ROOT / "requirements" / name))
        say("Installing Cupola itself")
        uv("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        write_note({**installed(), level: wanted})
        say(f"Installed in {time.monotonic() - begun:.0f} s")


def digest(names: tuple[str, ...]) -> str:
    """Return what identifies everything that is installed from `names`."""
    parts = ROOT / "src" / "cupola"
    files = [
        *(ROOT / "requirements" / name for name in names),
        ROOT / "pyproject.toml",
        ROOT / "hatch_build.py",
        *sorted(parts.glob("*/assets/package*.json")),
    ]
    result = hashlib.sha256(f"{ROOT} {platform.python_version()}".encode())
    for file in files:
        result.update(file.read_bytes())
    return result.hexdigest()


def works() -> bool:
    """Return whether ``.venv`` has an interpreter that runs: the Python it was made from may be gone."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", ""], check=False, capture_output=True).returncode == 0


def installed() -> dict[str, str]:
    """Return what was noted as installed."""
    try:
        found = json.loads(NOTE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_note(content: dict[str, str]) -> None:
    """Write down what is installed, whole or not at all."""
    aside = NOTE.with_suffix(".new")
    aside.write_text(json.dumps(content), "utf-8")
    aside.replace(NOTE)


def ensure_venv() -> None:
    """Make ``.venv`` unless it works."""
    if works():
        return
    say(f"Making .venv with Python {platform.python_version()}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(
        [sys.executable, "-c", "import ensurepip"], check=False, capture_output=True
    ).returncode:
        package = f"python3.{sys.version_info.minor}-venv"
        if not can_apt():
            raise Stop(f"This Python cannot make environments; run: sudo apt-get install {package}")
        apt_install(package)
    run(command)


def ensure_uv() -> None:
    """Have uv in ``.venv``, by the pip that a new environment has."""
    if (VENV / "bin" / "uv").exists():
        return
    say("Installing uv")
    if subprocess.run([PYTHON, "-m", "pip", "--version"], check=False, capture_output=True).returncode:
        run([PYTHON, "-m", "ensurepip"])
    lock = ROOT / "requirements" / "uv.lock"
    run([PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)])


def uv(*arguments: str) -> None:
    """Run ``uv pip`` on ``.venv``."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment |= {name: value for name, value in indexes().items() if name not in environment}
    words = [str(VENV / "bin" / "uv"), "pip", *arguments, "--python", str(PYTHON)]
    run(words, environment)


def indexes() -> dict[str, str]:
    """Return the package index that pip is told to use on this machine, as uv wants to hear it: uv reads no pip.conf.

    Everything is locked by hash, so it does not matter which of several indexes a file comes from.
    """
    asked = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    )
    settings: dict[str, str] = {}
    for line in asked.stdout.splitlines():  # as in: global.index-url='https://...'
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2].strip(":").lower()] = value.strip().strip("'\"").replace("\\n", " ")
    result = {}
    if url := settings.get("index-url"):
        result["UV_DEFAULT_INDEX"] = url
    if more := settings.get("extra-index-url"):
        result |= {"UV_INDEX": " ".join(more.split()), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    return result


def debian() -> None:
    """Have the Debian packages that tests take; where that is not possible, say what is missing."""
    install_debian()
    for pool in POOLS:
        unpack("pools", pool)
    for program in UNPACKED:
        unpack("programs", program)


def unpack(kind: str, name: str) -> None:
    """Have the packages of a scheduler or a program unpacked beside the system, for the tests that take them."""
    cache = os.environ.get(f"CUPOLA_TEST_{kind.upper()}") or ROOT / ".cache" / kind
    folder = Path(cache) / name
    if (folder / ".ok").exists() or not can_apt():
        return  # tests unpack it themselves, or are skipped and say why
    say(f"Unpacking the packages of {name}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        run(
            ["bash", str(ROOT / "tests" / kind / f"{name}.sh"), "build"],
            {
                **os.environ,
                "PREFIX": str(folder),
                "PYTHON": str(PYTHON) if PYTHON.exists() else sys.executable,
            },
        )
    except subprocess.CalledProcessError:
        print(f"The packages of {name} could not be unpacked, so the tests that take them are skipped.")


def install_debian() -> None:
    """Install the Debian packages that are missing."""
    if all(shutil.which(program, path=SEARCHED) for program in PROGRAMS):
        return
    words = " ".join(DEBIAN)
    if not can_apt():
        print(
            "Programs that tests take are missing, so those tests are skipped; to have them: "
            f"sudo apt-get install {words}"
        )
        return
    try:
        apt_install(*DEBIAN)
    except subprocess.CalledProcessError:
        print(f"apt-get could not install {words}, so the tests that take them are skipped.")


def can_apt() -> bool:
    """Return whether this account may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> None:
    """Install Debian packages."""
    say(f"Installing the Debian packages {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment)


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
    """Run a command; what it says goes to the terminal."""
    subprocess.run(command, check=True, cwd=ROOT, env=environment)


def say(text: str) -> None:
    """Tell what happens next, before the output of what is run."""
    print(f"── {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
