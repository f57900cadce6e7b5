"""How a container is given a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.models.volume import Volume

__all__ = ["Bind", "bind_of"]


@dataclass(frozen=True)
class Bind:
    """A folder of the host and where the volume then is in the container, below ``/volumes/NAME``."""

    source: Path
    """What is bound at ``/volumes/NAME``."""
    below: str
    """Where in it the files are: nothing, or ``data``."""
    follow: bool
    """Whether what is mounted there later is to be seen too (``rslave``)."""


def bind_of(volume: Volume, mounts: Path, *, shared: bool) -> Bind:
    """Return how a container is given `volume`.

    What is mounted (a bucket, an export, with containers any folder of the archive too) may come late, go, and come back
    while the container runs. It is given the folder above, which is always there.

    Parameters
    ----------
    volume
        The volume.
    mounts
        The folder of all mounts, ``StatePaths.mounts``.
    shared
        Whether that folder passes mounts on: ``VolumeService.shared``. Where it does not (the platform is not root),
        the container sees what is mounted when it starts.
    """
    if volume.source.parent.parent != mounts or not shared:
        return Bind(volume.source, "", follow=False)
    return Bind(volume.source.parent, "data", follow=True)
