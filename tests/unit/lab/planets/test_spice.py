from __future__ import annotations

import datetime as dt
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spiceypy

from cupola.exceptions import InputError, NotFoundError
from cupola.lab.planets import Kernels

WHEN = "2010-11-09T13:06:40.356Z"


@pytest.fixture
def kernels(kernels_folder):
    return Kernels(kernels_folder)


def test_times_and_radii_are_those_of_the_kernels(kernels):
    assert kernels.radii("mars") == (3396190.0, 3396190.0, 3376200.0)
    same = dt.datetime(2010, 11, 9, 13, 6, 40, 356000, tzinfo=dt.UTC)
    assert kernels.seconds(WHEN) == kernels.seconds(same) == pytest.approx(342580066.54, abs=0.1)


@pytest.mark.parametrize(("target", "observer"), [("Moon", "LRO"), ("Mars", "MRO")])
def test_points_and_angles_are_those_of_spice(kernels, target, observer):
    longitude, latitude = np.array([[-60.0, 10.0], [75.0, 170.0]]), np.array([[5.0, -40.0], [88.0, 0.0]])
    found = kernels.angles(target, longitude, latitude, WHEN, observer)
    sun, below = kernels.subsolar(target, WHEN, observer), kernels.subobserver(target, WHEN, observer)
    spiceypy.kclear()
    for file in kernels.files:
        spiceypy.furnsh(str(file))
    et, frame = spiceypy.str2et(WHEN[:-1]), f"IAU_{target.upper()}"
    names = (target.upper(), et, frame, "LT+S", observer)
    for place, point in (
        (sun, spiceypy.subslr("INTERCEPT/ELLIPSOID", *names)[0]),
        (below, spiceypy.subpnt("INTERCEPT/ELLIPSOID", *names)[0]),
    ):
        _, lon, lat = spiceypy.reclat(point)
        assert (place.longitude, place.latitude) == pytest.approx(np.degrees((lon, lat)), abs=2e-3)
    assert below.distance == pytest.approx({"Moon": 1787e3, "Mars": 3696e3}[target], rel=1e-3)
    for row, column in np.ndindex(2, 2):
        point = spiceypy.srfrec(
            spiceypy.bodn2c(target.upper()),
            np.radians(longitude[row, column]),
            np.radians(latitude[row, column]),
        )
        _, _, phase, incidence, emission = spiceypy.ilumin("ELLIPSOID", *names, point)
        wanted = np.degrees((incidence, emission, phase))
        got = [found[name][row, column] for name in ("incidence", "emission", "phase")]
        assert got == pytest.approx(wanted, abs=5e-3)


def test_the_sun_stands_above_the_subsolar_point(kernels):
    sun = kernels.subsolar("Moon", WHEN)
    found = kernels.angles("Moon", sun.longitude, sun.latitude, WHEN)
    assert found["incidence"] == pytest.approx(0, abs=0.01)
    assert found["emission"] == 0
    assert kernels.angles("Moon", sun.longitude + 180, -sun.latitude, WHEN)["incidence"] > 179.9


def test_two_sets_of_kernels_and_many_threads(kernels, kernels_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(kernels_folder, other)
    text = (other / "pck00010.tpc").read_text(encoding="latin-1").replace("3376.20", "3300.00")
    (other / "pck00010.tpc").write_text(text, encoding="latin-1")
    sets = [kernels, Kernels(other)] * 20
    with ThreadPoolExecutor(4) as pool:
        radii = list(pool.map(lambda one: one.radii("Mars")[2], sets))
    assert radii == [3376200.0, 3300000.0] * 20
    spiceypy.kclear()  # as a notebook does that uses SPICE by itself
    assert sets[-1].radii("Mars")[2] == 3300000.0


META = r"""KPL/MK
\begindata
   PATH_VALUES  = ( '/somewhere/else', './' )
   PATH_SYMBOLS = ( 'A', 'B' )
   KERNELS_TO_LOAD = ( '$A/lsk/naif0012.tls',
                       '$B/pck0+'
                       '0010.tpc' )
   KERNELS_TO_LOAD += ( '$A/spk/orbits.bsp' )
\begintext
   KERNELS_TO_LOAD = ( 'not-a-kernel.bsp' )
"""


def test_meta_kernels_of_another_machine(kernels_folder, tmp_path):
    (tmp_path / "mk").mkdir()
    (tmp_path / "lsk").mkdir()
    (tmp_path / "mk" / "old.tm").write_text("KPL/MK\n")
    (tmp_path / "mk" / "one.tm").write_text(META)
    for name, folder in (("naif0012.tls", "lsk"), ("pck00010.tpc", "mk"), ("orbits.bsp", "mk")):
        shutil.copy(kernels_folder / name, tmp_path / folder)
    found = Kernels(tmp_path)
    assert [file.name for file in found.files] == ["naif0012.tls", "pck00010.tpc", "orbits.bsp"]
    assert found.subsolar("Moon", WHEN).distance == pytest.approx(1.496e11, rel=0.01)
    assert Kernels(tmp_path / "mk" / "one.tm").files == Kernels(tmp_path / "mk" / "one.tm").files
    (tmp_path / "mk" / "orbits.bsp").unlink()
    with pytest.raises(NotFoundError, match=r"one\.tm names kernels that are not below .*: orbits\.bsp\."):
        Kernels(tmp_path)


def without(folder, tmp_path, *names):
    rest = tmp_path / "rest"
    shutil.copytree(folder, rest, ignore=shutil.ignore_patterns(*names))
    return Kernels(rest)


def test_what_is_missing_is_named(kernels, tmp_path):
    with pytest.raises(NotFoundError, match="no SPICE kernels at"):
        Kernels(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="has no SPICE kernels"):
        Kernels(tmp_path)
    with pytest.raises(
        NotFoundError, match=r"LRO was over Moon at 2015.*SPK.*There is: .*from 2010-11-08 23:5"
    ):
        kernels.geometry("Moon", "2015-01-01T00:00:00", "LRO")
    with pytest.raises(NotFoundError, match="JUICE was over Moon"):
        kernels.geometry("Moon", WHEN, "JUICE")
    with pytest.raises(InputError, match="no body or frame"):
        kernels.geometry("Moon", WHEN, "Enterprise")
    with pytest.raises(NotFoundError, match="how large Ryugu is: add a PCK"):
        kernels.geometry("Ryugu", WHEN)
    with pytest.raises(InputError, match="does not understand the time"):
        kernels.seconds("yesterday")


@pytest.mark.parametrize(
    ("names", "words"),
    [(("*.tls",), "lack leap seconds"), (("*.tpc",), "how large Moon is"), (("*.bsp",), "There is none")],
)
def test_missing_kinds_of_kernels(kernels_folder, tmp_path, names, words):
    with pytest.raises(NotFoundError, match=words):
        without(kernels_folder, tmp_path, *names).geometry("Moon", WHEN, "LRO")
