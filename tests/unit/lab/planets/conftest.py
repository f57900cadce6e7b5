"""Kernels for tests: the real text kernels of the samples, and orbits written by SPICE itself."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import spiceypy

START, END = "2010-11-09T00:00:00", "2010-11-10T00:00:00"
AU = 149_597_870.7


def states(times, radius, period, tilt, phase=0.0):
    """A circular orbit around the origin: km and km/s (n, 6)."""
    angle = 2 * np.pi * times / period + phase
    speed = 2 * np.pi / period * radius
    across = np.array([0.0, np.cos(tilt), np.sin(tilt)])
    along = np.array([1.0, 0.0, 0.0])
    place = np.outer(np.cos(angle), along) + np.outer(np.sin(angle), across)
    velocity = np.outer(-np.sin(angle), along) + np.outer(np.cos(angle), across)
    return np.hstack([place * radius, velocity * speed])


@pytest.fixture(scope="session")
def kernels_folder(shared_data, tmp_path_factory):
    """A volume of kernels: leap seconds, constants, and an SPK with the Sun and two spacecraft."""
    folder = tmp_path_factory.mktemp("kernels")
    for name in ("naif0012.tls", "pck00010.tpc"):
        shutil.copy(shared_data / "spice" / name, folder)
    spiceypy.kclear()
    spiceypy.furnsh(str(folder / "naif0012.tls"))
    first, last = spiceypy.str2et(START), spiceypy.str2et(END)
    spiceypy.kclear()
    times = np.linspace(first - 600, last + 600, 400)
    handle = spiceypy.spkopn(str(folder / "orbits.bsp"), "test orbits", 0)
    for name, body, centre, made in (
        ("Sun", 10, 0, states(times - first, 700_000.0, 12 * 365 * 86400, 0.0)),
        ("Moon", 301, 10, states(times - first, AU, 365.25 * 86400, 0.4)),
        ("LRO", -85, 301, states(times - first, 1787.0, 7080.0, 1.5, 0.3)),
        ("MRO", -74, 499, states(times - first, 3696.0, 6700.0, 1.2)),
        ("Mars", 499, 10, states(times - first, 1.5 * AU, 687 * 86400, 0.03, 1.0)),
    ):
        step = float(times[1] - times[0])
        spiceypy.spkw08(
            handle, body, centre, "J2000", times[0], times[-1], name, 7, len(times), made, times[0], step
        )
    spiceypy.spkcls(handle)
    return folder


@pytest.fixture(autouse=True)
def _runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_RUNTIME", str(tmp_path / "runtime"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
