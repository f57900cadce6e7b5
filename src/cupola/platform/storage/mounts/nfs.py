"""Exports of other machines: the words for ``mount``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.volume import Export

__all__ = ["mount_command"]


def mount_command(export: Export, *, target: Path, write: bool) -> list[str]:
    """Return the command that mounts an export.

    With ``soft`` a server that is gone gives an error after about half a minute, where ``hard`` would hold every program
    for ever that looks at it. Nothing on it can raise rights here.
    """
    bounds = ["soft", "timeo=100", "retrans=2", "retry=0", "nosuid", "nodev"]
    # Of two words that contradict each other the last one counts: the operator's over ours, but for what may be written.
    words = ",".join([*bounds, *filter(None, [export.options]), "rw" if write else "ro"])
    return ["mount", "-t", "nfs", "-o", words, f"{export.server}:{export.path}", str(target)]
