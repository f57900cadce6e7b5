"""The overlay: an environment of the user's own on top of the locked one.

It is a venv without pip whose ``.pth`` file adds the locked packages behind its own. What a user installs lies there, wins in
kernels, and cannot touch the Jupyter server, which runs in the locked environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import sysconfig
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Overlay"]

MARKER = ".whole"
PTH = "_cupola_locked.pth"
PIP = """#!/bin/sh
# What is installed with this lies in your own environment, on top of the locked one.
python="$(dirname "$0")/python"
"$python" -m pip "$@"
status=$?
case "$1" in
  install|uninstall) "$python" -m cupola.lab.packages record 2>/dev/null ;;
esac
exit $status
"""
COMMAND = """#!/bin/sh
# What you installed, and how full your home is: cupola --help
exec "$(dirname "$0")/python" -m cupola.lab "$@"
"""


class Overlay:
    """One overlay.

    Parameters
    ----------
    folder
        Where it lies: ``~/.cupola/environments/DIGEST12``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages lie."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def prepare(self) -> None:
        """Make it, or mend it; what the user installed is kept.

        Raises
        ------
        OSError
            It cannot be written.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if self._whole():
                return  # a full home must not stand in the way of packages that are there
            if not (self.folder / MARKER).exists() or not self.python.exists():
                # Of the interpreter behind the locked environment: a venv does not stand on a venv.
                venv.EnvBuilder(with_pip=False, symlinks=True).create(self.folder)
            _write(self.packages / PTH, self._pth())
            _write(self.folder / "bin" / "pip", PIP, mode=0o755)
            _write(self.folder / "bin" / "cupola", COMMAND, mode=0o755)
            self._write_kernel()
            _write(self.folder / MARKER, "")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second session of the same person from making it at the same time."""
        # On the folder: a file could not be made in a full home.
        handle = os.open(self.folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _whole(self) -> bool:
        """Tell whether nothing is missing and nothing is out of date."""
        bin_ = self.folder / "bin"
        wanted = {
            self.packages / PTH: self._pth(),
            bin_ / "pip": PIP,
            bin_ / "cupola": COMMAND,
            kernel_file(self.folder): kernel(self.python),
        }
        return (
            (self.folder / MARKER).exists()
            and self.python.exists()
            and all(_reads(file) == content for file, content in wanted.items())
        )

    def _pth(self) -> str:
        """Return the line that adds the locked packages, with what their own ``.pth`` files add."""
        locked = sysconfig.get_paths()["purelib"]
        return f"import site; site.addsitedir({locked!r})\n"

    def _write_kernel(self) -> None:
        write_kernel(self.folder, self.python)


def write_kernel(folder: Path, python: Path) -> None:
    """Write the kernel that runs user code with `python` below ``share/jupyter`` of `folder`."""
    file = kernel_file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, kernel(python))


def kernel_file(folder: Path) -> Path:
    """Return where the kernel of an environment lies."""
    return folder / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"


def kernel(python: Path) -> str:
    """Return the kernel that runs user code with `python`, as Jupyter reads it."""
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True},
    }
    return json.dumps(spec, indent=1)


def _reads(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file as a whole, if it is not so already."""
    if _reads(path) == content:
        return
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        aside.write_text(content, encoding="utf-8")
        aside.chmod(mode)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
