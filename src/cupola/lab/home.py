"""What a session finds in its home: links to its volumes, and the example notebooks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cupola.models.volume import Mount

__all__ = ["copy_examples", "link_volumes"]


def link_volumes(mounts: Iterable[Mount], folder: Path) -> list[str]:
    """Make a link for each volume, and remove links that lead nowhere; a real file or folder is never touched.

    Parameters
    ----------
    mounts
        The volumes.
    folder
        Where their links lie: ``~/volumes``.

    Returns
    -------
    :
        A sentence for each volume that could not be linked.
    """
    problems = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            # A link that works stays: another session of the same person may use it.
            if entry.is_symlink() and not entry.exists():
                entry.unlink()
    for mount in mounts:
        try:
            _link(mount.target, mount.source)
        except OSError as exc:
            problems.append(
                f"the volume {mount.volume} is not linked at {mount.target}: {exc.strerror or exc}"
            )
    return problems


def _link(target: Path, source: Path) -> None:
    if target == source:
        return  # the home is a volume too, and is where it is
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() and target.readlink() == source:
        return
    if os.path.lexists(target) and not target.is_symlink():
        raise FileExistsError(17, "there is a file or folder of yours; move it away and start again")
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(source)
    aside.replace(target)


def copy_examples(source: Path, target: Path, notes: Path) -> None:
    """Copy the example notebooks; what the user changed, or removed, stays as it is.

    Parameters
    ----------
    source
        The notebooks of this version.
    target
        Where they go: ``~/examples``.
    notes
        The file that says what was copied earlier, so that a file of the user's is known from one of ours.

    Raises
    ------
    OSError
        They cannot be written.
    """
    if not source.is_dir():
        return
    ours = _read(notes)
    before = dict(ours)
    for file in sorted(item for item in source.rglob("*") if item.is_file()):
        name = str(file.relative_to(source))
        place, wanted = target / name, _hash(file)
        there = _hash(place) if place.is_file() else None
        unknown = there is None and name not in ours
        unchanged = there is not None and there == ours.get(name)
        if (unknown and not os.path.lexists(place)) or (unchanged and there != wanted):
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f".{place.name}.{os.getpid()}")
            try:
                shutil.copyfile(file, aside)
                aside.replace(place)
            finally:
                aside.unlink(missing_ok=True)
            ours[name] = wanted
        elif there == wanted:
            ours[name] = wanted
    if ours != before:
        notes.parent.mkdir(parents=True, exist_ok=True)
        aside = notes.with_name(f".{notes.name}.{os.getpid()}")
        aside.write_text(json.dumps(ours, indent=1), encoding="utf-8")
        aside.replace(notes)


def _read(notes: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
