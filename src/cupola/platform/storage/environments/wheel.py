"""Cupola itself as a wheel, made of the very files that run now: session and platform cannot differ."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import cupola

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["package_files", "source_digest", "write_wheel"]

PARTS = ("client", "lab", "models")
"""What a session needs. Hub and portal stay out: a change of theirs makes no new version."""
VERBS = ("__init__", "__main__", "crate", "logs", "options", "ps", "reproduce", "run", "stop")
"""Modules of the command line that a session has: those of jobs. The others are for whoever runs the platform."""
EPOCH = (2020, 1, 1, 0, 0, 0)
"""The time of every file in the wheel, so that the same sources give the same wheel."""


def package_files() -> dict[str, Path]:
    """Return the files that a session gets, by their name in the wheel."""
    package = Path(cupola.__file__).parent
    top = [file for file in package.iterdir() if file.suffix == ".py" or file.name == "py.typed"]
    below = [file for part in PARTS for file in _files(package / part)]
    verbs = [package / "cli" / f"{name}.py" for name in VERBS]
    return {str(file.relative_to(package.parent)): file for file in sorted(top + below + verbs)}


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file


def source_digest() -> str:
    """Return a SHA-256 over names and contents of the files that a session gets."""
    digest = hashlib.sha256()
    for name, file in package_files().items():
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def own_version() -> str:
    """Return Cupola's version; a checkout that is not installed says it in its ``pyproject.toml``."""
    try:
        return importlib.metadata.version("cupola")
    except importlib.metadata.PackageNotFoundError:
        project = Path(cupola.__file__).parents[2] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def write_wheel(folder: Path) -> Path:
    """Write the wheel into `folder` and return its path.

    It names no requirements: the lock file of the environment holds them all.
    """
    version = own_version()
    info = f"cupola-{version}.dist-info"
    texts = {
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: cupola\nVersion: {version}\n"
            "Summary: The part of Cupola that runs inside a session.\n"
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: cupola\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents = {name: file.read_bytes() for name, file in package_files().items()}
    contents.update({name: text.encode() for name, text in texts.items()})
    record = "".join(f"{name},{_record_hash(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    path = folder / f"cupola-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(name, EPOCH), content)
    return path


def _record_hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
