"""Sessions of tests that read from servers: nothing of this machine's keys, nothing of what other tests found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cupola.lab.collections import addresses, index, keys, objects, remote, servers
from cupola.lab.collections.formats import ranges

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["alone"]


def alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a test as a new session would begin."""
    monkeypatch.setenv("CUPOLA_RUNTIME", str(home / "runtime"))
    monkeypatch.setenv("HOME", str(home))
    for name in list(os.environ):
        if name.startswith(("AWS_", "GDAL_HTTP", "VSI_")):
            monkeypatch.delenv(name)
    # What `prepare` sets lasts as long as the process: here as long as the test.
    for name in (
        "AWS_S3_ENDPOINT",
        "AWS_HTTPS",
        "AWS_VIRTUAL_HOSTING",
        "AWS_NO_SIGN_REQUEST",
        *remote._SETTINGS,
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    remote._prepared.cache_clear()
    keys.set_here.clear()
    objects._regions.clear()
    ranges.forget()
    index.forget()
    addresses.forget()
    monkeypatch.setattr(servers, "_PAUSE_S", 0.0)
