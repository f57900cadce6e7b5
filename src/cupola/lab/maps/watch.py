"""Sees when the folders of a map's collections change, so that products appear as a job writes them."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cupola.lab.maps.layers import ChainLayer
    from cupola.lab.maps.map import Map

__all__ = ["Watcher"]

SECONDS = 1.0
CALM = 5.0
"""Looking again takes at most one part in so many of the time."""

logger = logging.getLogger(__name__)


class Watcher:
    """A thread per map that looks at the time of change of each layer's folder: one look costs microseconds.

    It is a thread, not a task of the kernel's event loop, as that stands still while a cell runs.
    """

    def __init__(self, shown: Map) -> None:
        self._map = weakref.ref(shown)
        self._folders: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, layers: Sequence[ChainLayer]) -> None:
        """Look at the folders of these layers from now on."""
        with self._lock:
            places = {Path(found.source) for layer in layers for found in layer.chain.collections}
            self._folders = {place: self._folders.get(place, _changed(place)) for place in places}
            if self._folders and self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="cupola-map", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def _run(self) -> None:
        pause = SECONDS
        while not self._stop.wait(pause):
            shown = self._map()
            if shown is None or shown.comm is None:
                return
            begun = time.monotonic()
            try:
                if self._any_changed():
                    shown.refresh()
            except Exception:
                # A folder that is being written or deleted: the next look may fare better.
                logger.warning("cupola: the map could not look again at its collections", exc_info=True)
            pause = max(SECONDS, CALM * (time.monotonic() - begun))
            # Do not keep a map alive that nobody else has any more.
            del shown

    def _any_changed(self) -> bool:
        """Tell whether a folder changed since the last look."""
        with self._lock:
            before = dict(self._folders)
        now = {place: _changed(place) for place in before}
        with self._lock:
            for place, changed in now.items():
                if place in self._folders:
                    self._folders[place] = changed
        return now != before


def _changed(place: Path) -> int:
    """Return when a folder (or file) was changed last; 0 where it is gone."""
    try:
        return place.stat().st_mtime_ns
    except OSError:
        return 0
