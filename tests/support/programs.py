"""Programs that tests take and that no release has as we need them, unpacked beside the system.

They lie in ``.cache/programs`` of the checkout; ``CUPOLA_TEST_PROGRAMS`` names another folder.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cupola.hub.drivers.criu import Criu

__all__ = ["criu", "unpacked"]

CHECKOUT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("CUPOLA_TEST_PROGRAMS") or CHECKOUT / ".cache" / "programs")


LASTING = frozenset({"deno", "r"})
"""Can be had in the same form for years, so it is a fault of ours where they cannot; Debian's newest changes by the day."""


def unpacked(name: str) -> Path:
    """Return the folder of ``criu``, ``deno`` or ``r``; the test is skipped where it cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".ok").exists():
            done = subprocess.run(
                ["bash", str(CHECKOUT / "tests" / "programs" / f"{name}.sh"), "build"],
                env={**os.environ, "PREFIX": str(folder), "PYTHON": sys.executable},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                said = done.stderr[-300:]
                assert not (os.environ.get("CI") and name in LASTING), f"{name} cannot be unpacked: {said}"
                pytest.skip(f"{name} cannot be had here ({said})")
    return folder


def criu() -> Criu:
    """Return a CRIU that can freeze kernels on this machine; the test is skipped where there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root can freeze processes")
    found = Criu(str(unpacked("criu") / "bin.cupola" / "criu"))
    if why := found.usable():
        pytest.skip(f"nothing can be frozen on this machine: {why}")
    return found
