"""Recipes of images: a folder with a Dockerfile, and what it stands on."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cupola.exceptions import NotFoundError
from cupola.platform.storage.environments.wheel import source_digest, write_wheel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Recipe", "read_recipe"]

_NOT_IN_IT = {"datalab.yaml", "icon.svg", "verify", "README.md", "requirements.in"}
"""What an image does not hold: a change of it makes no new version."""
_ARGUMENT = re.compile(r"^\s*ARG\s+(?P<name>\w+)\s*(=\s*(?P<default>\S*))?\s*$", re.IGNORECASE)
_OURS = re.compile(r"^cupola/(?P<folder>[a-z0-9-]+)(:[\w.-]+)?$")
_FIRST_STAGE = re.compile(r"^\s*FROM\s", re.IGNORECASE)
_TAKES_CUPOLA = "source=cupola"


@dataclass(frozen=True)
class Recipe:
    """How the image of one folder is made."""

    name: str
    folder: Path
    files: tuple[tuple[str, Path], ...]
    """What goes into the build: the name there, and the file."""
    arguments: dict[str, str]
    """The arguments before the first stage, with their defaults."""
    takes_cupola: bool
    """Whether it installs Cupola itself."""

    def parents(self) -> dict[str, str]:
        """Return the folders that it stands on, by the argument that names each: ``ARG BASE=cupola/base``."""
        found = {argument: _OURS.match(default) for argument, default in self.arguments.items()}
        return {argument: match["folder"] for argument, match in found.items() if match}

    def digest(self, below: list[str]) -> str:
        """Return a SHA-256 over all it is made of; `below` are the digests of what it stands on."""
        result = hashlib.sha256()
        for text in below:
            result.update(f"on {text}\n".encode())
        if self.takes_cupola:
            result.update(f"cupola {source_digest()}\n".encode())
        for name, file in self.files:
            mode = "x" if _runs(file) else "-"
            result.update(f"{name}\0{mode}{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return f"sha256:{result.hexdigest()}"

    def write(self, folder: Path) -> None:
        """Write what the engine gets for the build into the empty `folder`."""
        for name, file in self.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            # Whatever the umask was at a checkout, the image's users can read it.
            target.chmod(0o755 if _runs(file) else 0o644)
        if self.takes_cupola:
            (folder / "cupola").mkdir()
            write_wheel(folder / "cupola").chmod(0o644)


def read_recipe(name: str, folder: Path) -> Recipe:
    """Return the recipe in `folder`.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file():
        raise NotFoundError(f"The datalab {name} has no recipe for an image: {dockerfile} is missing.")
    lines = dockerfile.read_text(encoding="utf-8").splitlines()
    first = next((number for number, line in enumerate(lines) if _FIRST_STAGE.match(line)), len(lines))
    arguments = {
        match["name"]: match["default"] or "" for line in lines[:first] if (match := _ARGUMENT.match(line))
    }
    files = sorted(
        (str(inside), file)
        for file in folder.rglob("*")
        if file.is_file()
        and (inside := file.relative_to(folder)).parts[0] not in _NOT_IN_IT
        and not any(part.startswith((".", "__pycache__")) for part in inside.parts)
    )
    return Recipe(
        name=name,
        folder=folder,
        files=tuple(files),
        arguments=arguments,
        takes_cupola=any(_TAKES_CUPOLA in line for line in lines),
    )


def _runs(file: Path) -> bool:
    return bool(file.stat().st_mode & 0o100)
